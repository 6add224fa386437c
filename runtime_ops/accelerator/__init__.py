"""Models of accelerators: what GOBO's chip computes, and what it and others take for it."""

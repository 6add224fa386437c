"""A model of accelerators: what they compute, in how many cycles, with how much energy."""

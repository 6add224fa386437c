"""What exists at run time: the numbers, the custom ops, and sessions that run them natively."""

from sardonyx.runtime_ops.native_library import Native, Session, register, session

__all__ = ["Native", "Session", "register", "session"]

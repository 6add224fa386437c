"""One pool of threads for all sessions of a process.

Sessions with pools of their own keep the idle threads of all others spinning, and distort what is
measured side by side.
"""

from __future__ import annotations

import onnxruntime as ort


def share_pool(threads: int) -> None:
    """Make the pool: once in a process, before its first session. The calling thread is one."""
    ort.set_global_thread_pool_sizes(threads, 1)


def pooled() -> ort.SessionOptions:
    """Options of a session that uses the pool."""
    options = ort.SessionOptions()
    options.use_per_session_threads = False
    options.log_severity_level = 3
    return options

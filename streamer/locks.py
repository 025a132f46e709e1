"""A lock on a file that ends with its process, however that ends. Nothing where the system has none (Windows)."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import fcntl


def lock(handle: int, *, wait: bool) -> None:
    """Lock the open file until it is closed.

    Args:
        handle: its file descriptor.
        wait: for another process that holds the lock; else that is an error.

    Raises:
        BlockingIOError: it is held, and `wait` is False.
        OSError: the file system has no locks.
    """
    if sys.platform != "win32":
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)

"""A lock on a file that ends with its process, however that ends. Nothing where the system has none (Windows)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from streamer.errors import ConfigError

if sys.platform != "win32":
    import fcntl


@contextlib.contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """The file descriptor of a file to lock, made if need be, for its owner alone; nothing of it is changed.

    Raises:
        ConfigError: there is something else in its place, a link for instance: whoever may write to the folder could
            have put it there to have another file written to.
        OSError: it cannot be opened.
    """
    odd = ConfigError(f"{path} is not an ordinary file (a link, a pipe, a folder); see who made it, then remove it")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags, 0o600)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV) and os.path.lexists(path):
            raise odd from exc
        raise
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
            raise odd
        yield handle
    finally:
        os.close(handle)


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

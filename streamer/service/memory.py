"""Gives back to the system what the C library keeps of freed memory.

glibc returns only the end of its heap by itself. What viewers leave behind when they go lies in the middle of it: some
15 MB of a service of 210 MB, however long it runs. https://man7.org/linux/man-pages/man3/malloc_trim.3.html
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
from collections.abc import Callable

TRIM_SECONDS = 20.0
"""Between two times. One takes 2 to 20 ms on a thread of its own, in which others may wait for memory."""


async def trim_now_and_then() -> None:
    """Trim until cancelled. Ends at once where the C library cannot."""
    trim = trimmer()
    while trim is not None:
        await asyncio.sleep(TRIM_SECONDS)
        await asyncio.to_thread(trim, 0)


@functools.cache
def trimmer() -> Callable[[int], int] | None:
    """glibc's `malloc_trim(bytes to keep at the end)`, 1 where memory was given back; None with another C library."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return None
    return trim

"""Bounded hand-over between threads and tasks. Newest wins; what is overwritten is counted."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Generic, TypeVar

T = TypeVar("T")
_Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Closed(Exception):
    """The channel was closed; no item will come any more."""


class LatestSlot(Generic[T]):
    """One slot. `put` never waits and overwrites an item nobody took (counted in `dropped`).

    Thread-safe on both sides. Bound: 1. Policy: newest wins. `get` blocks a thread, `aget` suspends a task; an item
    goes to exactly one taker. Closing wakes every taker with `Closed`.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._full = False
        self._closed = False
        self._waiter: _Waiter | None = None
        self.dropped = 0
        """Items overwritten before anybody took them."""

    def put(self, item: T) -> None:
        """Store `item`, replacing one that nobody took. Ignored after `close`."""
        with self._condition:
            if self._closed:
                return
            if self._full:
                self.dropped += 1
            self._item, self._full = item, True
            waiter = self._wake()
        _tell(waiter)

    def get(self, timeout: float | None = None) -> T:
        """Take the newest item, waiting in this thread. Raises `Closed`, or `TimeoutError` after `timeout` seconds."""
        with self._condition:
            if not self._condition.wait_for(lambda: self._full or self._closed, timeout):
                raise TimeoutError
            return self._take()

    async def aget(self, patience: float = 0.0) -> T:
        """Take the newest item, waiting in this task (one task at a time). Raises `Closed`.

        `patience`: seconds for which an item that is there already is left, so that a newer one may take its place.
        """
        loop = asyncio.get_running_loop()
        while True:
            with self._condition:
                if self._closed or (self._full and patience <= 0):
                    return self._take()
                event = asyncio.Event()
                self._waiter = (loop, event)
                limit = patience if self._full else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    await event.wait()
            patience = 0.0

    def close(self) -> None:
        """Wake every taker with `Closed` and forget the item. Twice is fine."""
        with self._condition:
            self._closed = True
            self._item, self._full = None, False
            waiter = self._wake()
        _tell(waiter)

    def _take(self) -> T:
        if self._closed:
            raise Closed
        item, self._item, self._full = self._item, None, False
        return item  # type: ignore[return-value]

    def _wake(self) -> _Waiter | None:
        """Wake a thread; the task that waits is for `_tell`."""
        self._condition.notify()
        waiter, self._waiter = self._waiter, None
        return waiter


def _tell(waiter: _Waiter | None) -> None:
    """Wake a task. Not under the slot's lock: the event loop runs at once, and would stand still before it."""
    if waiter is not None and not waiter[0].is_closed():
        waiter[0].call_soon_threadsafe(waiter[1].set)


class Mailbox(Generic[T]):
    """A bounded queue for one task of the event loop. Bound: `size`. Policy: the oldest item makes room (counted).

    Not thread-safe: `put` from other threads goes through `loop.call_soon_threadsafe`.
    """

    def __init__(self, size: int) -> None:
        self._queue: asyncio.Queue[T | None] = asyncio.Queue()
        self._size = size
        self._closed = False
        self.dropped = 0

    def put(self, item: T) -> None:
        """Append `item`; drop the oldest when full. Ignored after `close`."""
        if self._closed:
            return
        while self._queue.qsize() >= self._size:
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(item)

    async def get(self) -> T:
        """The oldest item. Raises `Closed` once closed and empty."""
        if self._closed and self._queue.empty():
            raise Closed
        item = await self._queue.get()
        if item is None:
            raise Closed
        return item

    def close(self) -> None:
        """No more items; `get` drains what is there, then raises `Closed`. Twice is fine."""
        if not self._closed:
            self._closed = True
            self._queue.put_nowait(None)

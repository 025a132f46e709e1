"""Stages on threads of their own, with bounded queues between them: decoding, vision and encoding at the same time.

Each stage's work is in C code that lets other threads run, so threads are enough. Bound: `size` items wait. Policy: the
stage before waits; nothing is ever dropped.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.2


class Ahead(Generic[T]):
    """An iterator that is run ahead on a thread of its own. Errors come out where the items would have.

    The thread ends with the iterator, or with `close`, and closes the iterator itself.
    """

    def __init__(self, items: Iterator[T], size: int, name: str) -> None:
        self._items = items
        self._queue: queue.Queue[tuple[bool, T | BaseException | None]] = queue.Queue(size)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        while True:
            more, item = self._queue.get()
            if more:
                yield item  # type: ignore[misc]  # what `more` says
            elif isinstance(item, BaseException):
                raise item
            else:
                return

    def close(self) -> None:
        """End the thread and wait for it. Twice is fine."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for item in self._items:
                if not self._put((True, item)):
                    break
        except Exception as exc:
            # It is not handled here but carried to who iterates.
            end = exc
        finally:
            close = getattr(self._items, "close", None)
            if close is not None:
                close()
            self._put((False, end))

    def _put(self, entry: tuple[bool, T | BaseException | None]) -> bool:
        while not self._closing.is_set():
            try:
                self._queue.put(entry, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False


class Behind(Generic[T]):
    """Does something with every item on a thread of its own. Its error comes out of the next `put` or of `join`."""

    def __init__(self, work: Callable[[T], None], size: int, name: str) -> None:
        self._work = work
        self._queue: queue.Queue[tuple[bool, T | None]] = queue.Queue(size)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Queue one item; waits while the queue is full. Raises what the work raised."""
        self._raise()
        self._queue.put((True, item))

    def join(self) -> None:
        """Wait until every item is done, and end the thread. Raises what the work raised; twice is fine."""
        self.abandon()
        self._raise()

    def abandon(self) -> None:
        """As `join`, and keep its error to itself: another one is on its way already."""
        if self._thread.is_alive():
            self._queue.put((False, None))
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            more, item = self._queue.get()
            if not more:
                return
            if self._error is not None:
                continue  # the queue is emptied, so that nobody waits for ever
            try:
                self._work(item)  # type: ignore[arg-type]  # what `more` says
            except Exception as exc:
                self._error = exc

"""A worker process with its two threads: one writes to its pipe, one reads from it. The event loop does neither."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.vision import messages as msg
from streamer.vision import worker

if TYPE_CHECKING:
    from streamer.service.settings import VisionSettings

log = logging.getLogger(__name__)

OUTBOX = 256
"""Messages that may wait to be written. A stream has at most one frame out, so only a dead pipe fills it."""
EXIT_SECONDS = 2.0
"""Time a worker has to end by itself before it is killed."""


@contextlib.contextmanager
def _deaf_from_birth() -> Iterator[None]:
    """What is started meanwhile begins with the group's signals blocked, until it has its own way with them."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # its start would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, worker.GROUP_SIGNALS)  # of this thread alone
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class WorkerProcess:
    """Owner of one worker process, its pipe and two threads. `start` and `close` block: call them off the loop.

    `on_message(self, message)` and the end (`ended`) arrive in the event loop.
    """

    def __init__(
        self,
        vision: VisionSettings,
        data_folder: Path,
        loop: asyncio.AbstractEventLoop,
        on_message: Callable[[WorkerProcess, object], None],
    ) -> None:
        self._vision = vision
        self._data_folder = data_folder
        self._loop = loop
        self._on_message = on_message
        self._outbox: queue.Queue[object | None] = queue.Queue(OUTBOX)
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._threads: list[threading.Thread] = []
        self.ended = asyncio.Event()
        """Set in the loop when the pipe is at its end: the process is gone or going."""
        self.failure: str | None = None
        """Why models could not be loaded, as the worker said."""
        self.is_wanted = True
        """False once the service itself ends the process."""

    def start(self) -> None:
        """Spawn the process and its threads."""
        # spawn: a fork of a process with threads and an event loop inherits locks that nobody will ever release
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        level = logging.getLogger().getEffectiveLevel()
        process = context.Process(
            target=worker.main,
            args=(far_end, self._vision, self._data_folder, level),
            name="vision-worker",
            daemon=True,
        )
        with _deaf_from_birth():
            process.start()
        self._process = process
        far_end.close()
        for target, name in ((self._write, "vision-write"), (self._read, "vision-read")):
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    @property
    def alive(self) -> bool:
        """Started, and its pipe not at its end."""
        return self._process is not None and not self.ended.is_set()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def exit_text(self) -> str:
        """How the process ended, in words: "signal SIGKILL", "exit code 1"."""
        code = None if self._process is None else self._process.exitcode
        if code is None:
            return "no exit code yet"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def send(self, message: object) -> bool:
        """Queue a message; False where the outbox is full (the worker does not read)."""
        try:
            self._outbox.put_nowait(message)
        except queue.Full:
            return False
        return True

    def kill(self) -> None:
        """End the process at once; the threads see the pipe's end."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    def close(self) -> None:
        """Ask it to end, kill it if it does not, join everything. Blocks up to a few seconds; twice is fine."""
        if self._process is None:
            return
        self.send(msg.Shutdown())
        self._process.join(EXIT_SECONDS)
        self.kill()
        self._process.join(EXIT_SECONDS)
        while not self.send(None):
            self._outbox.get_nowait()
        for thread in self._threads:
            thread.join(EXIT_SECONDS)
        if self._connection is not None:
            self._connection.close()
        self._process.close()
        self._process = None

    def _write(self) -> None:
        assert self._connection is not None
        while (message := self._outbox.get()) is not None:
            try:
                self._connection.send(message)
            except (BrokenPipeError, ConnectionResetError, OSError):
                return

    def _read(self) -> None:
        assert self._connection is not None
        try:
            while True:
                self._post(self._on_message, self, self._connection.recv())
        except (EOFError, ConnectionResetError, OSError):
            pass
        if self._process is not None:
            self._process.join(EXIT_SECONDS)  # so that its exit code is known when `ended` is seen
        self._post(self.ended.set)

    def _post(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            log.debug("the event loop closed before the vision worker did")

"""A worker process and the pipe to it, which the event loop itself writes to and reads from, without waiting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import pickle
import signal
import socket
import struct
import sys
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

OUTBOX_BYTES = 64 << 20
"""What may wait to be written, on top of the largest message. A stream has one frame out at most, so only a worker that
reads nothing fills it."""
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
    """Owner of one worker process and its pipe. Event loop only.

    `on_message(self, message)` is called in the event loop, `ended` is set there.
    """

    def __init__(
        self,
        vision: VisionSettings,
        data_folder: Path,
        on_message: Callable[[WorkerProcess, object], None],
    ) -> None:
        self._vision = vision
        self._data_folder = data_folder
        self._on_message = on_message
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: _Pipe | None = None
        self._spawning: asyncio.Future[None] | None = None
        self._joining: asyncio.Future[None] | None = None
        self.ended = asyncio.Event()
        """The pipe is at its end: the process is gone or going."""
        self.failure: str | None = None
        """Why models could not be loaded, as the worker said."""
        self.is_wanted = True
        """False once the service itself ends the process."""

    async def start(self) -> None:
        """Spawn the process. Raises `OSError`: there are no more processes, files or memory to be had."""
        near, far = socket.socketpair()
        far_end = Connection(far.detach())
        pipe = self._pipe = _Pipe(lambda message: self._on_message(self, message), self._pipe_ended)
        await asyncio.get_running_loop().create_unix_connection(lambda: pipe, sock=near)
        self._spawning = asyncio.ensure_future(asyncio.to_thread(self._spawn, far_end))
        await asyncio.shield(self._spawning)

    def _spawn(self, far_end: Connection) -> None:
        # spawn: a fork of a process with threads and an event loop inherits locks that nobody will ever release
        process = multiprocessing.get_context("spawn").Process(
            target=worker.main,
            args=(far_end, self._vision, self._data_folder, logging.getLogger().getEffectiveLevel()),
            name="vision-worker",
            daemon=True,
        )
        try:
            with _deaf_from_birth():
                process.start()
        finally:
            far_end.close()
        self._process = process

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
        """Write a message, now or when the pipe takes it; False where too much waits: the worker does not read."""
        return self._pipe is None or self._pipe.send(message)

    def kill(self) -> None:
        """End the process at once; the pipe ends with it."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    async def aclose(self) -> None:
        """Ask it to end, kill it if it does not, wait for its end. Takes a few seconds at most; twice is fine."""
        if self._spawning is None or self._pipe is None:
            return
        with contextlib.suppress(OSError):
            await self._spawning
        self.send(msg.Shutdown())
        for last_resort in (self.kill, self._pipe.abort):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EXIT_SECONDS):
                    await self.ended.wait()
            last_resort()
        await self.ended.wait()
        process, self._process = self._process, None
        if process is None:
            return
        # Its pipe may have ended long before it: then it was killed only now.
        await asyncio.to_thread(process.join, EXIT_SECONDS)
        try:
            process.close()
        except ValueError:
            log.error("the vision worker (pid %d) does not end, although it was killed", process.pid)

    def _pipe_ended(self) -> None:
        # Its exit code is to be known when `ended` is seen.
        process, loop = self._process, asyncio.get_running_loop()
        if process is None:
            self.ended.set()
        else:
            self._joining = loop.run_in_executor(None, process.join, EXIT_SECONDS)
            self._joining.add_done_callback(lambda _: self.ended.set())


class _Pipe(asyncio.BufferedProtocol):
    """Pickled messages in the frames of `multiprocessing.connection`, which the worker's end speaks: 4 bytes of length,
    then the message. Buffered: asyncio would allocate 256 KB for each read."""

    _LENGTH = struct.Struct("!i")

    def __init__(self, on_message: Callable[[object], None], on_end: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._chunk = bytearray(1 << 16)
        self._received = bytearray()
        self._largest = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        self._received += memoryview(self._chunk)[:nbytes]
        head = self._LENGTH.size
        while len(self._received) >= head:
            end = head + self._LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message = pickle.loads(memoryview(self._received)[head:end])
            del self._received[:end]
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_end()

    def send(self, message: object) -> bool:
        """See `WorkerProcess.send`. A pipe that has ended takes everything."""
        if self._transport is None:
            return True
        if self._transport.get_write_buffer_size() > OUTBOX_BYTES + self._largest:
            return False
        data = pickle.dumps(message)
        self._largest = max(self._largest, len(data))  # a gallery of 30,000 photos takes some time to be read
        self._transport.write(self._LENGTH.pack(len(data)) + data)
        return True

    def abort(self) -> None:
        """End at once; `connection_lost` follows."""
        if self._transport is not None:
            self._transport.abort()

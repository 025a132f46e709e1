"""One stream's way to the vision worker, across restarts of it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from streamer.errors import VisionError, VisionUnavailable
from streamer.frames import Frame
from streamer.tracks import FrameResult, Target
from streamer.vision import messages as msg
from streamer.vision.shared import SharedFrame

if TYPE_CHECKING:
    from streamer.vision.supervisor import Supervisor


class Session:
    """One stream's way to the worker. At most one frame is with the worker; the worker may change underneath."""

    def __init__(self, supervisor: Supervisor, stream_id: str, target: Target) -> None:
        self.stream_id = stream_id
        self._supervisor = supervisor
        self._target = target
        self._memory: SharedFrame | None = None
        self._pending: asyncio.Future[FrameResult] | None = None
        self._pending_since = 0.0
        self._next_track_id = 1
        self._is_open_in_worker = False

    @property
    def busy_since(self) -> float | None:
        """`time.monotonic()` since when the worker has had this session's frame; None: it has none."""
        return self._pending_since if self._pending is not None else None

    def step(self, frame: Frame) -> asyncio.Future[FrameResult]:
        """Give a frame to the worker.

        The future ends with the frame's result, or with `VisionUnavailable` when the worker ends first.

        Raises:
            VisionUnavailable: there is no ready worker, or it still has this session's frame before.
        """
        self._supervisor.require_ready()
        if self._pending is not None:
            raise VisionUnavailable("vision still has the frame before; wait for its result")
        self._write(frame)
        future: asyncio.Future[FrameResult] = asyncio.get_running_loop().create_future()
        self._pending, self._pending_since = future, time.monotonic()
        self._supervisor.send(
            msg.Step(self.stream_id, frame.width, frame.height, frame.index, frame.pts_seconds, frame.captured_at)
        )
        return future

    def set_target(self, target: Target) -> None:
        """Follow `target` from the next frame on."""
        self._target = target
        if self._is_open_in_worker:
            self._supervisor.send(msg.ChangeTarget(self.stream_id, target))

    def close(self) -> None:
        """Free the worker's part and the shared memory. Twice is fine."""
        self._supervisor.forget(self)
        if self._is_open_in_worker:
            self._supervisor.send(msg.CloseStream(self.stream_id))
        self.worker_gone()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    def finished(self, answer: msg.Stepped) -> None:
        """The worker answered (called by the supervisor)."""
        future, self._pending = self._pending, None
        if future is None or future.done() or self._memory is None:
            return
        if answer.result is None:
            future.set_exception(VisionError(answer.error or "vision gave no result"))
            return
        result = answer.result
        self._next_track_id = max([self._next_track_id, *(track.id + 1 for track in result.tracks)])
        if answer.has_labels:
            labels = self._memory.read_labels(result.width, result.height)
            result = replace(result, label_map=labels)
        future.set_result(result)

    def worker_gone(self) -> None:
        """The worker ended or was replaced (called by the supervisor): whoever waits is told."""
        self._is_open_in_worker = False
        future, self._pending = self._pending, None
        if future is not None and not future.done():
            future.set_exception(VisionUnavailable("the vision worker ended; it is being restarted"))
            future.exception()  # a waiter that gave up already must not cause a warning

    def _write(self, frame: Frame) -> None:
        if self._memory is None or not self._memory.fits(frame.width, frame.height):
            old, self._memory = self._memory, SharedFrame.create(frame.width, frame.height)
            if old is not None:
                old.close()  # the worker keeps its mapping until it reads `ChangeMemory`
            if self._is_open_in_worker:
                self._supervisor.send(msg.ChangeMemory(self.stream_id, self._memory.name, self._memory.capacity))
        if not self._is_open_in_worker:
            memory = self._memory
            self._supervisor.send(
                msg.OpenStream(self.stream_id, memory.name, memory.capacity, self._target, self._next_track_id)
            )
            self._is_open_in_worker = True
        self._memory.write_frame(frame.i420)

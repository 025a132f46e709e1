"""The vision process: owns every model, answers the messages of one service, ends with it.

Its only thread reads a message, acts, answers. It imports the models' libraries; the service, which imports this file
to start the process, does not.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import StreamerError, TrackUnknown, VisionUnavailable
from streamer.frames import Frame
from streamer.vision import messages as msg
from streamer.vision.known import Known, PhotoReading
from streamer.vision.photo_reading import read_encoded
from streamer.vision.shared import SharedBytes, SharedFrame
from streamer.vision.story import TrackStory

if TYPE_CHECKING:
    from streamer.service.settings import VisionSettings
    from streamer.vision.engines.base import Picture
    from streamer.vision.loading import Models
    from streamer.vision.processor import FrameProcessor

log = logging.getLogger(__name__)

GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""What a terminal or a service manager sends to the service and to this process alike."""
GRACE_SECONDS = 20
"""From SIGTERM to the end of a worker that nobody else ends. A service takes less to stop."""
MAX_TOGETHER = 4
"""Pictures in one batch: further ones would wait longer than they gain."""


def main(connection: Connection, vision: VisionSettings, data_folder: Path, log_level: int) -> None:
    """Body of the process. Returns when told to, when the service is gone, or when models cannot be loaded."""
    heed_the_service_alone()
    logging.basicConfig(level=log_level, format="%(asctime)s %(levelname)s vision: %(message)s")
    started = time.monotonic()
    try:
        from streamer.vision.loading import build_models

        models = build_models(vision, data_folder, lambda line: connection.send(msg.Loading(line)))
    except StreamerError as exc:
        connection.send(msg.Failed(str(exc)))
        return
    reader = models.faces
    connection.send(
        msg.Ready(
            vision.engine,
            None if reader is None else reader.model_id,
            () if reader is None else reader.providers,
            time.monotonic() - started,
        )
    )
    # What loading made stays for ever: the collector need not look at it again (a full pass costs 60 ms).
    gc.collect()
    gc.freeze()
    worker = Worker(connection, models)
    try:
        worker.run()
    finally:
        worker.close()


def heed_the_service_alone() -> None:
    """Be deaf to what goes to the whole group when the service is stopped: the service says when this process ends.

    SIGTERM is obeyed after all where the service has not said so within `GRACE_SECONDS`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, _obey)
        signal.signal(signal.SIGTERM, lambda _number, _frame: signal.alarm(GRACE_SECONDS))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, GROUP_SIGNALS)  # blocked by who started it, up to here


def _obey(_number: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


class _Stream:
    """A stream as the worker sees it: its processor and the memory it shares."""

    def __init__(self, processor: FrameProcessor, memory: SharedFrame) -> None:
        self.processor = processor
        self.memory = memory

    def close(self) -> None:
        self.processor.close()
        self.memory.close()


class Worker:
    """Acts on messages, in the order in which they come. One message at a time, so streams take turns; frames that wait
    together are encoded together where the engine gains by it."""

    def __init__(self, connection: Connection, models: Models) -> None:
        self._connection = connection
        self._models = models
        self._known: Known | None = None
        self._streams: dict[str, _Stream] = {}
        self._next: object | None = None

    def run(self) -> None:
        """Until `Shutdown` or the end of the service."""
        actions: dict[type, Callable[..., None]] = {
            msg.Step: self._step_together,
            msg.OpenStream: self._open,
            msg.CloseStream: self._close_stream,
            msg.ChangeMemory: self._change_memory,
            msg.ChangeTarget: self._change_target,
            msg.ChangeKnown: self._change_known,
            msg.ReadPhoto: self._read_photo,
            msg.CheckPhrase: self._check_phrase,
            msg.TellStory: self._tell_story,
        }
        while True:
            try:
                message, self._next = self._next or self._connection.recv(), None
                if isinstance(message, msg.Shutdown):
                    return
                actions[type(message)](message)
            except (EOFError, BrokenPipeError, ConnectionResetError):
                log.info("the service (pid %d) is gone; ending", os.getppid())
                return

    def close(self) -> None:
        """Free every stream."""
        for stream in self._streams.values():
            stream.close()
        self._streams.clear()
        self._connection.close()

    def _open(self, message: msg.OpenStream) -> None:
        with contextlib.suppress(FileNotFoundError):  # the stream was closed again before this message was read
            memory = SharedFrame.attach(message.memory, message.capacity)
            processor = self._models.processor(first_track_id=message.first_track_id)
            processor.set_target(message.target)
            if self._known is not None:
                processor.set_known(self._known)
            self._streams[message.stream_id] = _Stream(processor, memory)

    def _close_stream(self, message: msg.CloseStream) -> None:
        stream = self._streams.pop(message.stream_id, None)
        if stream is not None:
            stream.close()

    def _change_memory(self, message: msg.ChangeMemory) -> None:
        stream = self._streams.get(message.stream_id)
        if stream is None:
            return
        with contextlib.suppress(FileNotFoundError):
            memory = SharedFrame.attach(message.memory, message.capacity)
            stream.memory.close()
            stream.memory = memory

    def _change_target(self, message: msg.ChangeTarget) -> None:
        stream = self._streams.get(message.stream_id)
        if stream is not None:
            stream.processor.set_target(message.target)

    def _change_known(self, message: msg.ChangeKnown) -> None:
        self._known = message.known
        for stream in self._streams.values():
            stream.processor.set_known(message.known)

    def _step_together(self, first: msg.Step) -> None:
        """Answer a frame, and with it those of other streams that wait already."""
        steps = [first]
        while self._models.encodes_together and len(steps) < MAX_TOGETHER and self._connection.poll():
            message = self._connection.recv()
            if not isinstance(message, msg.Step) or message.stream_id in {step.stream_id for step in steps}:
                self._next = message
                break
            steps.append(message)
        begun = [(step, *self._begin(step, self._streams[step.stream_id])) for step in steps if self._has(step)]
        processors = [self._streams[step.stream_id].processor for step, _, _ in begun]
        try:
            self._models.encode(processors, [picture for _, _, picture in begun])
        except StreamerError as exc:
            for step, _, _ in begun:
                self._answer_step(step, error=str(exc))
            return
        for step, frame, picture in begun:
            self._finish(step, self._streams[step.stream_id], frame, picture)

    def _has(self, step: msg.Step) -> bool:
        if step.stream_id in self._streams:
            return True
        self._answer_step(step, error="no such stream in the worker")
        return False

    def _begin(self, step: msg.Step, stream: _Stream) -> tuple[Frame, Picture]:
        frame = Frame(
            i420=stream.memory.frame(step.width, step.height),
            index=step.frame_index,
            pts_seconds=step.pts_seconds,
            captured_at=step.captured_at,
        )
        return frame, stream.processor.begin(frame)

    def _finish(self, step: msg.Step, stream: _Stream, frame: Frame, picture: Picture) -> None:
        try:
            result = stream.processor.finish(frame, picture)
        except StreamerError as exc:
            self._answer_step(step, error=str(exc))
            return
        has_labels = result.label_map is not None
        if result.label_map is not None:
            stream.memory.write_labels(result.label_map)
        # The label map went through shared memory; pickling it would cost more than finding it.
        small = replace(result, label_map=None)
        self._connection.send(msg.Stepped(step.stream_id, small, has_labels, None))

    def _answer_step(self, message: msg.Step, error: str) -> None:
        self._connection.send(msg.Stepped(message.stream_id, None, False, error))

    def _read_photo(self, message: msg.ReadPhoto) -> None:
        block = SharedBytes.attach(message.block)
        try:
            encoded = block.read(message.size)
        finally:
            block.close()
        self._answer(message.request_id, lambda: self._reading(encoded))

    def _reading(self, encoded: bytes) -> PhotoReading:
        if self._models.faces is None:
            raise VisionUnavailable("this engine knows no faces; set vision.engine to lite to enrol people")
        return read_encoded(self._models.faces, encoded)

    def _check_phrase(self, message: msg.CheckPhrase) -> None:
        self._answer(message.request_id, lambda: self._models.check_phrase(message.phrase))

    def _tell_story(self, message: msg.TellStory) -> None:
        self._answer(message.request_id, lambda: self._story(message.stream_id, message.track_id))

    def _story(self, stream_id: str, track_id: int) -> TrackStory:
        stream = self._streams.get(stream_id)
        story = None if stream is None else stream.processor.story(track_id)
        if story is None:
            raise TrackUnknown(
                f"stream {stream_id} has no track {track_id}, or it is gone for long; take the id of a track that is "
                "shown now"
            )
        return story

    def _answer(self, request_id: int, ask: Callable[[], object]) -> None:
        try:
            self._connection.send(msg.Answer(request_id, ask()))
        except StreamerError as exc:
            self._connection.send(msg.Answer(request_id, error=exc))

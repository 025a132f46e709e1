"""Records the encoder's packets: hybrid-fragmented MP4 and a sidecar, on a thread of its own."""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer

from streamer.egress.encoder import PTS_RATE, EncodedFrame
from streamer.egress.recordings import RUNNING, base_name, final_path, keep_private, settle, unused_name
from streamer.egress.sidecar import Sidecar
from streamer.errors import RecordingError

log = logging.getLogger(__name__)

QUEUE_FRAMES = 120
"""Frames that may wait for the disk: four seconds."""
CLOSE_SECONDS = 5.0
_TIME_BASE = Fraction(1, PTS_RATE)
_LOOK_SECONDS = 1.0
"""Between two looks whether the file is still in its folder: writing to a removed file raises nothing."""


class Recorder:
    """A sink of the encoder. `put` in the event loop, everything else of the work on the recorder's own thread.

    Bound: 120 frames waiting. Policy: on overflow the queue is cleared and recording goes on at the next keyframe,
    which is asked for; `state()["dropped"]` counts what is not in the file. A failing disk ends the recording with its
    reason and nothing else. A change of the picture's size begins a new part.

    Args:
        folder: made if need be.
        keyframe: asks the encoder for a keyframe.

    Raises:
        RecordingError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, stream_id: str, member: str | None, *, keyframe: Callable[[], None]) -> None:
        self._started_at = datetime.datetime.now(datetime.UTC)
        self._folder = folder
        self._base = base_name(stream_id, member, self._started_at)
        self._keyframe = keyframe
        self._frames: deque[EncodedFrame] = deque()
        self._more = threading.Condition()
        self._closing: str | None = None
        self._starved = True
        self._dropped = 0
        self._ended_reason: str | None = None
        self._parts: list[_Part] = []
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            keep_private(folder)
            self._parts.append(_Part(folder, self._name(1)))
        except OSError as exc:
            raise RecordingError(f"cannot record to {folder}: {exc.strerror or exc}; choose another data_dir") from exc
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def wants_result(self) -> bool:
        return True

    @property
    def ended(self) -> bool:
        """Nothing is recorded any more."""
        return self._ended_reason is not None

    def state(self) -> dict[str, Any]:
        """What the API says: id, files, UTC start, duration in seconds, bytes, frames, drops, and why it ended."""
        parts = tuple(self._parts)
        last = parts[-1]
        return {
            "id": last.path.stem.removesuffix(RUNNING),
            "path": str(last.path),
            "sidecar": str(last.path.with_suffix(".jsonl")),
            "parts": [part.path.stem.removesuffix(RUNNING) for part in parts],
            "started_at": self._started_at.isoformat(),
            "duration_seconds": round(sum(part.duration_seconds for part in parts), 3),
            "bytes": sum(part.bytes for part in parts),
            "frames": sum(part.frames for part in parts),
            "dropped": self._dropped,
            "ended_reason": self._ended_reason,
        }

    def put(self, frame: EncodedFrame) -> None:
        """Queue one frame; before the first keyframe, and after an overflow until the next, it is dropped."""
        if self.ended:
            return
        if frame.result_json is None:
            # Encoded before anybody wanted lines; a sidecar that does not begin with one is of no use.
            self._keyframe()
            return
        with self._more:
            if self._starved and not frame.keyframe:
                return
            self._starved = False
            if len(self._frames) >= QUEUE_FRAMES:
                self._dropped += len(self._frames) + 1
                self._frames.clear()
                self._starved = True
            else:
                self._frames.append(frame)
            self._more.notify()
        if self._starved:
            self._keyframe()

    def closed(self) -> None:
        """The encoder ended: write what waits, then end."""
        self._end("stopped")

    def close(self, reason: str = "stopped") -> None:
        """End the recording and wait for its final name, at most 5 s. Twice is fine; not in the event loop.

        `reason` is said in `state()`, unless it has ended for another one.
        """
        self._end(reason)
        self._thread.join(CLOSE_SECONDS)

    def _end(self, reason: str) -> None:
        with self._more:
            self._closing = self._closing or reason
            self._more.notify()

    # The recorder's thread

    def _run(self) -> None:
        reason = None
        try:
            while (frame := self._next()) is not None:
                self._write(frame)
        except (OSError, ValueError) as exc:
            # PyAV's errors are OSError or ValueError, also those that FFmpeg invented.
            reason = f"{getattr(exc, 'strerror', None) or exc}; free space or check {self._folder}, then start again"
            log.warning("recording %s ended: %s", self._base, reason)
        try:
            self._parts[-1].close()
        except (OSError, ValueError) as exc:
            reason = reason or f"could not be finished: {getattr(exc, 'strerror', None) or exc}"
        with self._more:
            self._ended_reason = reason or self._closing or "stopped"
            self._frames.clear()

    def _next(self) -> EncodedFrame | None:
        with self._more:
            self._more.wait_for(lambda: self._frames or self._closing is not None)
            return self._frames.popleft() if self._frames else None

    def _write(self, frame: EncodedFrame) -> None:
        part = self._parts[-1]
        if part.size not in (None, (frame.width, frame.height)):
            part.close()
            part = _Part(self._folder, self._name(len(self._parts) + 1))
            self._parts.append(part)
        part.write(frame)

    def _name(self, part: int) -> str:
        return unused_name(self._folder, self._base if part == 1 else f"{self._base}_part{part}")


class _Part:
    """One file and its sidecar. All methods raise `OSError` or `ValueError` when the disk does not take more."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}{RUNNING}.mp4"
        self.size: tuple[int, int] | None = None
        self.frames = 0
        self.bytes = 0
        self.duration_seconds = 0.0
        self._first_pts = 0
        self._last_pts = 0
        self._looked_at = time.monotonic()
        self._sidecar = Sidecar(self.path.with_suffix(".jsonl"))
        self._stream: Any = None
        try:
            self.path.touch(mode=0o600, exist_ok=False)  # FFmpeg would let everybody read it
            # Fragments as it goes, one index at the end: a killed recording plays up to its last fragment, and one that
            # was closed is an ordinary MP4.
            self._container: OutputContainer | None = av.open(
                str(self.path),
                "w",
                format="mp4",
                container_options={"movflags": "hybrid_fragmented", "flush_packets": "1"},
            )
        except BaseException:
            self._sidecar.close()
            self._sidecar.path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            raise

    def write(self, frame: EncodedFrame) -> None:
        """Append one frame and its line; the first is a keyframe."""
        assert self._container is not None
        if self._stream is None:
            self.size = (frame.width, frame.height)
            self._stream = self._container.add_mux_stream("h264", rate=30, width=frame.width, height=frame.height)
            self._stream.time_base = _TIME_BASE
            self._first_pts = frame.pts
        packet = av.Packet(frame.data)
        packet.stream = self._stream
        packet.time_base = _TIME_BASE
        packet.pts = packet.dts = frame.pts - self._first_pts
        packet.is_keyframe = frame.keyframe
        self._container.mux_one(packet)
        assert frame.result_json is not None, "put keeps it out"
        self._sidecar.write(frame.result_json)
        self.frames += 1
        self._last_pts = frame.pts
        self.duration_seconds = (frame.pts - self._first_pts) / PTS_RATE
        self.bytes += len(frame.data)
        self._look()

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            if not self.path.exists():
                raise FileNotFoundError(2, "the file or its folder was removed while recording")

    def close(self) -> None:
        """Finish the files and give them their final names. Twice is fine."""
        if self._container is None:
            return
        container, self._container = self._container, None
        failed: Exception | None = None
        try:
            container.close()
        except (OSError, ValueError) as exc:
            failed = exc
        with contextlib.suppress(OSError):
            self._sidecar.close()
        target = settle(self.path)
        self.path = target or final_path(self.path)
        self.bytes = target.stat().st_size if target is not None else 0
        if failed is not None:
            raise failed

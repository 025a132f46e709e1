"""One live stream: its source, its way through vision, its viewers, its recording, its numbers."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from streamer.channels import Closed, Mailbox
from streamer.contract import result_json
from streamer.egress.encoder import RenderJob, RenderStats, StreamEncoder
from streamer.egress.recorder import Recorder
from streamer.egress.snapshot import jpeg
from streamer.egress.whep import Viewers
from streamer.errors import (
    NoSharedMemory,
    RecordingUnknown,
    SessionUnknown,
    SourceUnavailable,
    StreamConflict,
    VisionError,
    VisionUnavailable,
)
from streamer.frames import Frame
from streamer.ingest.source import Source
from streamer.ingest.whip import WhipSource
from streamer.service.frame_slot import FrameSlot, Patience
from streamer.service.settings import Settings
from streamer.service.stats import RateMeter, StageTimes
from streamer.tracks import PRIVATE_STYLES, FrameResult, Style, Target, Track
from streamer.vision.supervisor import Supervisor

log = logging.getLogger(__name__)

EVENTS_BACKLOG = 8
"""Results that may wait for the JSON encoder, and lines for one subscriber; the oldest makes room."""
SOURCE_LOOK_SECONDS = 1.0
"""Without a frame for so long we look whether one will ever come; what came last is encoded by then."""


class Stream:
    """From one source to any number of viewers. Lives in the event loop; `run` is its task, `aclose` ends it.

    Threads: the source decodes on its own, the encoder draws and encodes on its own, the recorder writes on its own.
    """

    def __init__(
        self,
        stream_id: str,
        source: Source,
        target: Target,
        style: Style,
        *,
        settings: Settings,
        vision: Supervisor,
        recordings: Path,
    ) -> None:
        self.id = stream_id
        self.source = source
        self.target = target
        self.style: Style = style
        self._changed_by: dict[str, int] = {}
        self.created_at = datetime.datetime.now(datetime.UTC)
        self._settings = settings
        self._vision = vision
        self._recordings = recordings
        self._frames = FrameSlot()
        self._patience = Patience(self._frames)
        self._session = vision.open(stream_id, target)
        self._encoder = StreamEncoder(asyncio.get_running_loop(), settings.video, on_rendered=self._rendered)
        self._viewers = Viewers(self._encoder, settings)
        self._recorder: Recorder | None = None
        self._recording_lock = asyncio.Lock()
        self._results: Mailbox[FrameResult] = Mailbox(EVENTS_BACKLOG)
        self._subscribers: set[Mailbox[bytes]] = set()
        self._stalled: asyncio.Future[FrameResult] | None = None
        self._notice: str | None = None
        self._latest: FrameResult | None = None
        self._is_named_by_face = settings.vision.engine not in ("none", "synthetic")
        self._stages = StageTimes()
        self._seen_rate = RateMeter()
        self._out_rate = RateMeter()
        self._vision_drops = 0
        self._closed = False

    async def run(self) -> None:
        """Carry frames until `aclose`. One frame at a time: what comes meanwhile waits in the slot, newest wins."""
        self.source.start(self._frames)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_results(), name=f"events-{self.id}")
                await self._run_frames()
        except* Closed:
            pass
        finally:
            await self.aclose()

    async def _run_frames(self) -> None:
        while True:
            frame = await self._next_frame()
            taken_at = time.monotonic()
            result, notice = await self._see(frame)
            shown, self._notice = self._tellable(result, notice)
            stages = {"decode": frame.decode_seconds, "wait": taken_at - frame.captured_at - frame.decode_seconds}
            if result is not None:
                stages |= result.stage_seconds
                self._seen_rate.tick()
                self._patience.took(time.monotonic() - taken_at)
            self._stages.add(stages)
            self._latest = result or self._nothing_seen(frame)
            if self._subscribers:
                self._results.put(self._latest)
            self._encoder.submit(RenderJob(frame, shown, self.style, self.target, self._notice))

    def _tellable(self, result: FrameResult | None, notice: str | None) -> tuple[FrameResult | None, str | None]:
        """What may be drawn of a result: nothing, where nobody can tell whom `hide` is to hide (removed, no photo)."""
        member = self.target.member
        if result is None or self.style != "hide" or member is None or self._vision.recognises(member):
            return result, notice
        return None, f"no photo of {member}, so all is hidden"

    async def _next_frame(self) -> Frame:
        """The newest frame. Where none will ever come any more, a recording ends. Raises `Closed`."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOURCE_LOOK_SECONDS):
                    return await self._frames.aget(self._patience.seconds())
            if self.source.over:
                async with self._recording_lock:
                    await self._close_recorder(self._why_over())

    def _why_over(self) -> str:
        state = self.source.state
        return f"the source failed: {state.reason}" if state.phase == "failed" else "the source ended"

    async def _see(self, frame: Frame) -> tuple[FrameResult | None, str | None]:
        """The frame's result; or None and a notice, so that the picture goes on without vision."""
        if self._settings.vision.engine == "none":
            blind = self.style in PRIVATE_STYLES
            return (None, "no vision engine") if blind else (self._nothing_seen(frame), None)
        if self._stalled is not None:
            if not self._stalled.done():
                self._vision_drops += 1
                return None, self._vision.notice() or "vision stalled"
            self._stalled = None
        try:
            future = self._session.step(frame)
            done, _ = await asyncio.wait([future], timeout=self._settings.vision.stall_seconds)
            if not done:
                future.add_done_callback(_retrieve)
                self._stalled = future
                return None, "vision stalled"
            return future.result(), None
        except NoSharedMemory as exc:
            return None, self._unseen(frame, exc, "no shared memory for vision")
        except VisionUnavailable:
            self._vision_drops += 1
            return None, self._vision.notice() or "vision restarting"
        except VisionError as exc:
            return None, self._unseen(frame, exc, "vision error")

    def _unseen(self, frame: Frame, error: VisionError, notice: str) -> str:
        """`notice`; in the log the error is told of once, however many frames it lasts."""
        self._vision_drops += 1
        if notice != self._notice:
            log.warning("stream %s frame %d: %s", self.id, frame.index, error)
        return notice

    def _nothing_seen(self, frame: Frame) -> FrameResult:
        return FrameResult.nothing(frame, self._settings.vision.engine)

    def _rendered(self, stats: RenderStats) -> None:
        """From the encoder, in the loop, once a frame."""
        self._out_rate.tick()
        total = time.monotonic() - stats.captured_at
        self._stages.add({"overlay": stats.overlay_seconds, "encode": stats.encode_seconds, "total": total})

    # What a client may change while it runs

    def change(self, wanted: Mapping[str, Any], request: int) -> None:
        """Follow another member or object, or draw differently, from the next frame on. Checked by the caller.

        Args:
            wanted: of `member`, `object` and `style` those that change.
            request: rises from one request to the next; what a later one has changed stays.
        """
        new = {key: value for key, value in wanted.items() if self._changed_by.get(key, 0) < request}
        self._changed_by |= dict.fromkeys(new, request)
        self.style = new.get("style", self.style)
        member, phrase = new.get("member", self.target.member), new.get("object", self.target.object)
        target = Target(member, phrase, everybody=self.style == "only")
        if target != self.target:
            self.target = target
            self._session.set_target(target)

    def forget_all_but(self, names: frozenset[str]) -> None:
        """Of the latest result, keep no name but these. The next frame's follows the gallery by itself."""
        seen = self._latest
        if self._is_named_by_face and seen is not None:
            tracks = tuple(track if track.name in names else replace(track, name=None) for track in seen.tracks)
            self._latest = replace(seen, tracks=tracks)

    # WebRTC

    async def whep(self, offer: str) -> tuple[str, str]:
        """Answer a viewer: (session id, SDP answer). Raises `NegotiationError`, `LimitReached`."""
        return await self._viewers.answer(offer)

    async def whip(self, offer: str) -> tuple[str, str]:
        """Answer a publisher: (session id, SDP answer). Raises `NegotiationError`, `StreamConflict`."""
        if not isinstance(self.source, WhipSource):
            raise StreamConflict(
                f"stream {self.id} reads from a {self.source.kind} source; create one of kind whip to publish to"
            )
        return await self.source.answer(offer)

    async def end_session(self, session_id: str) -> None:
        """End a viewer's or the publisher's session. Raises `SessionUnknown` where there is none of that id."""
        for part in (self._viewers, self.source):
            if isinstance(part, (Viewers, WhipSource)):
                with contextlib.suppress(SessionUnknown):
                    await part.end(session_id)
                    return
        raise SessionUnknown(f"stream {self.id} has no session {session_id}; it may have ended already")

    # Events and pictures

    async def events(self) -> AsyncIterator[bytes]:
        """Contract JSON, one object a frame, without line ends, until the stream ends or the reader stops."""
        box: Mailbox[bytes] = Mailbox(EVENTS_BACKLOG)
        self._subscribers.add(box)
        try:
            if self._closed:
                return
            while True:
                yield await box.get()
        except Closed:
            return
        finally:
            self._subscribers.discard(box)

    async def _run_results(self) -> None:
        while True:
            result = await self._results.get()
            if self._subscribers:
                line = await asyncio.to_thread(_json_line, result)
                for box in self._subscribers:
                    box.put(line)

    async def snapshot(self) -> bytes:
        """The newest drawn picture as JPEG. Raises `SourceUnavailable` before the first one."""
        picture = self._encoder.snapshot_i420()
        if picture is None:
            state = self.source.state
            raise SourceUnavailable(f"stream {self.id} has no picture yet: {state.reason or state.phase}")
        return await asyncio.to_thread(jpeg, picture)

    # Recording

    async def start_recording(self) -> dict[str, Any]:
        """Begin a recording of what viewers see.

        Raises:
            StreamConflict: one runs already, the source is over, or the stream is ending.
            RecordingError: the disk does not take it.
        """
        # A caller that goes away half way must not leave a recorder that nobody knows of.
        return await asyncio.shield(self._start_recording())

    async def _start_recording(self) -> dict[str, Any]:
        async with self._recording_lock:
            if self._closed:
                raise StreamConflict(f"stream {self.id} is ending; it takes no recording")
            if self._recorder is not None and not self._recorder.ended:
                raise StreamConflict(f"stream {self.id} is being recorded already; stop that recording first")
            if self.source.over:
                raise StreamConflict(f"stream {self.id} has nothing to record: {self._why_over()}")
            await self._close_recorder()
            recorder = await asyncio.to_thread(
                Recorder, self._recordings, self.id, self.target.member, keyframe=self._encoder.request_keyframe
            )
            self._recorder = recorder
            self._encoder.add_sink(recorder)
            return recorder.state()

    async def stop_recording(self) -> dict[str, Any]:
        """End the recording; its final state. Raises `RecordingUnknown` where none runs."""
        async with self._recording_lock:
            recorder = self._recorder
            if recorder is None:
                raise RecordingUnknown(f"stream {self.id} is not being recorded")
            await self._close_recorder()
            self._recorder = None
            return recorder.state()

    async def _close_recorder(self, reason: str = "stopped") -> None:
        """Under the lock: from looking at the recorder to having another or none, nobody else may do the same."""
        if self._recorder is not None:
            self._encoder.remove_sink(self._recorder)
            await asyncio.to_thread(self._recorder.close, reason)

    # What the API says

    def info(self) -> dict[str, Any]:
        """Everything about the stream, JSON-able, without credentials."""
        state = self.source.state
        seen = self._latest
        return {
            "id": self.id,
            "source": {
                **self.source.describe(),
                "state": {
                    "phase": state.phase,
                    "reason": state.reason,
                    "retry_in_seconds": state.retry_in_seconds,
                },
            },
            "member": self.target.member,
            "object": self.target.object,
            "style": self.style,
            "created_at": self.created_at.isoformat(),
            "size": None if seen is None else [seen.width, seen.height],
            "engine": self._settings.vision.engine,
            "vision": {"state": self._vision_state(), "notice": self._notice},
            "fps": {
                "in": round(self._frames.rate.rate(), 1),
                "vision": round(self._seen_rate.rate(), 1),
                "out": round(self._out_rate.rate(), 1),
            },
            "dropped": {
                "source": self._frames.dropped + self.source.dropped,
                "vision": self._vision_drops,
                "encoder": self._encoder.dropped,
                "viewers": self._viewers.dropped,
            },
            "viewers": self._viewers.count,
            "latency_ms": self._stages.summary(),
            "tracks": [] if seen is None else [_track_info(track) for track in seen.tracks],
            "recording": None if self._recorder is None else self._recorder.state(),
            "encoder": self._encoder.encoder_name,
        }

    def _vision_state(self) -> str:
        return "stalled" if self._stalled is not None else self._vision.state.phase

    async def aclose(self) -> None:
        """End everything in the order in which frames flow. Twice is fine."""
        if self._closed:
            return
        self._closed = True
        self._frames.close()
        closing: list[Callable[[], None]] = [self.source.close]
        if isinstance(self.source, WhipSource):
            await self.source.aclose()
        for close in closing:
            await asyncio.to_thread(close)
        self._session.close()
        async with self._recording_lock:
            await self._close_recorder()
        await self._viewers.aclose()
        await asyncio.to_thread(self._encoder.close)
        self._results.close()
        for box in self._subscribers:
            box.close()


def _json_line(result: FrameResult) -> bytes:
    return json.dumps(result_json(result), separators=(",", ":"), ensure_ascii=False).encode()


def _track_info(track: Track) -> dict[str, Any]:
    return {
        "id": track.id,
        "name": track.name,
        "similarity": None if track.similarity is None else round(track.similarity, 3),
        "state": track.state,
        "box": [round(float(v), 1) for v in track.box_xyxy],
        "face": None if track.face_xyxy is None else [round(float(v), 1) for v in track.face_xyxy],
    }


def _retrieve(future: asyncio.Future[FrameResult]) -> None:
    """Look at the error of a future that nobody awaits any more, so that asyncio does not complain."""
    if not future.cancelled():
        future.exception()

"""One H.264 encode a stream: draws, encodes, hands the same packets to every sink."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streamer.channels import Closed, LatestSlot
from streamer.contract import result_json
from streamer.egress.h264 import X264, EncoderUnavailable, H264Encoder, choose_codec
from streamer.egress.overlay import draw
from streamer.frames import Frame
from streamer.service.settings import VideoSettings
from streamer.tracks import FrameResult, Style, Target

log = logging.getLogger(__name__)

KEYFRAME_GAP_SECONDS = 0.3
"""Least time between two requested keyframes: a viewer on a bad path asks many times a second."""
IDLE_DRAW_SECONDS = 0.5
"""Without a sink a picture is drawn so often, for snapshots, and nothing is encoded."""
STILL_SECONDS = 0.25
"""A requested keyframe waits so long for a new frame; then the last picture is encoded once more."""
CLOSE_SECONDS = 5.0
PTS_RATE = 90_000
"""Per second."""


@dataclass(frozen=True, slots=True)
class RenderJob:
    """One picture to draw and encode."""

    frame: Frame
    result: FrameResult | None
    """Of this very frame; None: the picture goes out without vision."""
    style: Style
    target: Target
    notice: str | None
    """A line for the viewer ("vision restarting")."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One coded picture, shared by all sinks."""

    data: bytes
    """H.264 access unit, Annex B, constrained baseline; keyframes carry SPS and PPS."""
    keyframe: bool
    pts: int
    """1/90000 s; `pts_seconds`, or one tick after the picture before it where that is later: it rises strictly."""
    width: int
    height: int
    frame_index: int
    pts_seconds: float
    """The source's clock."""
    captured_at: float
    """`time.monotonic()`."""
    result_json: bytes | None
    """The contract's JSON, one line without its end; only made while a sink wants it."""


@dataclass(frozen=True, slots=True)
class RenderStats:
    """What drawing and encoding of one frame took."""

    frame_index: int
    captured_at: float
    """`time.monotonic()`."""
    overlay_seconds: float
    encode_seconds: float
    """0 when nobody watches and nothing was encoded."""


class PacketSink(Protocol):
    """Takes the encoder's packets. Both methods are called in the event loop and never block."""

    @property
    def wants_result(self) -> bool:
        """`EncodedFrame.result_json` is needed."""

    def put(self, frame: EncodedFrame) -> None:
        """The next packet. The first one may be no keyframe."""

    def closed(self) -> None:
        """No packet will come any more."""


class StreamEncoder:
    """Draws and encodes on one thread of its own; results cross to the event loop, one call a frame.

    Bound: 1 job waiting. Policy: newest wins, `dropped` counts the others. `submit`, `request_keyframe` and
    `snapshot_i420` may be called from any thread, the rest in the event loop; `close` from anywhere.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        video: VideoSettings,
        fps_hint: float = 30.0,
        on_rendered: Callable[[RenderStats], None] | None = None,
    ) -> None:
        self._loop = loop
        self._on_rendered = on_rendered
        self._jobs: LatestSlot[RenderJob] = LatestSlot()
        self._sinks: tuple[PacketSink, ...] = ()
        self._keyframe_wanted = False
        self._drawn: np.ndarray | None = None
        self._drawn_job: RenderJob | None = None
        self._closed = False
        self._renderer = _Renderer(video, fps_hint)
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)
        self._thread.start()

    @property
    def encoder_name(self) -> str:
        """ "libx264" or "h264_nvenc": what really encodes."""
        return self._renderer.codec_name

    @property
    def dropped(self) -> int:
        """Jobs overwritten by a newer one before the encoder came to them."""
        return self._jobs.dropped

    def submit(self, job: RenderJob) -> None:
        """Draw and encode `job` next, instead of one that still waits."""
        self._jobs.put(job)

    def request_keyframe(self) -> None:
        """Make the next picture a keyframe; at most one in 0.3 s, later if need be."""
        self._keyframe_wanted = True

    def add_sink(self, sink: PacketSink) -> None:
        """Packets go to `sink` from now on, a keyframe soon among them."""
        if self._closed:
            sink.closed()
            return
        self._sinks = (*(s for s in self._sinks if s is not sink), sink)
        self.request_keyframe()

    def remove_sink(self, sink: PacketSink) -> None:
        """No packets to `sink` any more. One that is not there is fine."""
        self._sinks = tuple(s for s in self._sinks if s is not sink)

    def snapshot_i420(self) -> np.ndarray | None:
        """(H * 3 // 2, W) uint8: the picture drawn last; never written to again. None before the first."""
        return self._drawn

    def close(self) -> None:
        """End the thread and tell the sinks. Bounded by 5 s; twice is fine; from any thread."""
        self._jobs.close()
        if self._thread is not threading.current_thread():
            self._thread.join(CLOSE_SECONDS)
        self._call_in_loop(self._tell_closed)

    def _tell_closed(self) -> None:
        self._closed = True
        sinks, self._sinks = self._sinks, ()
        for sink in sinks:
            sink.closed()

    def _call_in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    # The encoder thread

    def _run(self) -> None:
        job: RenderJob | None = None
        try:
            while True:
                try:
                    job = self._jobs.get(timeout=STILL_SECONDS)
                except TimeoutError:
                    if job is not None and self._keyframe_due():
                        self._render(job)
                else:
                    self._render(job)
        except Closed:
            self._renderer.close()

    def _render(self, job: RenderJob) -> None:
        sinks, renderer = self._sinks, self._renderer
        if not sinks and time.monotonic() - renderer.drawn_at < IDLE_DRAW_SECONDS:
            return
        start = time.monotonic()
        picture, new = self._drawn, job is not self._drawn_job
        if picture is None or new:
            picture = draw(job.frame, job.result, job.style, job.target, job.notice)
            self._drawn, self._drawn_job = picture, job
        renderer.drawn_at = drawn = time.monotonic()
        encoded: list[EncodedFrame] = []
        if sinks:
            keyframe = self._keyframe_due()
            if keyframe:
                self._keyframe_wanted = False
            line = _json_line(job) if any(sink.wants_result for sink in sinks) else None
            encoded = renderer.encode(picture, job, keyframe, line)
        done = time.monotonic()
        stats = RenderStats(job.frame.index, job.frame.captured_at, drawn - start, done - drawn if sinks else 0.0)
        self._call_in_loop(self._deliver, encoded, stats if new else None)

    def _keyframe_due(self) -> bool:
        return self._keyframe_wanted and time.monotonic() - self._renderer.keyframe_at >= KEYFRAME_GAP_SECONDS

    def _deliver(self, encoded: list[EncodedFrame], stats: RenderStats | None) -> None:
        for frame in encoded:
            for sink in self._sinks:
                sink.put(frame)
        if stats is not None and self._on_rendered is not None:
            self._on_rendered(stats)


class _Renderer:
    """The encoder thread's own: the codec of the present size, and the clocks of what was made."""

    def __init__(self, video: VideoSettings, fps: float) -> None:
        self.codec_name = choose_codec(video.encoder)
        self._video = video
        self._fps = fps
        self._codec: H264Encoder | None = None
        self._pts = -1
        self._keyframe_pts = 0
        self.drawn_at = 0.0
        self.keyframe_at = 0.0

    def encode(self, i420: np.ndarray, job: RenderJob, keyframe: bool, line: bytes | None) -> list[EncodedFrame]:
        """Encode (H * 3 // 2, W) uint8; a new size opens a new codec, which begins with a keyframe."""
        width, height = i420.shape[1], i420.shape[0] * 2 // 3
        if self._codec is None or self._codec.size != (width, height):
            self.close()
            self._codec = self._open(width, height)
        # A picture that is encoded again comes one tick after itself: the next one may be long under way, and its own
        # time, which the sidecar says too, must still be to come.
        pts = self._pts = max(round(job.frame.pts_seconds * PTS_RATE), self._pts + 1)
        if pts - self._keyframe_pts >= self._video.keyframe_seconds * PTS_RATE:
            keyframe = True
        frames = []
        for data, is_keyframe in self._codec.encode(i420, pts, keyframe):
            if is_keyframe:
                self.keyframe_at, self._keyframe_pts = time.monotonic(), pts
            frame = job.frame
            frames.append(
                EncodedFrame(
                    data, is_keyframe, pts, width, height, frame.index, frame.pts_seconds, frame.captured_at, line
                )
            )
        return frames

    def _open(self, width: int, height: int) -> H264Encoder:
        try:
            return H264Encoder(self.codec_name, width, height, self._fps, self._video)
        except EncoderUnavailable as exc:
            # A GPU has a fixed number of encoder sessions; the stream above that number gets the CPU.
            log.warning("%s at %dx%d does not open (%s); encoding with %s", self.codec_name, width, height, exc, X264)
            self.codec_name = X264
            return H264Encoder(X264, width, height, self._fps, self._video)

    def close(self) -> None:
        if self._codec is not None:
            self._codec.close()
            self._codec = None


def _json_line(job: RenderJob) -> bytes:
    result = job.result or FrameResult.nothing(job.frame)
    return json.dumps(result_json(result, sidecar=True), separators=(",", ":"), ensure_ascii=False).encode()

"""Encoders for files, where quality counts and nothing hurries: H.264, ProRes 4444, VP9 with alpha."""

from __future__ import annotations

import logging
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream

from streamer.egress.h264 import NVENC, X264, choose_codec
from streamer.errors import OutputError
from streamer.frames import planes
from streamer.offline.clip import Colours
from streamer.offline.clock import PTS_RATE
from streamer.service.settings import VideoSettings

log = logging.getLogger(__name__)

PRORES, VP9 = "prores_ks", "libvpx-vp9"
TIME_BASE = Fraction(1, PTS_RATE)
_KEYFRAME_SECONDS = 2.0
_X264 = {"preset": "superfast", "crf": "20", "bf": "0"}
"""No B-frames: then packets come out in the order in which they are shown, and a file can be gone on with after any."""
_NVENC = {"preset": "p5", "rc": "vbr", "cq": "21", "bf": "0"}
_VP9 = {
    "deadline": "realtime",
    "cpu-used": "6",
    "row-mt": "1",
    "crf": "24",
    "b": "0",
    "auto-alt-ref": "0",
    "lag-in-frames": "0",
}
"""Alpha rules out alternative reference frames; real-time speed is five times as fast for a tenth more bits."""
_PRORES = {"profile": "4444", "vendor": "apl0", "alpha_bits": "16"}


def choose(suffix: str, transparent: bool, wanted: VideoSettings) -> str:
    """The encoder's name for a file of this suffix."""
    if transparent:
        return VP9 if suffix.lower() == ".webm" else PRORES
    return choose_codec(wanted.encoder)


class VideoTrack:
    """The video stream of an output file, and its encoder."""

    def __init__(
        self, container: OutputContainer, codec: str, size: tuple[int, int], fps: float, colours: Colours
    ) -> None:
        """Add a stream to `container`.

        Raises:
            OutputError: the encoder does not open at this size.
        """
        self.codec = codec
        self._size = size
        try:
            self.stream = self._open(container, codec, size, fps, colours)
        except (av.error.FFmpegError, ValueError) as exc:
            raise OutputError(
                f"{codec} does not open for {size[0]}x{size[1]} ({getattr(exc, 'strerror', None) or exc}); "
                "scale the video down"
            ) from exc

    def encode(self, i420: np.ndarray, alpha: np.ndarray | None, pts: int) -> list[Any]:
        """Packets that are ready.

        Args:
            i420: (H * 3 // 2, W) uint8.
            alpha: (H, W) uint8, of the codecs that have it.
            pts: 1/90000 s.
        """
        frame = self._frame(i420, alpha)
        frame.pts, frame.time_base = pts, TIME_BASE
        return self.stream.encode(frame)

    def flush(self) -> list[Any]:
        """What the encoder still holds; nothing can be encoded afterwards."""
        return self.stream.encode(None)

    @property
    def extradata(self) -> bytes | None:
        """What a decoder must know before the first packet."""
        return self.stream.codec_context.extradata

    def _frame(self, i420: np.ndarray, alpha: np.ndarray | None) -> av.VideoFrame:
        if self.codec not in (PRORES, VP9):
            return av.VideoFrame.from_numpy_buffer(i420, format="yuv420p")
        width, height = self._size
        frame = av.VideoFrame(width, height, "yuva420p")
        opaque = np.full((height, width), 255, np.uint8) if alpha is None else alpha
        for plane, pixels in zip(frame.planes, (*planes(i420), opaque), strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            rows[: pixels.shape[0], : pixels.shape[1]] = pixels
        return frame if self.codec == VP9 else frame.reformat(format="yuva444p10le")

    @staticmethod
    def _open(
        container: OutputContainer, codec: str, size: tuple[int, int], fps: float, colours: Colours
    ) -> VideoStream:
        rate = Fraction(fps).limit_denominator(1001)
        options = {X264: _X264, NVENC: _NVENC, VP9: _VP9, PRORES: _PRORES}[codec]
        stream: Any = container.add_stream(codec, rate=rate, options=dict(options))
        stream.width, stream.height = size
        stream.pix_fmt = {VP9: "yuva420p", PRORES: "yuva444p10le"}.get(codec, "yuv420p")
        context = stream.codec_context
        context.time_base = stream.time_base = TIME_BASE
        if codec != PRORES:
            context.gop_size = max(1, round(fps * _KEYFRAME_SECONDS))
        if codec == VP9:
            stream.metadata["alpha_mode"] = "1"
        context.color_range = 1
        context.color_primaries, context.color_trc = colours.primaries, colours.transfer
        context.colorspace = colours.matrix
        context.thread_type = "AUTO" if codec == PRORES else context.thread_type
        context.open()
        return stream  # type: ignore[no-any-return]


def open_track(
    container: OutputContainer, codec: str, size: tuple[int, int], fps: float, colours: Colours
) -> VideoTrack:
    """As `VideoTrack`; NVENC that does not open at this size gives way to x264, which is said in the log."""
    try:
        return VideoTrack(container, codec, size, fps, colours)
    except OutputError as exc:
        if codec != NVENC:
            raise
        log.warning("%s; encoding with %s", exc, X264)
        return VideoTrack(container, X264, size, fps, colours)

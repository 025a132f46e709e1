"""libx264 or NVENC behind one small face."""

from __future__ import annotations

import functools
import logging
from fractions import Fraction
from typing import Literal

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from streamer.service.settings import VideoSettings

log = logging.getLogger(__name__)

X264, NVENC = "libx264", "h264_nvenc"
_TIME_BASE = Fraction(1, 90_000)
_X264_PARAMS = "aq-mode=0:no-deblock=0:scenecut=0:weightp=0:no-dct-decimate=1"
"""On top of the preset. Deblocking, which `ultrafast` leaves out, is worth 0.5 dB for 0.3 ms; without adaptive
quantisation the luma is 0.4-0.8 dB closer; the analysis behind scene cuts and weighted prediction buys nothing when no
frame may wait; looking for blocks that are not worth their bits costs 3 % of the time and gains nothing. Sub-pixel
search (`superfast`) is worth 0.4 dB on noisy cameras and costs 3 ms a frame at 720p."""
_CPU_AVX2, _CPU_AVX512 = 11, 13
"""As OpenCV numbers them (it does not name them in Python)."""
_SMALL_PIXELS = 1280 * 720
"""Up to here one x264 thread is quick enough, and costs a tenth less CPU than slices on two."""


def choose_codec(wanted: Literal["auto", "x264", "nvenc"]) -> str:
    """ "h264_nvenc" where it is wanted and opens, else "libx264"; says so in the log when a wish was not granted."""
    if wanted == "x264":
        return X264
    trouble = _nvenc_trouble()
    if trouble is not None and wanted == "nvenc":
        log.warning("video.encoder is nvenc, but NVENC does not open here (%s); encoding with x264", trouble)
    return NVENC if trouble is None else X264


@functools.cache
def _x264_params() -> str:
    """x264's AVX-512 code costs 0.5 ms more a frame at 720p than its AVX2 code on the one CPU (a Xeon) where it was
    measured: the wide registers are used by few of the functions, and slow down all of them."""
    wide = cv2.checkHardwareSupport(_CPU_AVX512) and cv2.checkHardwareSupport(_CPU_AVX2)
    return _X264_PARAMS + (":asm=AVX2" if wide else "")


@functools.cache
def _nvenc_trouble() -> str | None:
    """Why NVENC does not open on this machine; None: it does. Asked once a process."""
    try:
        _open(NVENC, 256, 256, 30, VideoSettings())
    except (av.error.FFmpegError, ValueError) as exc:
        # Without a driver opening says "permission denied" or "unknown error"; H100 and H200 have no NVENC at all.
        return getattr(exc, "strerror", None) or str(exc)
    return None


class EncoderUnavailable(Exception):
    """The codec does not open here, now."""


class H264Encoder:
    """One codec context of one size. Not thread-safe. Raises `EncoderUnavailable` where the codec does not open."""

    def __init__(self, codec: str, width: int, height: int, fps: float, video: VideoSettings) -> None:
        self.size = (width, height)
        try:
            self._context = _open(codec, width, height, fps, video)
        except (av.error.FFmpegError, ValueError) as exc:
            raise EncoderUnavailable(getattr(exc, "strerror", None) or str(exc)) from exc

    def encode(self, i420: np.ndarray, pts: int, keyframe: bool) -> list[tuple[bytes, bool]]:
        """Access units (Annex B, is keyframe) that are ready: one, as nothing is held back.

        Args:
            i420: (H * 3 // 2, W) uint8, C-contiguous, of this encoder's size.
            pts: 1/90000 s, rising.
        """
        frame = av.VideoFrame.from_numpy_buffer(i420, format="yuv420p")
        frame.pts = pts
        frame.time_base = _TIME_BASE
        frame.pict_type = PictureType.I if keyframe else PictureType.NONE
        return [(bytes(packet), packet.is_keyframe) for packet in self._context.encode(frame)]

    def close(self) -> None:
        """Free the codec; what it still holds is thrown away."""
        del self._context


def _open(codec: str, width: int, height: int, fps: float, video: VideoSettings) -> VideoCodecContext:
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate = _TIME_BASE, Fraction(round(fps))
    context.bit_rate = video.bit_rate
    # Keyframes are placed by time, not by count: sources lie about their rate. This is only a net.
    context.gop_size = 10_000
    rate = {"maxrate": str(video.bit_rate), "bufsize": str(video.bit_rate // 2), "forced-idr": "1"}
    if codec == X264:
        context.profile = "Baseline"
        context.thread_count = 1 if width * height <= _SMALL_PIXELS else 0
        context.options = rate | {"preset": video.preset, "tune": "zerolatency", "x264-params": _x264_params()}
    else:
        context.profile = "baseline"
        context.options = rate | {
            "preset": "p3",
            "tune": "ull",
            "rc": "cbr",
            "zerolatency": "1",
            "delay": "0",
            "bf": "0",
        }
    context.open()
    return context

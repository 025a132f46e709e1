"""Media for the tests, made at run time with PyAV: ordinary files and every awkward kind."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

from streamer.frames import planes
from streamer.ingest import mark

__all__ = ["mark"]

MILLISECONDS = Fraction(1, 1000)


def texture(width: int, height: int, index: int = 0) -> np.ndarray:
    """(H * 3 // 2, W) uint8 I420 of even sides: gradients that drift with `index`, easy to encode, never flat."""
    i420 = np.empty((height * 3 // 2, width), np.uint8)
    y, u, v = planes(i420)
    columns, rows = np.arange(width), np.arange(height)[:, None]
    y[:] = 40 + (columns * 3 + rows * 2 + index * 4) // 4 % 160
    u[:] = 90 + (columns[: width // 2] // 4 + index) % 64
    v[:] = 100 + (rows[: height // 2] // 4 + index) % 64
    return i420


def h264_round_trip(i420: np.ndarray, bit_rate: int) -> np.ndarray:
    """`i420` after five frames of x264 at `bit_rate` and back."""
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.bit_rate = Fraction(1, 30), bit_rate
    encoder.options = {"preset": "superfast", "tune": "zerolatency"}
    decoder = av.CodecContext.create("h264", "r")
    decoded = []
    for pts in range(5):
        frame = av.VideoFrame.from_ndarray(i420, format="yuv420p")
        frame.pts = pts
        for packet in encoder.encode(frame):
            decoded += decoder.decode(packet)
    decoded += decoder.decode(None)
    return decoded[-1].to_ndarray()

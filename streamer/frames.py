"""The frame: what sources make, vision reads and egress draws on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MIN_SIDE = 16
"""Pixels. Smaller pictures are refused: no encoder and no model does anything sensible with them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture. Width and height are even; the array is never written to after construction."""

    i420: np.ndarray
    """(H * 3 // 2, W) uint8, C-contiguous, planes Y, U, V one after the other; BT.601 limited range."""
    index: int
    """0, 1, 2, … per stream in decode order; never reset by a reconnect. Gaps downstream are dropped frames."""
    pts_seconds: float
    """Presentation time on the source's clock; rises by less than a second between frames, never falls."""
    captured_at: float
    """`time.monotonic()` when decoding of this frame began; for latency only."""
    decode_seconds: float = 0.0
    """Time that decoding and conversion to I420 took."""

    @property
    def width(self) -> int:
        return int(self.i420.shape[1])

    @property
    def height(self) -> int:
        return int(self.i420.shape[0]) * 2 // 3


def i420_bytes(width: int, height: int) -> int:
    """Bytes of one I420 picture of even sides."""
    return width * height * 3 // 2


def planes(i420: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Views (no copies) of Y (H, W), U and V (H/2, W/2) of an (H * 3 // 2, W) uint8 array."""
    height, width = i420.shape[0] * 2 // 3, i420.shape[1]
    flat = i420.reshape(-1)
    luma, quarter = height * width, height * width // 4
    chroma = (height // 2, width // 2)
    return (
        flat[:luma].reshape(height, width),
        flat[luma : luma + quarter].reshape(chroma),
        flat[luma + quarter : luma + 2 * quarter].reshape(chroma),
    )

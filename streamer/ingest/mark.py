"""A time mark burnt into the luma plane, and read back at the other end: latency from glass to glass.

The top left corner carries 32 black or white cells of 16 x 16 pixels: a 24-bit clock in milliseconds, then an 8-bit
checksum. It survives H.264 at any bit rate that a picture survives, and costs some microseconds.
"""

from __future__ import annotations

import time

import numpy as np

CELL = 16
"""Pixels a side of one bit."""
CELLS = 32
MARK_WIDTH, MARK_HEIGHT = CELL * CELLS, CELL
"""Pixels that the mark takes; a picture must be as wide and as high."""
_CLOCK_BITS = 24
_CLOCK_MASK = (1 << _CLOCK_BITS) - 1
_BLACK, _WHITE, _BETWEEN = 16, 235, 125
_SHIFTS = np.arange(CELLS - 1, -1, -1, dtype=np.uint32)


def clock_ms() -> int:
    """The mark's clock now: wall time in milliseconds modulo 2**24 (4.6 hours); the same in every process."""
    return time.time_ns() // 1_000_000 & _CLOCK_MASK


def stamp(picture: np.ndarray, ms: int | None = None) -> None:
    """Write the mark of `ms` (default: now) into `picture`, in place.

    Args:
        picture: uint8, I420 (H * 3 // 2, W) or a luma plane (H, W), at least 512 x 16.
        ms: taken modulo 2**24.

    Raises:
        ValueError: the picture is too small.
    """
    if picture.shape[0] < MARK_HEIGHT or picture.shape[1] < MARK_WIDTH:
        raise ValueError(f"a mark needs {MARK_WIDTH}x{MARK_HEIGHT} pixels, not {picture.shape[1]}x{picture.shape[0]}")
    value = (clock_ms() if ms is None else ms) & _CLOCK_MASK
    word = np.uint32(value << 8 | _checksum(value))
    row = np.where(word >> _SHIFTS & 1, _WHITE, _BLACK).astype(np.uint8)
    picture[:MARK_HEIGHT, :MARK_WIDTH] = np.repeat(row, CELL)


def read(picture: np.ndarray) -> int | None:
    """The clock of the mark in `picture` (as for `stamp`; never written to), or None where there is no intact mark."""
    if picture.shape[0] < MARK_HEIGHT or picture.shape[1] < MARK_WIDTH:
        return None
    quarter = CELL // 4
    cells = picture[quarter : MARK_HEIGHT - quarter, :MARK_WIDTH]
    means = cells.reshape(-1, CELLS, CELL)[:, :, quarter:-quarter].mean(axis=(0, 2))
    word = 0
    for bit in means > _BETWEEN:
        word = word << 1 | int(bit)
    value, checksum = word >> 8, word & 0xFF
    if checksum != _checksum(value) or means.max() - means.min() < (_WHITE - _BLACK) / 2:
        return None
    return value


def age_ms(value: int) -> int:
    """Milliseconds since the mark `value` was stamped, by this machine's wall clock; right within 2.3 hours."""
    return signed_ms(clock_ms() - value)


def signed_ms(difference: int) -> int:
    """A difference of two clocks, taken across the wrap: -2**23 <= result < 2**23."""
    half = 1 << (_CLOCK_BITS - 1)
    return ((difference + half) & _CLOCK_MASK) - half


def _checksum(value: int) -> int:
    # The constant keeps an even picture (all black, all white) from passing for a mark.
    return (value ^ value >> 8 ^ value >> 16 ^ 0xA5) & 0xFF

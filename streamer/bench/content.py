"""Pictures for the benchmark: a person before a photo, filmed by a moving camera with a little sensor noise.

Made once and kept in a raw file, so that publishing costs a copy, and so that a viewer can look the original of a frame
up by its number and compare.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from streamer.frames import i420_bytes
from streamer.ingest import mark

WIDTH, HEIGHT, FPS = 1280, 720, 30
FRAMES = 90
"""Of a clip; it ends where it began, so that it can be looped."""
NUMBER_ROW = mark.MARK_HEIGHT
"""The time mark has the first rows; the frame's number, as a mark of its own, has the next."""
MARKED_ROWS = 2 * mark.MARK_HEIGHT
"""Rows that carry marks and are left out of comparisons."""
NOISE = 1.5
"""Standard deviation of the luma noise, in steps of 255: a webcam in good light."""
MEMBER = "eileen"
"""The person in the clip, as she is enrolled."""


def photo() -> np.ndarray:
    """(512, 512, 3) uint8 RGB: a photo of the clip's person."""
    picture: np.ndarray = data.astronaut()
    return picture


def make_clip(path: Path) -> None:
    """Write the clip to `path`: `FRAMES` raw I420 pictures, one after the other, each with its number burnt in."""
    with path.open("wb") as file:
        for number, picture in enumerate(_pictures()):
            mark.stamp(picture[NUMBER_ROW:], number)
            file.write(picture.tobytes())


def make_film(clip: Path, path: Path) -> None:
    """Write the clip as Y4M, a file without any loss that every player opens."""
    size = i420_bytes(WIDTH, HEIGHT)
    with clip.open("rb") as raw, path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F{FPS}:1 Ip A1:1 C420jpeg\n".encode("ascii"))
        while picture := raw.read(size):
            file.write(b"FRAME\n" + picture)


def open_clip(path: Path) -> np.ndarray:
    """(FRAMES, H * 3 // 2, W) uint8, read-only, shared between processes by the page cache."""
    return np.memmap(path, np.uint8, "r", shape=(FRAMES, HEIGHT * 3 // 2, WIDTH))


def stamped(clip: np.ndarray, number: int) -> np.ndarray:
    """A copy of frame `number` (counting on over the clip's end) with its number and the time now."""
    picture: np.ndarray = clip[number % FRAMES].copy()
    mark.stamp(picture[NUMBER_ROW:], number)
    mark.stamp(picture)
    return picture


def luma_error(shown: np.ndarray, clip: np.ndarray, number: int) -> float | None:
    """Mean squared error of an (H, W) luma plane against frame `number`, without the marks; None: another size."""
    if shown.shape != (HEIGHT, WIDTH):
        return None
    original = clip[number % FRAMES][MARKED_ROWS:HEIGHT]
    difference = cv2.absdiff(np.ascontiguousarray(shown[MARKED_ROWS:]), original)
    return float(cv2.norm(difference, cv2.NORM_L2SQR) / difference.size)


def _pictures() -> Iterator[np.ndarray]:
    background = cv2.resize(data.coffee()[..., ::-1], (1500, 1000), interpolation=cv2.INTER_CUBIC)
    person = cv2.resize(photo()[..., ::-1], (700, 700), interpolation=cv2.INTER_CUBIC)
    alpha = _soft_edges(700)
    chance = np.random.default_rng(7)
    # One field, cut out at another place for each frame: the same look as noise made anew, at a tenth of the time.
    noise = NOISE * chance.standard_normal((HEIGHT + 64, WIDTH + 64), np.float32)
    for number in range(FRAMES):
        turn = 2 * math.pi * number / FRAMES
        pan = np.array([[1, 0, -110 - 60 * math.sin(turn)], [0, 1, -140 - 25 * math.cos(turn)]], np.float32)
        scene = cv2.warpAffine(background, pan, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR).astype(np.float32)
        move = np.array([[1, 0, 290 + 70 * math.sin(turn)], [0, 1, 20 + 8 * math.sin(2 * turn)]], np.float32)
        figure = cv2.warpAffine(person, move, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR).astype(np.float32)
        weight = cv2.warpAffine(alpha, move, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)[..., None]
        scene += (figure - scene) * weight
        picture = cv2.cvtColor(np.clip(scene, 0, 255).astype(np.uint8), cv2.COLOR_BGR2YUV_I420)
        y, x = chance.integers(0, 64, 2)
        luma = cv2.add(picture[:HEIGHT], noise[y : y + HEIGHT, x : x + WIDTH], dtype=cv2.CV_8U)
        picture[:HEIGHT] = np.clip(luma, 16, 235)
        yield picture


def _soft_edges(side: int) -> np.ndarray:
    """(side, side) float32: 1 inside, falling to 0 over the outer tenth."""
    ramp = np.clip(np.minimum(np.arange(side), np.arange(side)[::-1]) / (side / 10), 0, 1).astype(np.float32)
    weight: np.ndarray = np.minimum.outer(ramp, ramp)
    return weight

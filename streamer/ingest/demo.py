"""A source that needs nothing: a camera moving over photos that dependencies ship."""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from streamer.frames import planes
from streamer.ingest.demo_cast import ASTRONAUT, CARD_PARTY, Photo
from streamer.ingest.source import ThreadedSource

_LATE_SECONDS = 0.5
"""Drawing that lags more than this slows the film down instead of being made up for by a burst."""


@dataclass(frozen=True, slots=True)
class View:
    """What the camera sees at one moment; in between it moves smoothly."""

    at_seconds: float
    """Since the shot began."""
    centre: tuple[float, float]
    """Pixels of the photo."""
    width: float
    """Pixels of the photo that fill the picture's width."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One photo and the camera's way over it. Views rise in time; the last one ends the shot."""

    photo: Photo
    views: tuple[View, ...]
    enlarge: int = 1
    """The photo is enlarged once, well, by this factor, where the camera goes closer than its pixels."""
    margin: int = 0
    """Pixels of the photo that are added left and right (mirrored and blurred), to make a wide picture of a square."""

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.views[-1].at_seconds

    def view(self, at_seconds: float) -> View:
        """What the camera sees `at_seconds` into the shot: eased from view to view, resting for a moment at each."""
        after = min(bisect_right([view.at_seconds for view in self.views], at_seconds), len(self.views) - 1)
        a, b = self.views[after - 1], self.views[after]
        way = (at_seconds - a.at_seconds) / (b.at_seconds - a.at_seconds)
        way = way * way * (3 - 2 * way)
        # Zooming looks even where the width changes by factors, not by amounts.
        return View(
            at_seconds,
            (a.centre[0] + (b.centre[0] - a.centre[0]) * way, a.centre[1] + (b.centre[1] - a.centre[1]) * way),
            a.width * (b.width / a.width) ** way,
        )


SHOTS = (
    Shot(
        ASTRONAUT,
        (
            View(0.0, (262, 214), 740),
            View(4.0, (236, 166), 560),
            View(7.0, (252, 190), 640),
        ),
        enlarge=2,
        margin=120,
    ),
    Shot(
        CARD_PARTY,
        (
            View(0.0, (640, 366), 1272),
            View(3.5, (418, 330), 800),
            View(7.5, (872, 300), 810),
            View(11.0, (640, 366), 1272),
        ),
    ),
)
"""18 seconds: the member that `streamer up` follows, then six people; a hard cut between them and another where the
film starts again."""


class DemoSource(ThreadedSource):
    """`SHOTS` for ever, in real time. Costs about 4 ms of CPU a frame at 960x540."""

    kind: ClassVar[str] = "demo"

    def __init__(
        self, size: tuple[int, int] = (960, 540), fps: float = 25.0, max_size: tuple[int, int] = (1920, 1080)
    ) -> None:
        """`size` in pixels, made to fit `max_size` at 16:9 and even."""
        super().__init__()
        width = min(size[0], max_size[0], max_size[1] * size[0] // size[1])
        self._size = width & ~1, round(width * size[1] / size[0]) & ~1
        self._frame_seconds = 1 / fps
        self._timeline.announce(fps)

    def _play(self) -> None:
        film = Film(self._size)
        started = time.monotonic()
        number = 0
        while not self._stopping.is_set():
            at_seconds = number * self._frame_seconds
            wait = started + at_seconds - time.monotonic()
            if wait < -_LATE_SECONDS:
                started -= wait
            elif wait > 0 and self._stopping.wait(wait):
                return
            captured_at = time.monotonic()
            i420 = film.picture(at_seconds)
            self._publish(i420, self._timeline.step(at_seconds), captured_at, time.monotonic() - captured_at)
            number += 1


class Film:
    """Draws the pictures of `SHOTS`."""

    def __init__(self, size: tuple[int, int]) -> None:
        """`size`: width and height of the pictures, even. Reads the photos; raises `SourceUnusable`."""
        self._size = size
        self._photos = [_photo_planes(shot) for shot in SHOTS]
        self.seconds = sum(shot.seconds for shot in SHOTS)
        """Length of the film; then it starts again."""

    def picture(self, at_seconds: float) -> np.ndarray:
        """(H * 3 // 2, W) uint8 I420 `at_seconds` into the film, which repeats."""
        at_seconds %= self.seconds
        number = 0
        while at_seconds >= SHOTS[number].seconds:
            at_seconds -= SHOTS[number].seconds
            number += 1
        shot = SHOTS[number]
        view = shot.view(at_seconds)
        width, height = self._size
        scale = view.width * shot.enlarge / width
        left = (view.centre[0] + shot.margin) * shot.enlarge - scale * width / 2
        top = view.centre[1] * shot.enlarge - scale * height / 2
        i420 = np.empty((height * 3 // 2, width), np.uint8)
        # The planes are warped as they are: half the work of drawing in BGR, and no conversion afterwards.
        for source, target, step in zip(self._photos[number], planes(i420), (1, 2, 2), strict=True):
            # Centres of pixels lie at half coordinates on both sides.
            to_source = np.array(
                [[scale, 0, left / step + scale / 2 - 0.5], [0, scale, top / step + scale / 2 - 0.5]], np.float32
            )
            cv2.warpAffine(
                source,
                to_source,
                (target.shape[1], target.shape[0]),
                dst=target,
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return i420


def _photo_planes(shot: Shot) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bgr = shot.photo.read()
    if shot.margin:
        bgr = _widened(bgr, shot.margin)
    if shot.enlarge > 1:
        bgr = cv2.resize(bgr, None, fx=shot.enlarge, fy=shot.enlarge, interpolation=cv2.INTER_LANCZOS4)
    even = bgr[: bgr.shape[0] & ~1, : bgr.shape[1] & ~1]
    return planes(cv2.cvtColor(np.ascontiguousarray(even), cv2.COLOR_BGR2YUV_I420))


def _widened(bgr: np.ndarray, margin: int) -> np.ndarray:
    """The photo with a mirrored, blurred continuation of `margin` pixels on either side, without a visible seam."""
    wide = cv2.copyMakeBorder(bgr, 0, 0, margin, margin, cv2.BORDER_REFLECT_101)
    blurred = cv2.GaussianBlur(wide, (0, 0), margin / 12)
    outside = np.ones(wide.shape[1], np.float32)
    seam = margin // 8
    outside[margin : wide.shape[1] - margin] = 0
    outside = cv2.blur(outside[None], (2 * seam + 1, 1))[..., None]
    mixed: np.ndarray = (wide * (1 - outside) + blurred * outside).round().astype(np.uint8)
    return mixed

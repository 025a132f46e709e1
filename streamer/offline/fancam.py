"""A crop that follows one person through a picture, as a calm camera operator who knows what comes would.

The way of the crop's centre is the person's own way, averaged over a Hann window of a second or so that reaches as far
ahead as back: no lag, no jitter, and an acceleration that cannot exceed `2 * pi * reach / window**2`, where `reach` is
the room that the centre has. When the person is gone the crop holds still; after a while it opens to the whole picture.
A shot cut ends every window: the camera cuts too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np

from streamer.errors import ConfigError
from streamer.frames import planes
from streamer.tracks import Box, Track

WINDOW_SECONDS = 1.2
HOLD_SECONDS = 1.0
"""The crop holds still for so long after the member was last seen."""
OPEN_SECONDS = 0.6
"""Time that opening to the whole picture takes, and closing again."""
_MAX_AHEAD = 40
_MAX_AHEAD_BYTES = 200_000_000
"""Of pictures that wait for what comes: flat memory at any size."""
_HEAD_ROOM = 0.38
"""Where the face stands from the top, as a share of the crop's height."""

T = TypeVar("T")
_ASPECT = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)\s*[:x/]\s*(\d{1,3}(?:\.\d+)?)\s*")


@dataclass(frozen=True, slots=True)
class View:
    """What of the picture is shown, in its pixels; may reach beyond it."""

    x: float
    """Left edge."""
    y: float
    width: float
    height: float

    def place(self, box: Box, size: tuple[int, int]) -> Box:
        """Where a box of the picture is in the view shown at `size` (width, height); may reach beyond it."""
        across, down = size[0] / self.width, size[1] / self.height
        x0, y0, x1, y1 = box
        return (x0 - self.x) * across, (y0 - self.y) * down, (x1 - self.x) * across, (y1 - self.y) * down


@dataclass(slots=True)
class _Waiting(Generic[T]):
    item: T
    aim: tuple[float, float] | None
    """Where the crop's centre should be; None: the member was not seen in this shot yet."""
    there: bool
    cut: bool


def parse_aspect(text: str) -> float:
    """Width by height from "9:16". Raises `ConfigError` for anything else."""
    match = _ASPECT.fullmatch(text)
    if match is None or not float(match[1]) or not float(match[2]):
        raise ConfigError(f"aspect {text[:40]!r} is not of the form W:H, such as 9:16 or 1:1")
    aspect = float(match[1]) / float(match[2])
    if not 1 / 8 <= aspect <= 8:
        raise ConfigError(f"aspect {text} is narrower than 1:8; choose one such as 9:16")
    return aspect


def crop_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """Even width and height of the largest crop of this aspect."""
    wide = width / height > aspect
    size = (height * aspect, float(height)) if wide else (float(width), width / aspect)
    return max(16, int(size[0]) & ~1), max(16, int(size[1]) & ~1)


class Fancam(Generic[T]):
    """Views for the frames of one file; a frame waits for what comes after it. Items ride along with their frames."""

    def __init__(self, width: int, height: int, aspect: float, fps: float) -> None:
        self._picture = (width, height)
        self.size = crop_size(width, height, aspect)
        frame_bytes = width * height * 3 // 2
        most = max(4, min(_MAX_AHEAD, _MAX_AHEAD_BYTES // frame_bytes))
        self.reach = max(1, min(most, round(fps * WINDOW_SECONDS / 2)))
        """Frames that the window reaches ahead, and back."""
        window = np.hanning(2 * self.reach + 3)[1:-1]
        self._window = window / window.sum()
        self._step_seconds = 1 / fps
        self._waiting: deque[_Waiting[T]] = deque()
        self._past: deque[tuple[float, float]] = deque(maxlen=self.reach)
        self._aim: tuple[float, float] | None = None
        """The newest of the shot that enters."""
        self._away_seconds = 0.0
        self._open = 0.0
        self._started = False

    def step(self, item: T, track: Track | None, cut: bool) -> Iterator[tuple[T, View]]:
        """One frame more: where the member is on it (None: away), and whether a new shot begins with it."""
        cut = cut or not self._started
        self._started = True
        if cut:
            self._aim = None
        if track is not None:
            aim = self._aimed(track)
            if self._aim is None:
                self._fill(aim)
            self._aim = aim
        self._waiting.append(_Waiting(item, self._aim, track is not None, cut))
        while len(self._waiting) > self.reach:
            yield self._next()

    def finish(self) -> Iterator[tuple[T, View]]:
        """The frames that still wait."""
        while self._waiting:
            yield self._next()

    def _aimed(self, track: Track) -> tuple[float, float]:
        """Where the crop's centre should be for this frame alone, within the room that it has."""
        x0, y0, x1, y1 = track.face_xyxy or _face_of(track.box_xyxy)
        width, height = self.size
        x, y = (x0 + x1) / 2, (y0 + y1) / 2 + (0.5 - _HEAD_ROOM) * height
        return (
            min(max(x, width / 2), self._picture[0] - width / 2),
            min(max(y, height / 2), self._picture[1] - height / 2),
        )

    def _fill(self, aim: tuple[float, float]) -> None:
        """The first sight of a shot holds for the shot's beginning too, if that is not shown yet."""
        start = next((n for n in range(len(self._waiting) - 1, -1, -1) if self._waiting[n].cut), None)
        if start is not None:
            for number in range(start, len(self._waiting)):
                self._waiting[number].aim = aim

    def _next(self) -> tuple[T, View]:
        entry = self._waiting[0]
        if entry.cut:
            self._past.clear()
            self._away_seconds = 0.0
            # A shot that begins without the member, and goes on so, is shown as a whole at once.
            self._open = 1.0 if entry.aim is None else 0.0
        self._away_seconds = 0.0 if entry.there else self._away_seconds + self._step_seconds
        centre = self._centre()
        self._move(entry)
        self._waiting.popleft()
        self._past.append(entry.aim or self._middle)
        return entry.item, self._view(centre)

    @property
    def _middle(self) -> tuple[float, float]:
        return self._picture[0] / 2, self._picture[1] / 2

    def _centre(self) -> tuple[float, float]:
        """The average of where the crop should be, from `reach` frames ago to `reach` frames ahead, inside the shot.

        What a frame adds never changes once it is in the window: only so is the acceleration bounded.
        """
        line = list(self._past)
        for number, entry in enumerate(self._waiting):
            if entry.cut and number:
                break
            line.append(entry.aim or self._middle)
        back = self.reach - len(self._past)
        line = ([line[0]] * back + line)[: 2 * self.reach + 1]
        line += [line[-1]] * (2 * self.reach + 1 - len(line))
        x, y = self._window @ np.array(line)
        return float(x), float(y)

    def _move(self, entry: _Waiting[T]) -> None:
        step = self._step_seconds / OPEN_SECONDS
        away = not entry.there and (entry.aim is None or self._away_seconds > HOLD_SECONDS)
        self._open = min(1.0, self._open + step) if away else max(0.0, self._open - step)

    def _view(self, centre: tuple[float, float]) -> View:
        share = self._open * self._open * (3 - 2 * self._open)
        width, height = self.size
        whole = max(self._picture[0] / width, self._picture[1] / height)
        scale = 1 + share * (whole - 1)
        x, y = (c + share * (m - c) for c, m in zip(centre, self._middle, strict=True))
        return View(x - width * scale / 2, y - height * scale / 2, width * scale, height * scale)


def _face_of(box: Box) -> Box:
    """About where the face of a person of this box is."""
    x0, y0, x1, y1 = box
    height = (y1 - y0) / 6
    return x0, y0, x1, y0 + height


def show(i420: np.ndarray, view: View, size: tuple[int, int]) -> np.ndarray:
    """`view` of a (H * 3 // 2, W) uint8 picture at `size`; where it reaches beyond, a blurred picture fills it."""
    width, height = size
    shown = np.empty((height * 3 // 2, width), np.uint8)
    for number, (source, target) in enumerate(zip(planes(i420), planes(shown), strict=True)):
        part = 1 if number == 0 else 2
        target[:] = show_plane(source, view, (width // part, height // part), part)
    return shown


def show_plane(source: np.ndarray, view: View, size: tuple[int, int], part: int = 1, fill: bool = True) -> np.ndarray:
    """One plane of `show`; `part`: pixels of the picture per pixel of the plane. Without `fill`, zero outside."""
    width, height = size
    scale = view.width / part / width
    x, y = view.x / part, view.y / part
    have_height, have_width = source.shape
    if scale > 1.5:
        # Shrinking by more than half needs averaging first; what comes out is a little above the size wanted.
        shrunk = max(1, round(have_width / scale)), max(1, round(have_height / scale))
        source = cv2.resize(source, shrunk, interpolation=cv2.INTER_AREA)
        x, y, scale = x * shrunk[0] / have_width, y * shrunk[1] / have_height, scale * shrunk[0] / have_width
        have_height, have_width = source.shape
    matrix = np.array([[scale, 0, x + (scale - 1) / 2], [0, scale, y + (scale - 1) / 2]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = (
        x >= -0.5 and y >= -0.5 and x + scale * width <= have_width + 0.5 and y + scale * height <= have_height + 0.5
    )
    if inside:
        crop: np.ndarray = cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return crop
    if not fill:
        bare: np.ndarray = cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT)
        return bare
    behind = _backdrop(source, size)
    left, top = max(0, -round(x / scale)), max(0, -round(y / scale))
    right = min(width, round((have_width - x) / scale))
    bottom = min(height, round((have_height - y) / scale))
    picture = cv2.warpAffine(source, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    behind[top:bottom, left:right] = picture[top:bottom, left:right]
    return behind


def _backdrop(source: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle of a plane, filling `size`, out of focus."""
    width, height = size
    have_height, have_width = source.shape
    scale = min(have_width / width, have_height / height)
    inner = max(1, int(width * scale)), max(1, int(height * scale))
    left, top = (have_width - inner[0]) // 2, (have_height - inner[1]) // 2
    middle = source[top : top + inner[1], left : left + inner[0]]
    tiny = cv2.resize(middle, (max(4, width // 24), max(4, height // 24)), interpolation=cv2.INTER_AREA)
    tiny = cv2.blur(tiny, (5, 5), borderType=cv2.BORDER_REPLICATE)
    blurred: np.ndarray = cv2.resize(tiny, size, interpolation=cv2.INTER_CUBIC)
    return blurred

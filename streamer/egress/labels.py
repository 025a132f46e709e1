"""Name tags and the notice banner: rendered once, kept, blended into the planes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from streamer.egress.lettering import letters
from streamer.egress.palette import NOTICE, Colour, Rgb, colour
from streamer.egress.planes import Planes, Rect, even_rect, halve, mix
from streamer.tracks import Box

MIN_HEIGHT = 120
MIN_WIDTH = 160
"""Pixels. Smaller pictures get no text: it would hide more than it says."""

_BACKGROUND = colour(16, 19, 24)
_BACKGROUND_ALPHA = 0.78
_TEXT: Rgb = (255, 255, 255)
_TEXT_SOFT: Rgb = (186, 196, 208)
_WIDEST, _WIDEST_UPRIGHT = 0.46, 0.9
"""Of the picture's longer side, and of its width: a longer name ends in an ellipsis."""
_CHIN = 0.2
"""Of a face's height, below it: a face box ends at the chin or before it, and may be a moment old."""
_LONGEST = 80
"""Characters of a name that are looked at at all."""


@dataclass(frozen=True, slots=True)
class Sticker:
    """A rendered piece, ready for `mix`: `plane * keep / 255 + add`. Sides are even."""

    keep: tuple[np.ndarray, np.ndarray]
    """Luma (h, w) and chroma (h/2, w/2) uint8: what stays of the picture."""
    add: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Y (h, w), U and V (h/2, w/2) uint8, already multiplied by their share."""

    @property
    def size(self) -> tuple[int, int]:
        """Width, height in pixels."""
        return self.keep[0].shape[1], self.keep[0].shape[0]


def text_pixels(width: int, height: int) -> int:
    """Letter size for a picture of `width` x `height` pixels."""
    return int(min(44, max(11, round(min(height / 34, width / 28)))))


def fits(width: int, height: int) -> bool:
    """A picture of this size gets text."""
    return width >= MIN_WIDTH and height >= MIN_HEIGHT


def tag(name: str, detail: str, width: int, height: int, accent: Colour, *, muted: bool = False) -> Sticker:
    """A name tag for a picture of `width` x `height`: an accent bar, the name, `detail` in a softer tone."""
    widest = int(min(max(width, height) * _WIDEST, width * _WIDEST_UPRIGHT))
    return _tag(name[:_LONGEST], detail, text_pixels(width, height), widest, accent, muted)


def draw_tags(planes: Planes, tags: Sequence[tuple[Sticker, Box]], faces: Iterable[Box]) -> None:
    """Put each tag at its head (a box in pixels): inside the picture, off other tags and, if it can, off `faces`."""
    height, width = planes[0].shape
    taken: list[Rect] = []
    avoid = [(x0, y0, x1, y1 + _CHIN * (y1 - y0)) for x0, y0, x1, y1 in faces]
    for sticker, head in tags:
        place = _place(sticker.size, head, taken, avoid, width, height)
        taken.append(place)
        _stick(planes, sticker, place)


def draw_notice(planes: Planes, notice: str) -> None:
    """A banner at the bottom left. Pictures too small for text get none."""
    height, width = planes[0].shape
    if not fits(width, height):
        return
    pixels = text_pixels(width, height)
    margin = pixels // 2 * 2
    sticker = _banner(notice[:200], pixels, width - 2 * margin)
    place = even_rect(
        margin, height - margin - sticker.size[1], margin + sticker.size[0], height - margin, width, height
    )
    if place is not None:
        _stick(planes, sticker, place)


def _stick(planes: Planes, sticker: Sticker, place: Rect) -> None:
    keeps = (sticker.keep[0], sticker.keep[1], sticker.keep[1])
    for plane, index, keep, add in zip(
        planes, (place.luma, place.chroma, place.chroma), keeps, sticker.add, strict=True
    ):
        mix(plane[index], keep[: place.height, : place.width], add[: place.height, : place.width])


def _place(
    size: tuple[int, int], head: Box, taken: Sequence[Rect], faces: Sequence[Box], width: int, height: int
) -> Rect:
    """The least bad of a few places around the head; over it comes first, for that is where people look."""
    w, h = size
    x0, y0, x1, y1 = head
    gap = h * 0.3
    neck = max(gap, _CHIN * (y1 - y0))
    middle_x, middle_y = (x0 + x1 - w) / 2, (y0 + y1 - h) / 2
    spots = [
        (middle_x, y0 - gap - h),
        (x1 + gap, middle_y),
        (x0 - gap - w, middle_y),
        (middle_x, y1 + neck),
        (middle_x, y0 - 2 * gap - 2 * h),
        (middle_x, y1 + neck + gap + h),
    ]
    best, best_cost = None, np.inf
    for rank, (x, y) in enumerate(spots):
        left = int(min(max(x, 0), width - w)) // 2 * 2
        top = int(min(max(y, 0), height - h)) // 2 * 2
        rect = Rect(left, top, left + w, top + h)
        # In tag areas: over another tag is worst, over a face (or an ear) is bad, far from the wanted spot is a pity.
        cost = (
            10 * sum(_overlap(rect, other) for other in taken)
            + sum(1 + 3 * part for face in faces if (part := _overlap(rect, face)))
            + (abs(left - x) * h + abs(top - y) * w) / (w * h)
            + 0.1 * rank
        )
        if cost < best_cost:
            best, best_cost = rect, cost
    assert best is not None
    return best


def _overlap(rect: Rect, other: Rect | Box) -> float:
    """Share that they have in common of the smaller one: a long tag may cover a small face wholly."""
    width = min(rect.x1, other[2]) - max(rect.x0, other[0])
    height = min(rect.y1, other[3]) - max(rect.y0, other[1])
    smaller = min(rect.width * rect.height, (other[2] - other[0]) * (other[3] - other[1]))
    return max(0.0, width) * max(0.0, height) / max(smaller, 1.0)


@lru_cache(maxsize=256)
def _tag(name: str, detail: str, pixels: int, widest: int, accent: Colour, muted: bool) -> Sticker:
    pad, bar, gap = round(pixels * 0.5), max(2, round(pixels * 0.2)), round(pixels * 0.35)
    tail = letters(detail, pixels).coverage if detail else None
    room = widest - 2 * pad - bar - (tail.shape[1] + gap if tail is not None else 0)
    head = _fitted(name, pixels, room)
    width = _even(bar + 2 * pad + head.shape[1] + (tail.shape[1] + gap if tail is not None else 0))
    canvas = _Canvas(width, _even(head.shape[0] + round(pixels * 0.16)), radius=round(pixels * 0.32))
    canvas.bar(bar, accent.rgb)
    x = bar + pad
    canvas.text(head, x, _TEXT_SOFT if muted else _TEXT)
    if tail is not None:
        canvas.text(tail, x + head.shape[1] + gap, _TEXT_SOFT)
    return canvas.sticker()


@lru_cache(maxsize=16)
def _banner(notice: str, pixels: int, widest: int) -> Sticker:
    pad, dot = round(pixels * 0.6), round(pixels * 0.26)
    text = _fitted(notice, pixels, widest - 3 * pad - 2 * dot)
    canvas = _Canvas(
        _even(3 * pad + 2 * dot + text.shape[1]), _even(text.shape[0] + round(pixels * 0.5)), radius=round(pixels * 0.4)
    )
    canvas.dot(pad + dot, dot, NOTICE.rgb)
    canvas.text(text, 2 * pad + 2 * dot, _TEXT)
    return canvas.sticker()


def _fitted(text: str, pixels: int, widest: int) -> np.ndarray:
    """Coverage of `text`, ended with an ellipsis where it would be wider than `widest` pixels (but never empty)."""
    coverage = letters(text, pixels).coverage
    while coverage.shape[1] > widest and len(text) > 1:
        # Proportional steps: a name of 80 characters takes a few turns, not 80.
        text = text[: max(1, min(len(text) - 1, len(text) * widest // coverage.shape[1]))].rstrip("… ") or text[:1]
        coverage = letters(text + "…", pixels).coverage
    return coverage


def _even(value: int) -> int:
    return value + value % 2


class _Canvas:
    """A dark translucent card that letters are put on; becomes a `Sticker`."""

    def __init__(self, width: int, height: int, radius: int) -> None:
        self._shape: np.ndarray = _rounded(width, height, radius).astype(np.float32) / 255
        self._alpha: np.ndarray = self._shape * _BACKGROUND_ALPHA
        self._rgb = np.empty((height, width, 3), np.float32)
        self._rgb[:] = _BACKGROUND.rgb

    def bar(self, width: int, rgb: Rgb) -> None:
        """The left edge in full colour, inside the rounded shape."""
        self._paint((slice(None), slice(0, width)), self._shape[:, :width], rgb)

    def dot(self, x: int, radius: int, rgb: Rgb) -> None:
        """A disc in the middle of the height."""
        disc = np.zeros_like(self._shape, np.uint8)
        cv2.circle(disc, (x * 16, disc.shape[0] * 8), radius * 16, (255,), -1, cv2.LINE_AA, 4)
        self._paint((slice(None), slice(None)), disc.astype(np.float32) / 255, rgb)

    def text(self, coverage: np.ndarray, x: int, rgb: Rgb) -> None:
        """Letters, in the middle of the height, cut at the right edge."""
        width = min(coverage.shape[1], self._alpha.shape[1] - x)
        y = (self._alpha.shape[0] - coverage.shape[0]) // 2
        share = coverage[:, :width].astype(np.float32) / 255
        self._paint((slice(y, y + coverage.shape[0]), slice(x, x + width)), share, rgb)

    def _paint(self, where: tuple[slice, slice], share: np.ndarray, rgb: Rgb) -> None:
        """Ordinary "over" of a colour with the share 0..1 on what is there (straight alpha)."""
        alpha = self._alpha[where]
        after = share + alpha * (1 - share)
        top = share / np.maximum(after, 1e-6)
        self._rgb[where] += (np.array(rgb, np.float32) - self._rgb[where]) * top[..., None]
        self._alpha[where] = after

    def sticker(self) -> Sticker:
        red, green, blue = np.moveaxis(self._rgb * self._alpha[..., None], 2, 0) / 255
        luma = 16 * self._alpha + 65.481 * red + 128.553 * green + 24.966 * blue
        u = 128 * self._alpha - 37.797 * red - 74.203 * green + 112.0 * blue
        v = 128 * self._alpha + 112.0 * red - 93.786 * green - 18.214 * blue
        keep = np.round(255 * (1 - self._alpha)).astype(np.uint8)
        return Sticker(
            (keep, halve(keep)),
            (_byte(luma), _byte(halve(u.astype(np.float32))), _byte(halve(v.astype(np.float32)))),
        )


def _byte(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _rounded(width: int, height: int, radius: int) -> np.ndarray:
    """(h, w) uint8 coverage of a rectangle with round corners, antialiased by drawing at four times the size."""
    big = np.zeros((height * 4, width * 4), np.uint8)
    r = min(radius, height // 2, width // 2) * 4
    cv2.rectangle(big, (r, 0), (width * 4 - 1 - r, height * 4), (255,), -1)
    cv2.rectangle(big, (0, r), (width * 4, height * 4 - 1 - r), (255,), -1)
    for x in (r, width * 4 - 1 - r):
        for y in (r, height * 4 - 1 - r):
            cv2.circle(big, (x, y), r, (255,), -1)
    small: np.ndarray = cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA)
    return small

"""What vision says, drawn into the picture: on the I420 planes and inside bounding boxes only.

What is drawn, by style, for the tracks that the target selects (those of its member, or all):

| style     | drawing                                                                                             |
|-----------|-----------------------------------------------------------------------------------------------------|
| annotated | tint, contour and a name tag; with an object only the object's pixels, and grey tags where it is not |
| overlay   | tint alone                                                                                          |
| cutout    | everything else dim and pale                                                                        |
| hide      | the selected people (or their object) frosted                                                       |
| only      | everybody else frosted: people, and faces; without a member everybody who has no name               |
| none      | nothing                                                                                             |

`hide` and `only` are promises: a picture without a result is frosted as a whole, and the box of a lost track to hide
stays frosted as long as vision reports it. In the other styles a lost track, having no pixels, draws nothing, but for
the name of somebody whose face is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np

from streamer.egress.conceal import conceal, conceal_all
from streamer.egress.labels import Sticker, draw_notice, draw_tags, fits, tag
from streamer.egress.palette import MEMBER, MUTED, Colour, track_colour
from streamer.egress.planes import Planes, Rect, bounding_rect, even_rect, halve, mix, soften, softness, solid
from streamer.frames import Frame, planes
from streamer.tracks import (
    LABEL_OBJECT,
    LABEL_PERSON,
    LABEL_TRACK,
    NO_ENGINE,
    PRIVATE_STYLES,
    Box,
    FrameResult,
    Style,
    Target,
    Track,
)

# OpenCV would split each of these sub-millisecond steps over a pool of threads: more CPU time for the same picture, and
# cores taken from decoding, encoding and models. The setting is the process's, and this is the only place that sets it.
cv2.setNumThreads(1)

_TINT_LUMA = 0.22
_TINT_CHROMA = 0.5
"""Shares of the colour inside a mask: little in luma, where the detail is, more in chroma, where the colour is."""
_LINE = 0.95
_SHADE = 0.45
"""Share of the black rim outside the contour, which keeps it visible on a background of its own colour."""
_DIM_LUMA = 0.34
_DIM_CHROMA = 0.15
"""What `cutout` leaves of the background."""


def draw(
    frame: Frame,
    result: FrameResult | None,
    style: Style,
    target: Target,
    notice: str | None = None,
    *,
    names: bool = True,
) -> np.ndarray:
    """`frame` with `result` drawn in `style`, and `notice` as a banner at the bottom left.

    Args:
        frame: the picture; never written to.
        result: what vision says about this picture; None, or a result for another size or of no engine: vision does not
            say, nor does it where two shots mix.
        style: see the module.
        target: who and what is shown.
        notice: one line for the viewer ("vision restarting").
        names: with the name tags of style `annotated`; who crops the picture puts them on the crop (`draw_names`).

    Returns:
        (H * 3 // 2, W) uint8 I420. Not to be written to: where nothing is drawn it is `frame.i420` itself.
    """
    if result is not None and (result.width, result.height) != (frame.width, frame.height):
        result = None
    private = style in PRIVATE_STYLES
    if private and result is not None and (result.between_shots or result.engine == NO_ENGINE):
        result = None
    if not notice and (style == "none" or (result is None and not private)):
        return frame.i420
    i420 = frame.i420.copy()
    picture = planes(i420)
    if result is not None and style != "none":
        _draw_result(picture, result, style, target)
        if style == "annotated" and names:
            draw_names(picture, result, target)
    elif private:
        conceal_all(picture)
    if notice:
        draw_notice(picture, notice)
    return i420


def _draw_result(picture: Planes, result: FrameResult, style: Style, target: Target) -> None:
    if style == "hide":
        _hide(picture, result, target)
    elif style == "only":
        _only(picture, result, target)
    elif style == "cutout":
        _cutout(picture, result, target)
    else:
        _annotate(picture, result, target, contour=style == "annotated")


def _selected(result: FrameResult, target: Target) -> list[Track]:
    """Tracks with a mask on this frame that the target asks for."""
    return [t for t in _wanted(result, target) if t.state == "tracked"]


def _wanted(result: FrameResult, target: Target) -> list[Track]:
    return [t for t in result.tracks if target.member is None or t.name == target.member]


class _Labels:
    """The label map of one result, ready to be asked for the pixels of its tracks or of their objects."""

    def __init__(self, result: FrameResult, part: bool) -> None:
        self._shape = (result.height, result.width)
        self._part = part
        self._map = result.label_map
        self._bits = np.uint8(LABEL_TRACK | LABEL_OBJECT if part else LABEL_TRACK)

    def area(self, pad: int) -> Rect | None:
        """Around everything that is labelled, `pad` pixels wider; None: nothing is."""
        return None if self._map is None else bounding_rect(self._map, pad)

    def pixels(self, tracks: Sequence[Track], area: Rect | None = None) -> np.ndarray:
        """(H, W) uint8, 0 or 1, of the picture or of an area of it. Comparing is four times as fast as a look-up
        table, which has no vector instruction."""
        wanted = [t.label for t in tracks if not self._part or t.object_prompt is not None]
        if self._map is None or not wanted:
            return np.zeros(self._shape if area is None else (area.height, area.width), np.uint8)
        labels = (self._map if area is None else self._map[area.luma]) & self._bits
        chosen: np.ndarray = np.equal(labels, self._value(wanted[0]))
        for label in wanted[1:]:
            chosen |= np.equal(labels, self._value(label))
        return chosen.view(np.uint8)

    def _value(self, label: int) -> np.uint8:
        return np.uint8(label | LABEL_OBJECT if self._part else label)


# --- annotated, overlay ---


def _annotate(picture: Planes, result: FrameResult, target: Target, contour: bool) -> None:
    labels = _Labels(result, part=target.object is not None)
    pad = _blur_box(_line_pixels(picture[0].shape[0]))
    area = labels.area(pad)
    if area is None:
        return
    for track in _selected(result, target):
        mask = labels.pixels([track], area)
        rect = bounding_rect(mask, pad)
        if rect is not None:
            _tint(picture, mask[rect.luma], rect.moved(area.x0, area.y0), _hue(track, target), contour)


def draw_names(
    picture: Planes, result: FrameResult, target: Target, at: Callable[[Box], Box] = lambda box: box
) -> None:
    """Name tags of the tracks that the target selects, whole and inside the picture. Tiny pictures get none.

    Args:
        picture: Y, U, V of the frame, or of a crop of it; written to.
        result: of the frame.
        target: who and what is shown.
        at: where a box of the frame is in `picture`; whose head is not in it at all gets no tag.
    """
    height, width = picture[0].shape
    if not fits(width, height):
        return
    labels = _Labels(result, part=True) if target.object is not None else None
    tags: list[tuple[Sticker, Box]] = []
    for track in _wanted(result, target):
        if not track.seen:
            continue
        head = at(_head(track))
        if head[0] >= width or head[1] >= height or head[2] <= 0 or head[3] <= 0:
            continue
        muted = labels is not None and not labels.pixels([track]).any()
        hue = MUTED if muted else _hue(track, target)
        tags.append((_track_tag(track, width, height, hue, muted), head))
    if tags:
        draw_tags(picture, tags, [at(t.face_xyxy) for t in result.tracks if t.face_xyxy])


def _hue(track: Track, target: Target) -> Colour:
    return MEMBER if target.member is not None else track_colour(track.id)


def _track_tag(track: Track, width: int, height: int, hue: Colour, muted: bool) -> Sticker:
    if track.name is None:
        # The similarity of somebody unknown is to the nearest member: beside "unknown" it would mislead.
        return tag("unknown", "", width, height, MUTED if muted else hue, muted=True)
    detail = "" if track.similarity is None else f"{track.similarity:.2f}"
    return tag(track.name, detail, width, height, hue, muted=muted)


def _head(track: Track) -> Box:
    """Box of the whole head: the face box with the hair over it, or the top of the person."""
    x0, y0, x1, y1 = track.face_xyxy or track.box_xyxy
    if track.face_xyxy is None:
        return x0, y0, x1, y0 + (y1 - y0) / 6
    return x0, y0 - 0.4 * (y1 - y0), x1, y1


def _line_pixels(height: int) -> int:
    """Width of a contour."""
    return max(1, round(height / 220))


def _blur_box(line: int) -> int:
    """Side of the box for `soften` whose blur reaches over a contour of this width and its rim."""
    return 2 * ((line + 2) // 2) + 1


def _tint(picture: Planes, mask: np.ndarray, rect: Rect, hue: Colour, contour: bool) -> None:
    """Blend one colour into the mask of a rectangle. The blurred mask serves as the distance from its edge: one pass
    draws the tint, the contour and its dark rim, all antialiased."""
    line = _line_pixels(picture[0].shape[0])
    soft = soften(solid(mask), _blur_box(line))
    keep, add_y, _, _ = _tint_luts(hue, line, contour, _TINT_LUMA)
    mix(picture[0][rect.luma], cv2.LUT(soft, keep), cv2.LUT(soft, add_y))
    half = halve(soft)
    keep, _, add_u, add_v = _tint_luts(hue, line, contour, _TINT_CHROMA)
    kept = cv2.LUT(half, keep)
    mix(picture[1][rect.chroma], kept, cv2.LUT(half, add_u))
    mix(picture[2][rect.chroma], kept, cv2.LUT(half, add_v))


@lru_cache(maxsize=256)
def _tint_luts(
    hue: Colour, line: int, contour: bool, fill: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(256,) uint8 tables from the blurred mask's value: share of the picture kept, and what to add to Y, U and V.

    A step edge after a Gaussian blur has the value 255 * cdf(d / sigma) at the distance d inside the edge; turned
    around, the value gives d.
    """
    normal = NormalDist(0, softness(_blur_box(line)))
    distance = np.array([normal.inv_cdf(min(max(value / 255, 1e-4), 1 - 1e-4)) for value in range(256)])
    share = fill * np.clip(distance + 0.5, 0, 1)
    black = np.zeros(256)
    if contour:
        share = np.maximum(share, _LINE * np.clip(line / 2 + 0.5 - np.abs(distance), 0, 1))
        rim = line / 2 + 1
        black = _SHADE * np.clip(rim + 0.5 - np.abs(distance + 0.5), 0, 1) * (1 - share) * (distance < 0)
    # The tails of the blur are everywhere outside: nothing may be drawn where the mask is not near.
    share[0] = black[0] = 0
    keep = 1 - share - black

    def table(value: float, dark: float) -> np.ndarray:
        return np.round(share * value + black * dark).astype(np.uint8)

    return np.round(255 * keep).astype(np.uint8), table(hue.y, 16), table(hue.u, 128), table(hue.v, 128)


# --- cutout ---


def _cutout(picture: Planes, result: FrameResult, target: Target) -> None:
    mask = _Labels(result, part=target.object is not None).pixels(_selected(result, target))
    box = 2 * round(picture[0].shape[0] / 480) + 3
    rect = bounding_rect(mask, pad=box)
    colours = None if rect is None else [p.copy() for p in _inside(picture, rect)]
    for plane, lut in zip(picture, _dim_luts(), strict=True):
        cv2.LUT(plane, lut, dst=plane)
    if rect is None or colours is None:
        return
    alpha = soften(solid(mask[rect.luma]), box)
    half = halve(alpha)
    for plane, colour, weight in zip(_inside(picture, rect), colours, (alpha, half, half), strict=True):
        mix(plane, cv2.bitwise_not(weight), cv2.multiply(colour, weight, scale=1 / 255))


def _inside(picture: Planes, rect: Rect) -> Planes:
    """Views of the three planes inside `rect`."""
    return picture[0][rect.luma], picture[1][rect.chroma], picture[2][rect.chroma]


@lru_cache(maxsize=1)
def _dim_luts() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = np.arange(256)
    luma = np.round(16 + np.maximum(0, values - 16) * _DIM_LUMA).astype(np.uint8)
    chroma = np.round(128 + (values - 128) * _DIM_CHROMA).astype(np.uint8)
    return luma, chroma, chroma


# --- hide, only ---


def _hide(picture: Planes, result: FrameResult, target: Target) -> None:
    part = target.object is not None
    seen, lost = _by_state(_wanted(result, target))
    mask = _Labels(result, part).pixels(seen)
    faces = [] if part else [*seen, *lost]
    if not seen:
        # It may be the member who has just come into the picture; one who is seen in it is nobody else.
        coming, unseen = _by_state([track for track in result.tracks if track.undecided])
        mask |= _Labels(result, part=False).pixels(coming)
        lost, faces = lost + unseen, [*faces, *coming, *unseen]
    _add_boxes(mask, lost)
    conceal(picture, mask, _faces(faces))


def _only(picture: Planes, result: FrameResult, target: Target) -> None:
    part = target.object is not None
    shown = [t for t in _selected(result, target) if target.member is not None or t.name is not None]
    known = [t for t in result.tracks if (t.name == target.member if target.member else t.name is not None)]
    others, lost = _by_state([t for t in result.tracks if part or t not in known])
    ours = _Labels(result, part=False).pixels(shown)
    keep = _Labels(result, part).pixels(shown) if part else ours
    strangers, tracked = _people(result)
    # The person map is coarse and wider than a track's mask: without this the member would wear a frosted halo.
    around = max(3, round(picture[0].shape[0] / 24) | 1)
    rect = bounding_rect(ours, pad=around)
    if rect is not None:
        grown = cv2.dilate(ours[rect.luma], np.ones((around, around), np.uint8))
        strangers[rect.luma] = cv2.subtract(strangers[rect.luma], grown)
    mask = cv2.bitwise_or(strangers, cv2.subtract(tracked, keep))
    _add_boxes(mask, lost)
    conceal(picture, mask, _faces([*others, *lost]), keep=keep)


def _people(result: FrameResult) -> tuple[np.ndarray, np.ndarray]:
    """Two (H, W) uint8 masks, 0 or 1: people who are no track, and people who are."""
    if result.label_map is None:
        return np.zeros((result.height, result.width), np.uint8), np.zeros((result.height, result.width), np.uint8)
    labels = result.label_map & np.uint8(LABEL_TRACK | LABEL_PERSON)
    strangers: np.ndarray = np.equal(labels, LABEL_PERSON)
    tracked: np.ndarray = np.not_equal(labels & np.uint8(LABEL_TRACK), 0)
    return strangers.view(np.uint8), tracked.view(np.uint8)


def _by_state(tracks: Sequence[Track]) -> tuple[list[Track], list[Track]]:
    """Those with a mask on this frame, and those without."""
    return [t for t in tracks if t.state == "tracked"], [t for t in tracks if t.state == "lost"]


def _add_boxes(mask: np.ndarray, lost: Sequence[Track]) -> None:
    """Fill the boxes: somebody to hide whom the engine lost a moment ago, or has no mask of yet, is likely there."""
    for track in lost:
        rect = even_rect(*track.box_xyxy, mask.shape[1], mask.shape[0])
        if rect is not None:
            mask[rect.luma] = 1


def _faces(tracks: Sequence[Track]) -> list[Box]:
    return [t.face_xyxy for t in tracks if t.face_xyxy is not None]

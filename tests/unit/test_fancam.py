"""The fancam's crop: the face stays in it, it moves calmly, it never shows nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from streamer.egress.labels import tag, text_pixels
from streamer.egress.overlay import draw
from streamer.egress.palette import MEMBER
from streamer.errors import ConfigError
from streamer.frames import Frame, planes
from streamer.offline.cast import Cast
from streamer.offline.fancam import HOLD_SECONDS, WINDOW_SECONDS, Fancam, View, crop_size, parse_aspect, show
from streamer.offline.film import Look, drawn
from streamer.tracks import FrameResult, Target, Track
from tests import media

WIDTH, HEIGHT, FPS = 1920, 1080, 25.0
FACE = 90.0

Way = Callable[[float], tuple[float, float] | None]
"""Seconds to the middle of the face; None: away."""


def track(x: float, y: float) -> Track:
    face = (x - FACE / 2, y - FACE / 2, x + FACE / 2, y + FACE / 2)
    return Track(1, "rei", 0.7, "tracked", (x - 150, y - 80, x + 150, HEIGHT), face, 1)


def views(way: Way, seconds: float, cuts: tuple[int, ...] = (), aspect: float = 9 / 16, fps: float = FPS) -> list[View]:
    camera: Fancam[int] = Fancam(WIDTH, HEIGHT, aspect, fps)
    shown: list[tuple[int, View]] = []
    for index in range(round(seconds * fps)):
        at = way(index / fps)
        shown += camera.step(index, None if at is None else track(*at), index in cuts)
    shown += camera.finish()
    assert [index for index, _ in shown] == list(range(round(seconds * fps)))
    return [view for _, view in shown]


def inside(view: View, at: tuple[float, float]) -> bool:
    """The whole face is in the view."""
    x, y = at
    half = FACE / 2
    return (
        view.x <= x - half
        and x + half <= view.x + view.width
        and view.y <= y - half
        and y + half <= view.y + view.height
    )


def share_inside(way: Way, seconds: float, **options: object) -> float:
    shown = views(way, seconds, **options)  # type: ignore[arg-type]
    seen = [(view, at) for n, view in enumerate(shown) if (at := way(n / FPS)) is not None]
    return sum(inside(view, at) for view, at in seen) / len(seen)


def bound(aspect: float = 9 / 16) -> float:
    """Pixels a second squared, as the module states it: the window's steepest change of slope times the way."""
    reach = WIDTH - crop_size(WIDTH, HEIGHT, aspect)[0]
    return 2 * math.pi * reach / WINDOW_SECONDS**2


def accelerations(shown: list[View], fps: float = FPS) -> np.ndarray:
    centres = np.array([view.x + view.width / 2 for view in shown])
    return np.abs(np.diff(centres, 2)) * fps * fps


def walking(t: float) -> tuple[float, float]:
    return 960 + 700 * math.sin(1.1 * t), 300 + 20 * math.sin(5 * t)


def trembling(t: float) -> tuple[float, float]:
    """A detector's noise on somebody who stands."""
    noise = math.sin(t * 917.0) * 12
    return 700 + noise, 300 + noise


def dancing(t: float) -> tuple[float, float]:
    return 960 + 250 * math.sin(4 * t) + 300 * math.sin(0.7 * t), 300


def jumping(t: float) -> tuple[float, float]:
    """From one end of the picture to the other, as no camera could follow."""
    return (200.0 if int(t / 2) % 2 == 0 else 1700.0), 300.0


@pytest.mark.parametrize("way", [walking, trembling, dancing])
def test_the_face_is_in_the_crop(way: Way) -> None:
    assert share_inside(way, 20) >= 0.99


@pytest.mark.parametrize("way", [walking, trembling, dancing, jumping])
@pytest.mark.parametrize("fps", [12.0, 25.0, 60.0])
def test_acceleration_is_bounded(way: Way, fps: float) -> None:
    assert accelerations(views(way, 20, fps=fps), fps).max() <= 1.15 * bound()


def test_noise_does_not_shake_the_camera() -> None:
    centres = np.array([view.x for view in views(trembling, 10)])
    assert centres.std() < 1.5


def test_views_stay_inside_the_picture_while_the_member_is_there() -> None:
    for view in views(walking, 10):
        assert view.x >= -1e-6
        assert view.x + view.width <= WIDTH + 1e-6
        assert (view.y, view.height) == (0, HEIGHT)


def gone_between(start: float, end: float) -> Way:
    return lambda t: None if start <= t < end else (1200.0, 300.0)


def test_it_holds_then_shows_the_whole_picture_then_comes_back() -> None:
    shown = views(gone_between(2, 6), 9)
    held = shown[round((2 + HOLD_SECONDS * 0.9) * FPS)]
    assert (held.x, held.width) == pytest.approx((shown[40].x, shown[40].width), abs=1)
    whole = shown[round(5 * FPS)]
    assert whole.x <= 0
    assert whole.y <= 0
    assert whole.x + whole.width >= WIDTH
    assert whole.y + whole.height >= HEIGHT
    assert shown[-1].width == pytest.approx(shown[40].width)
    widths = np.array([view.width for view in shown])
    assert np.abs(np.diff(widths)).max() < 0.2 * WIDTH  # it opens over some frames, not at once


def test_a_moment_out_of_sight_changes_nothing() -> None:
    shown = views(gone_between(2, 2.6), 5)
    assert {round(view.width) for view in shown} == {round(shown[0].width)}
    assert accelerations(shown).max() < 1


def test_a_cut_cuts_the_crop_too() -> None:
    def way(t: float) -> tuple[float, float]:
        return (300.0 if t < 2 else 1600.0), 300.0

    assert share_inside(way, 4, cuts=(50,)) == 1.0
    shown = views(way, 4, cuts=(50,))
    assert shown[49].x == pytest.approx(0, abs=1)
    assert shown[50].x > 1200


def test_a_shot_without_the_member_is_shown_whole_at_once() -> None:
    def way(t: float) -> tuple[float, float] | None:
        return (300.0, 300.0) if t < 2 else None

    shown = views(way, 4, cuts=(50,))
    assert shown[49].width < WIDTH
    assert shown[50].width >= WIDTH


def test_a_member_who_is_named_a_little_into_the_shot_is_framed_from_its_start() -> None:
    def way(t: float) -> tuple[float, float] | None:
        return None if t < 0.3 else (1500.0, 300.0)

    assert views(way, 2)[0].x == pytest.approx(views(way, 2)[20].x, abs=1)


def test_nobody_at_all_is_the_whole_picture() -> None:
    assert all(view.width >= WIDTH for view in views(lambda t: None, 2))


def test_an_upright_picture_is_followed_up_and_down() -> None:
    camera: Fancam[int] = Fancam(720, 1280, 1.0, FPS)
    assert camera.size == (720, 720)
    shown = []
    for index in range(50):
        shown += camera.step(index, track(360, 1000), False)
    shown += camera.finish()
    assert shown[-1][1].y > 400


def test_sizes_are_even_and_of_the_shape() -> None:
    assert crop_size(1920, 1080, 9 / 16) == (606, 1080)
    assert crop_size(640, 360, 1.0) == (360, 360)
    assert crop_size(1080, 1920, 16 / 9) == (1080, 606)


@pytest.mark.parametrize("text", ["9", "9:0", "wide", "0:9", "100:1", "-9:16", "9:16:1"])
def test_shapes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_aspect(text)


def test_a_crop_at_whole_pixels_is_exact() -> None:
    i420 = media.texture(320, 180)
    shown = show(i420, View(100, 0, 100, 180), (100, 180))
    for plane, source, part in zip(planes(shown), planes(i420), (1, 2, 2), strict=True):
        assert np.array_equal(plane, source[:, 100 // part : 200 // part])


def test_beyond_the_picture_there_is_no_black() -> None:
    i420 = np.full((270, 320), 128, np.uint8)
    i420[:180] = 150
    shown = show(i420, View(0, -195, 320, 570), (100, 180))
    luma = planes(shown)[0]
    assert luma.min() > 140
    assert luma.max() < 160


WIDE = (640, 360)
ALL_OF_IT = View(0 - 219, 0 - 390, 640 + 438, 360 + 780)


def seen(name: str, face: tuple[float, float, float, float]) -> FrameResult:
    x0, y0, x1, _ = face
    labels = np.zeros(WIDE[::-1], np.uint8)
    labels[round(y0) :, max(0, round(x0 - 40)) : round(x1 + 40)] = 1
    person = Track(1, name, 0.71, "tracked", (x0 - 40, y0, x1 + 40, 360), face, 1)
    return FrameResult(0, 0.0, *WIDE, "lite", True, (person,), labels)


@pytest.mark.parametrize("aspect", [9 / 16, 1.0])
@pytest.mark.parametrize("name", ["rei", "a rather long name of somebody", "안유진"])
@pytest.mark.parametrize("left", [0.0, 150.0, 300.0, 590.0])
def test_a_name_is_whole_in_the_crop(name: str, left: float, aspect: float) -> None:
    result, size = seen(name, (left, 90, left + 50, 150)), crop_size(*WIDE, aspect)
    frame = Frame(media.texture(*WIDE), 0, 0.0, 0.0)
    cast, look = Cast((name,)), Look("annotated", aspect)
    camera: Fancam[int] = Fancam(*WIDE, aspect, FPS)
    ((_, followed),) = [*camera.step(0, result.tracks[0], True), *camera.finish()]
    detail = tag(name, "0.71", *size, MEMBER).size
    for view in (followed, View(followed.x - 7.3, followed.y, followed.width, followed.height), ALL_OF_IT):
        with_name = planes(drawn(frame, result, cast, look, view, size)[0])[0]
        without = planes(show(draw(frame, result, "annotated", cast.target(), names=False), view, size))[0]
        changed = cv2.boundingRect((with_name != without).view(np.uint8))
        # All of the tag: at most a rounded corner's pixel less.
        assert changed[2] == pytest.approx(detail[0], abs=2)
        assert changed[3] == pytest.approx(detail[1], abs=2)


@pytest.mark.parametrize("name", ["rei", "a rather long name of somebody"])
@pytest.mark.parametrize("top", [-40.0, 0.0, 15.0])
@pytest.mark.parametrize("side", [50.0, 90.0, 150.0])
@pytest.mark.parametrize("aspect", [9 / 16, 1.0])
def test_the_name_of_a_head_at_the_upper_edge_leaves_the_chin_free(
    name: str, top: float, side: float, aspect: float
) -> None:
    """A face box ends at the chin or a little before it, and may be a moment old."""
    face = (300.0, top, 300.0 + 0.8 * side, top + side)
    result, size = seen(name, face), crop_size(*WIDE, aspect)
    frame = Frame(media.texture(*WIDE), 0, 0.0, 0.0)
    camera: Fancam[int] = Fancam(*WIDE, aspect, FPS)
    ((_, view),) = [*camera.step(0, result.tracks[0], True), *camera.finish()]
    with_name = planes(drawn(frame, result, Cast((name,)), Look("annotated", aspect), view, size)[0])[0]
    without = planes(show(draw(frame, result, "annotated", Target(name), names=False), view, size))[0]
    x0, _, x1, y1 = (round(at) for at in view.place(face, size))
    assert (with_name != without).any()
    assert not (with_name != without)[: round(y1 + 0.15 * side), x0:x1].any()


@pytest.mark.parametrize("size", [(202, 360), (606, 1080), (1080, 1920)])
def test_a_usual_name_is_not_shortened_in_an_upright_picture(size: tuple[int, int]) -> None:
    full = tag("Jang Wonyoung", "0.71", 2 * size[1], size[1], MEMBER)
    letters = text_pixels(*size) / text_pixels(2 * size[1], size[1])
    assert tag("Jang Wonyoung", "0.71", *size, MEMBER).size[0] == pytest.approx(full.size[0] * letters, rel=0.1)


def test_who_is_not_in_the_crop_has_no_name_in_it() -> None:
    result = seen("rei", (20, 90, 70, 150))
    frame, size, view = Frame(media.texture(*WIDE), 0, 0.0, 0.0), (202, 360), View(400, 0, 202, 360)
    i420, _ = drawn(frame, result, Cast(("rei",)), Look("annotated", 9 / 16), view, size)
    assert np.array_equal(i420, show(frame.i420, view, size))

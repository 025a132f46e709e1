"""What is drawn, judged by pixel values."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import pytest
from PIL import features
from skimage import data

from streamer.egress import labels
from streamer.egress.labels import Sticker, draw_tags
from streamer.egress.lettering import letters
from streamer.egress.overlay import draw
from streamer.egress.palette import MEMBER, track_colour
from streamer.frames import Frame, planes
from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, STYLES, Box, FrameResult, Style, Target, Track

LEFT: Box = (120.0, 60.0, 180.0, 130.0)
RIGHT: Box = (420.0, 80.0, 480.0, 150.0)


@lru_cache(maxsize=8)
def picture(width: int = 640, height: int = 360) -> Frame:
    """A photo with detail everywhere."""
    photo = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)
    bgr = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(1)
    noisy = np.clip(bgr.astype(np.int16) + rng.integers(-40, 40, bgr.shape), 0, 255).astype(np.uint8)
    i420 = cv2.cvtColor(noisy, cv2.COLOR_BGR2YUV_I420)
    i420.setflags(write=False)  # shared by tests, and nobody may draw into a frame
    return Frame(i420, 0, 0.0, 0.0)


def person(label_map: np.ndarray, face: Box, label: int, *, shirt: bool = True) -> None:
    """An ellipse for the head and one for the body, the body being the shirt."""
    x0, y0, x1, y1 = (round(v) for v in face)
    centre, size = ((x0 + x1) // 2, (y0 + y1) // 2), (x1 - x0, y1 - y0)
    body = label | LABEL_PERSON | (LABEL_OBJECT if shirt else 0)
    cv2.ellipse(label_map, (centre[0], y1 + size[1]), (size[0], size[1]), 0, 0, 360, (body,), -1)
    cv2.ellipse(label_map, centre, (size[0] // 2 + 6, size[1] // 2 + 8), 0, 0, 360, (label | LABEL_PERSON,), -1)


def result(*names: str | None, width: int = 640, height: int = 360, shirt: bool = True) -> FrameResult:
    """One or two people: the first on the left, the second on the right."""
    label_map = np.zeros((360, 640), np.uint8)
    tracks = []
    for label, (name, face) in enumerate(zip(names, (LEFT, RIGHT), strict=False), start=1):
        person(label_map, face, label, shirt=shirt)
        box = (face[0] - 30, face[1] - 10, face[2] + 30, face[3] + 140)
        prompt = "shirt" if shirt else None
        tracks.append(Track(label * 7, name, None if name is None else 0.62, "tracked", box, face, label, prompt))
    if (width, height) != (640, 360):
        label_map = cv2.resize(label_map, (width, height), interpolation=cv2.INTER_NEAREST)
        tracks = [
            replace(t, box_xyxy=_scaled(t.box_xyxy, width, height), face_xyxy=_scaled(t.face_xyxy, width, height))
            for t in tracks
        ]
    return FrameResult(0, 0.0, width, height, "test", True, tuple(tracks), label_map)


def _scaled(box: Box | None, width: int, height: int) -> Box:
    assert box is not None
    return box[0] * width / 640, box[1] * height / 360, box[2] * width / 640, box[3] * height / 360


def changed(frame: Frame, drawn: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose luma differs."""
    return planes(drawn)[0] != planes(frame.i420)[0]


def detail(luma: np.ndarray, mask: np.ndarray) -> float:
    """Mean strength of the fine structure in `mask`."""
    return float(np.abs(cv2.Laplacian(luma.astype(np.float32), cv2.CV_32F))[mask].mean())


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("size", [(16, 16), (18, 130), (320, 20), (322, 182), (640, 360)])
def test_draws_every_style_at_every_size_and_leaves_the_frame_alone(style: Style, size: tuple[int, int]) -> None:
    frame = picture(*size)
    before = frame.i420.copy()
    found = result("Wonyoung", None, width=size[0], height=size[1])
    targets = [Target(), Target("Wonyoung"), Target("Wonyoung", "shirt"), Target("nobody"), Target(None, "shirt")]
    for target, seen, notice in itertools.product(targets, (found, None), (None, "vision restarting")):
        drawn = draw(frame, seen, style, target, notice)
        assert drawn.shape == frame.i420.shape
        assert drawn.dtype == np.uint8
    assert np.array_equal(frame.i420, before)


def test_style_none_is_the_picture_itself() -> None:
    frame = picture()
    assert np.array_equal(draw(frame, result("Wonyoung"), "none", Target("Wonyoung")), frame.i420)


def test_tint_moves_the_mask_towards_the_colour_and_touches_nothing_else() -> None:
    frame, found = picture(), result("Wonyoung", "Yujin")
    drawn = draw(frame, found, "overlay", Target("Wonyoung"))
    mine = found.mask(found.tracks[0])
    inner = cv2.erode(mine.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)[::2, ::2]
    _, u, v = planes(drawn)
    _, u0, v0 = planes(frame.i420)
    assert np.abs(u[inner].astype(int) - MEMBER.u).mean() < 0.6 * np.abs(u0[inner].astype(int) - MEMBER.u).mean()
    assert np.abs(v[inner].astype(int) - MEMBER.v).mean() < 0.6 * np.abs(v0[inner].astype(int) - MEMBER.v).mean()
    far = ~cv2.dilate(mine.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)
    assert not changed(frame, drawn)[far].any()


def test_the_contour_follows_the_edge_of_the_mask() -> None:
    frame, found = picture(), result("Wonyoung")
    contour = draw(frame, found, "annotated", Target("Wonyoung"))
    mine = found.mask(found.tracks[0]).astype(np.uint8)
    edge = (mine - cv2.erode(mine, np.ones((3, 3), np.uint8))).astype(bool)
    inside = cv2.erode(mine, np.ones((15, 15), np.uint8)).astype(bool)
    distance = np.abs(planes(contour)[0].astype(int) - MEMBER.y)
    assert distance[edge].mean() < 0.5 * distance[inside].mean()


def test_everybody_is_drawn_in_a_colour_of_their_own() -> None:
    frame, found = picture(), result("Wonyoung", None)
    _, u, v = planes(draw(frame, found, "overlay", Target()))
    _, u0, v0 = planes(frame.i420)
    for track in found.tracks:
        mask, hue = found.mask(track)[::2, ::2], track_colour(track.id)
        for plane, plain, value in ((u, u0, hue.u), (v, v0, hue.v)):
            assert np.abs(plane[mask].astype(int) - value).mean() < np.abs(plain[mask].astype(int) - value).mean()
    assert len({track_colour(n).rgb for n in range(6)}) == 6


@pytest.mark.parametrize("style", ["annotated", "overlay"])
def test_lost_tracks_and_other_members_draw_nothing(style: Style) -> None:
    frame, found = picture(), result("Wonyoung", "Yujin")
    lost = replace(found, tracks=tuple(replace(t, state="lost", face_xyxy=None) for t in found.tracks))
    assert np.array_equal(draw(frame, lost, style, Target()), frame.i420)
    assert np.array_equal(draw(frame, found, style, Target("Rei")), frame.i420)


def test_somebody_of_whom_only_the_face_is_seen_has_a_name_and_no_tint() -> None:
    frame, found = picture(), result("Wonyoung")
    by_face = replace(found, tracks=(replace(found.tracks[0], state="lost"),), label_map=None)
    assert np.array_equal(draw(frame, by_face, "overlay", Target("Wonyoung")), frame.i420)
    where = changed(frame, draw(frame, by_face, "annotated", Target("Wonyoung")))
    assert cv2.boundingRect(where.view(np.uint8))[2:] == labels.tag("Wonyoung", "0.62", 640, 360, MEMBER).size
    x0, y0, x1, y1 = (round(side) for side in LEFT)
    assert not where[y0:y1, x0:x1].any()


def test_an_object_is_drawn_without_the_rest_of_the_person() -> None:
    frame, found = picture(), result("Wonyoung")
    drawn = draw(frame, found, "overlay", Target("Wonyoung", "shirt"))
    shirt = found.object_mask(found.tracks[0])
    assert changed(frame, drawn)[shirt].mean() > 0.9
    far = ~cv2.dilate(shirt.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)
    assert not changed(frame, drawn)[far].any()


def test_a_track_without_the_object_keeps_a_grey_tag_only() -> None:
    frame, found = picture(), result("Wonyoung", shirt=False)
    assert np.array_equal(draw(frame, found, "overlay", Target("Wonyoung", "shirt")), frame.i420)
    drawn = draw(frame, found, "annotated", Target("Wonyoung", "shirt"))
    tag = changed(frame, drawn)
    assert tag.any()
    ys, xs = np.nonzero(tag)
    assert ys.max() < LEFT[1] + 5, "the tag is over the head, and nothing is drawn on the person"
    plain = draw(frame, found, "annotated", Target("Wonyoung"))
    bar = np.s_[ys.min() // 2 + 3 : ys.max() // 2 - 3, xs.min() // 2]
    assert np.abs(planes(drawn)[1][bar].astype(int) - 128).max() < 20, "grey"
    assert np.abs(planes(plain)[1][bar].astype(int) - MEMBER.u).max() < 20, "in the member's colour"


def test_cutout_keeps_the_member_and_dims_the_rest() -> None:
    frame, found = picture(), result("Wonyoung", "Yujin")
    luma, u, _ = planes(draw(frame, found, "cutout", Target("Wonyoung")))
    luma0, u0, _ = planes(frame.i420)
    mine = found.mask(found.tracks[0]).astype(np.uint8)
    inside = cv2.erode(mine, np.ones((11, 11), np.uint8)).astype(bool)
    outside = ~cv2.dilate(mine, np.ones((11, 11), np.uint8)).astype(bool)
    assert np.abs(luma.astype(int) - luma0)[inside].max() <= 2
    assert luma[outside].mean() < 0.5 * luma0[outside].mean()
    assert (
        np.abs(u.astype(int) - 128)[outside[::2, ::2]].mean()
        < 0.3 * np.abs(u0.astype(int) - 128)[outside[::2, ::2]].mean()
    )


def test_hide_leaves_no_detail_of_the_member_and_all_of_the_others() -> None:
    frame, found = picture(), result("Wonyoung", "Yujin")
    drawn = draw(frame, found, "hide", Target("Wonyoung"))
    luma, luma0 = planes(drawn)[0], planes(frame.i420)[0]
    mine, other = (found.mask(t) for t in found.tracks)
    x0, y0, x1, y1 = (round(v) for v in LEFT)
    hidden = mine.copy()
    hidden[y0:y1, x0:x1] = True
    assert detail(luma, hidden) < 0.05 * detail(luma0, hidden)
    assert not changed(frame, drawn)[other].any()


def test_who_may_turn_out_to_be_the_member_is_hidden_until_then() -> None:
    frame, found = picture(), result(None, "Yujin")
    coming = replace(found, tracks=(replace(found.tracks[0], undecided=True), found.tracks[1]))
    for prompt in (None, "shirt"):
        drawn = draw(frame, coming, "hide", Target("Wonyoung", prompt))
        luma, luma0 = planes(drawn)[0], planes(frame.i420)[0]
        new, yujin = (found.mask(t) for t in found.tracks)
        assert detail(luma, new) < 0.05 * detail(luma0, new)
        assert not changed(frame, drawn)[yujin].any()
    assert np.array_equal(draw(frame, found, "hide", Target("Wonyoung")), frame.i420), "decided: it is nobody"
    # Yujin is in sight, so that the other one cannot be her.
    drawn = draw(frame, coming, "hide", Target("Yujin"))
    assert not changed(frame, drawn)[new].any()


def test_hiding_again_what_moved_by_a_pixel_still_shows_nothing() -> None:
    """Frosting keeps a few values a face: a face of 60 pixels can be told from another only by its mean colours."""
    frame, found = picture(), result("Wonyoung")
    luma = planes(draw(frame, found, "hide", Target("Wonyoung")))[0]
    x0, y0, x1, y1 = (round(v) for v in LEFT)
    face = luma[y0:y1, x0:x1].astype(np.float32)
    few = cv2.resize(
        cv2.resize(face, (6, 7), interpolation=cv2.INTER_AREA), face.shape[::-1], interpolation=cv2.INTER_CUBIC
    )
    assert np.abs(face - few)[8:-8, 8:-8].mean() < 2.5, "some forty values say all that is left"


def test_hide_an_object_leaves_the_face() -> None:
    frame, found = picture(), result("Wonyoung")
    drawn = draw(frame, found, "hide", Target("Wonyoung", "shirt"))
    luma, luma0 = planes(drawn)[0], planes(frame.i420)[0]
    assert detail(luma, found.object_mask(found.tracks[0])) < 0.1 * detail(luma0, found.object_mask(found.tracks[0]))
    assert not changed(frame, drawn)[round(LEFT[1]) : round(LEFT[3]) - 30, round(LEFT[0]) : round(LEFT[2])].any()


def test_only_keeps_the_member_to_the_pixel_and_hides_everybody_else() -> None:
    frame, found = picture(), result("Wonyoung", None)
    assert found.label_map is not None
    stranger = np.zeros((360, 640), bool)
    stranger[200:330, 540:620] = True
    found.label_map[stranger] = LABEL_PERSON
    drawn = draw(frame, found, "only", Target("Wonyoung"))
    luma, luma0 = planes(drawn)[0], planes(frame.i420)[0]
    mine, other = (found.mask(t) for t in found.tracks)
    assert not changed(frame, drawn)[mine].any()
    assert detail(luma, other) < 0.05 * detail(luma0, other)
    assert detail(luma, stranger) < 0.05 * detail(luma0, stranger)
    x0, y0, x1, y1 = (round(v) for v in RIGHT)
    assert detail(luma[y0:y1, x0:x1], np.ones((y1 - y0, x1 - x0), bool)) < 0.1 * detail(luma0, other)
    assert not changed(frame, drawn)[:40].any(), "where nobody is, nothing is hidden"


def test_a_member_lost_a_moment_ago_stays_hidden() -> None:
    frame, found = picture(), result("Wonyoung")
    track = replace(found.tracks[0], state="lost")
    lost = replace(found, tracks=(track,), label_map=None)
    luma, luma0 = planes(draw(frame, lost, "hide", Target("Wonyoung")))[0], planes(frame.i420)[0]
    box = np.zeros((360, 640), bool)
    x0, y0, x1, y1 = (round(v) for v in track.box_xyxy)
    box[y0:y1, x0:x1] = True
    assert detail(luma, box) < 0.05 * detail(luma0, box)
    assert np.array_equal(draw(frame, lost, "hide", Target("Rei")), frame.i420)
    assert np.array_equal(draw(frame, lost, "only", Target("Wonyoung")), frame.i420)
    assert detail(planes(draw(frame, lost, "only", Target("Rei")))[0], box) < 0.05 * detail(luma0, box)


def test_only_has_no_halo_where_the_person_map_is_a_little_wider_than_the_mask() -> None:
    frame, found = picture(), result("Wonyoung")
    assert found.label_map is not None
    mine = found.mask(found.tracks[0])
    wider = cv2.dilate(mine.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~mine
    found.label_map[wider] = LABEL_PERSON
    assert np.array_equal(draw(frame, found, "only", Target("Wonyoung")), frame.i420)


def test_only_hides_everybody_while_the_member_is_away_and_strangers_when_there_is_no_member() -> None:
    frame, found = picture(), result("Wonyoung", None)
    luma0 = planes(frame.i420)[0]
    away = planes(draw(frame, found, "only", Target("Rei")))[0]
    known = draw(frame, found, "only", Target())
    for track in found.tracks:
        assert detail(away, found.mask(track)) < 0.05 * detail(luma0, found.mask(track))
    assert not changed(frame, known)[found.mask(found.tracks[0])].any()
    assert detail(planes(known)[0], found.mask(found.tracks[1])) < 0.05 * detail(luma0, found.mask(found.tracks[1]))


@pytest.mark.parametrize("style", ["hide", "only"])
def test_without_a_result_the_private_styles_show_nothing(style: Style) -> None:
    frame = picture()
    everything = np.ones((360, 640), bool)
    other_size = result("Wonyoung", width=320, height=180)
    mixed = replace(result("Wonyoung"), tracks=(), label_map=None, between_shots=True)
    for seen in (None, other_size, mixed):
        luma, u, _ = planes(draw(frame, seen, style, Target("Wonyoung")))
        assert detail(luma, everything) < 0.03 * detail(planes(frame.i420)[0], everything)
        assert detail(u, everything[::2, ::2]) < 0.2 * detail(planes(frame.i420)[1], everything[::2, ::2])


@pytest.mark.parametrize("style", ["annotated", "overlay", "cutout", "none"])
def test_without_a_result_the_other_styles_show_the_clean_picture(style: Style) -> None:
    frame = picture()
    assert np.array_equal(draw(frame, None, style, Target("Wonyoung")), frame.i420)


@pytest.mark.parametrize("style", STYLES)
def test_the_notice_is_legible_and_stays_in_its_corner(style: Style) -> None:
    frame = picture()
    without, drawn = (draw(frame, None, style, Target(), notice) for notice in (None, "vision restarting"))
    banner = planes(drawn)[0] != planes(without)[0]
    ys, xs = np.nonzero(banner)
    assert ys.min() > 300
    assert xs.max() < 320
    strip = planes(drawn)[0][ys.min() : ys.max(), xs.min() : xs.max()]
    assert strip.max() > 220, "light letters"
    assert np.median(strip) < 90, "on a dark strip"


def test_a_long_notice_fits_the_picture() -> None:
    frame = picture(322, 182)
    drawn = draw(frame, None, "none", Target(), "camera: reconnecting in 2 s: " + "connection refused " * 9)
    assert np.nonzero(changed(frame, drawn))[1].max() < 322


@pytest.mark.parametrize(
    "head",
    [
        (0.0, 0.0, 30.0, 40.0),
        (610.0, 0.0, 640.0, 40.0),
        (0.0, 320.0, 40.0, 360.0),
        (-50.0, -60.0, 5.0, 4.0),
        (0.0, 0.0, 640.0, 360.0),
    ],
)
def test_tags_lie_inside_the_picture(head: Box) -> None:
    sticker = labels.tag("Wonyoung", "0.62", 640, 360, MEMBER)
    i420 = np.full((540, 640), 128, np.uint8)
    draw_tags(planes(i420), [(sticker, head)], [head])
    drawn = planes(i420)[0] != 128
    ys, xs = np.nonzero(drawn)
    assert (xs.max() - xs.min() + 1, ys.max() - ys.min() + 1) == sticker.size


def test_tags_of_people_side_by_side_do_not_overlap() -> None:
    heads: list[Box] = [(300.0 + 14 * n, 100.0, 340.0 + 14 * n, 150.0) for n in range(4)]
    stickers = [labels.tag(name, "0.50", 640, 360, MEMBER) for name in ("Gaeul", "Liz", "Leeseo", "Rei")]
    i420 = np.full((540, 640), 128, np.uint8)
    draw_tags(planes(i420), list(zip(stickers, heads, strict=True)), heads)
    drawn = int((planes(i420)[0] != 128).sum())
    assert drawn > 0.97 * sum(_area(s) for s in stickers)


def _area(sticker: Sticker) -> int:
    return int((sticker.keep[0] != 255).sum())


def test_the_tag_says_unknown_without_a_number_for_a_stranger() -> None:
    frame = picture()
    stranger = result(None)
    nearest = replace(stranger, tracks=(replace(stranger.tracks[0], similarity=0.31),))
    one, other = (draw(frame, r, "annotated", Target()) for r in (stranger, nearest))
    assert np.array_equal(one, other)


def test_pictures_too_small_for_text_get_none() -> None:
    frame, found = picture(96, 64), result("Wonyoung", width=96, height=64)
    drawn = draw(frame, found, "annotated", Target("Wonyoung"), "vision restarting")
    far = ~cv2.dilate(found.mask(found.tracks[0]).astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    assert not changed(frame, drawn)[far].any()


@pytest.mark.parametrize("text", ["Wonyoung", "장원영", "ลิซ่า", "張員瑛", "ウォニョン", "Зоя", "Ελένη", "🐰", "💜"])
def test_letters_of_every_script_are_drawn_and_not_replaced(text: str) -> None:
    shown = letters(text, 28).coverage
    assert shown.max() > 200
    assert not np.array_equal(shown, letters("?" * len(text), 28).coverage)
    assert not np.array_equal(letters(text[0], 28).coverage, letters("?", 28).coverage)


@pytest.mark.skipif(not features.check("raqm"), reason="this Pillow shapes no text")
@pytest.mark.parametrize(
    "emoji",
    [
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # family
        "\U0001f44d\U0001f3fd",  # skin
        "\U0001f1f0\U0001f1f7",  # flag
        "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # flag of a part of a country
        "\U0001f3f3\ufe0f\u200d\U0001f308",
        "\U0001f469\U0001f3fd\u200d\U0001f680",
        "1\ufe0f\u20e3",
    ],
)
def test_an_emoji_of_several_code_points_is_one_picture(emoji: str) -> None:
    one = letters("\U0001f430", 28).coverage
    shown = letters(emoji, 28).coverage
    assert shown.shape == one.shape
    assert shown.max() > 200
    # Skin has no colour in letters of one colour.
    assert np.array_equal(shown, letters(emoji[0], 28).coverage) == (len(emoji) == 2 and emoji[1] == "\U0001f3fd")
    # Between letters, and beside another.
    assert letters(f"Rei{emoji}{emoji}Liz", 28).coverage.shape[1] == sum(
        letters(part, 28).coverage.shape[1] for part in ("Rei", emoji, emoji, "Liz")
    )


def test_code_points_that_make_no_emoji_together_are_drawn_apart() -> None:
    rabbit, heart = "\U0001f430", "\U0001f49c"
    apart = letters(f"{rabbit}{heart}", 28).coverage
    assert np.array_equal(letters(f"{rabbit}\u200d{heart}", 28).coverage, apart)


def test_what_no_font_has_becomes_a_question_mark_and_what_steers_is_dropped() -> None:
    assert np.array_equal(letters("\U0010fffd", 24).coverage, letters("?", 24).coverage)
    assert np.array_equal(letters("Rei\u202e\u200d\n", 24).coverage, letters("Rei", 24).coverage)
    assert letters("", 24).coverage.shape[1] >= 1


@pytest.mark.parametrize("name", ["W" * 500, "장" * 200, " ", "👩‍👩‍👧‍👦", "x"])
def test_odd_names_give_a_tag_that_fits(name: str) -> None:
    for width, height in ((160, 120), (640, 360), (1920, 1080), (160, 1920)):
        sticker = labels.tag(name, "0.62", width, height, MEMBER)
        assert sticker.size[0] <= width
        assert sticker.size[1] <= height

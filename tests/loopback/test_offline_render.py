"""Renders that promise to hide somebody: what they do where the sidecar says nothing, or is another clip's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from streamer.contract import encode_mask, result_json
from streamer.egress.encoder import EncodedFrame
from streamer.egress.h264 import H264Encoder
from streamer.egress.recorder import Recorder
from streamer.errors import MemberUnknown, SourceUnusable
from streamer.offline.cast import Cast
from streamer.offline.film import Look
from streamer.offline.render import RenderOrder, render
from streamer.offline.sight import Sight
from streamer.offline.video import VideoOrder, VideoResult, process
from streamer.service.settings import VideoSettings
from streamer.tracks import LABEL_PERSON, FrameResult, Style, Track
from tests import media

PRIVATE: tuple[Style, ...] = ("hide", "only")
Line = dict[str, Any]


def told(sight: Sight, clip: Path, **options: object) -> Path:
    """The sidecar of a clip."""
    out = clip.with_name(f"{clip.stem}-seen.mp4")
    process(VideoOrder(clip, out, Cast(("rei",)), Look("none"), **options), sight)  # type: ignore[arg-type]
    return out.with_suffix(".jsonl")


def cut(sidecar: Path, lines: int) -> Path:
    """A sidecar with the first lines of another."""
    short = sidecar.with_name("short.jsonl")
    short.write_text("".join(sidecar.read_text().splitlines(keepends=True)[:lines]))
    return short


def sharpness(path: Path) -> list[float]:
    """Of each picture of `media.numbered` but the first: the step in its middle, as a share of what it is there."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    rows = [picture[: picture.shape[0] * 2 // 3].astype(int) for picture in pictures]
    steps = [float(np.abs(np.diff(each, axis=0)).max()) for each in rows]
    return [step / (4 + 6 * index) for index, step in enumerate(steps)][1:]


def made(sight: Sight, clip: Path, sidecar: Path, style: Style) -> list[float]:
    """How sharp the pictures of a render are."""
    out = clip.with_name("again.mp4")
    render(RenderOrder(clip, sidecar, out, Look(style)), sight.settings.video)
    return sharpness(out)


@pytest.mark.parametrize("style", PRIVATE)
def test_a_picture_without_a_line_is_frosted_as_a_whole(sight: Sight, tmp_path: Path, style: Style) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    sidecar = told(sight, clip)
    assert min(made(sight, clip, sidecar, style)) > 0.7
    sharp = made(sight, clip, cut(sidecar, 6), style)
    assert len(sharp) == 9
    assert min(sharp[:5]) > 0.7 > 0.3 > max(sharp[5:])
    assert min(made(sight, clip, cut(sidecar, 6), "annotated")) > 0.7


@pytest.mark.parametrize("style", PRIVATE)
@pytest.mark.parametrize("unsure", [{"engine": "none"}, {"between_shots": True}])
def test_a_line_that_tells_nobody_apart_frosts_the_picture(
    sight: Sight, tmp_path: Path, style: Style, unsure: dict[str, object]
) -> None:
    """In a recording: of the time in which vision was away. In both: while one shot fades into the next."""
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    sidecar = told(sight, clip)
    lines = [json.loads(line) for line in sidecar.read_text().splitlines()]
    for line in lines[:4]:
        line.update(tracks=[], **unsure)
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sharp = made(sight, clip, sidecar, style)
    assert max(sharp[:3]) < 0.3 < 0.7 < min(sharp[3:])


def test_hide_hides_from_where_the_person_came_in_not_from_where_the_stream_knew_the_name(
    sight: Sight, tmp_path: Path
) -> None:
    """A recording's lines have a name when the stream had it, some frames late."""
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    sidecar = told(sight, clip)
    lines = [json.loads(line) for line in sidecar.read_text().splitlines()]
    # All of the picture is the person: what is not frosted is somebody to be seen.
    everywhere = encode_mask(np.ones(lines[0]["size"][::-1], bool))
    for number, line in enumerate(lines):
        line["tracks"][0].update(mask=everywhere, name="rei" if number >= 4 else None)
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert max(made(sight, clip, sidecar, "hide")) < 0.3
    # Somebody else, who has no name in all of the clip, stays.
    for line in lines[:4]:
        line["tracks"][0]["id"] += 1
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sharp = made(sight, clip, sidecar, "hide")
    assert min(sharp[:3]) > 0.7 > 0.3 > max(sharp[3:])


def test_hide_hides_who_lost_the_name_and_may_still_be_the_member(sight: Sight, tmp_path: Path) -> None:
    """Who turns away for long has no name until the face is seen again. A stream frosts them, and so must this."""
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 600, 40))
    sidecar = told(sight, clip)
    lines = [json.loads(line) for line in sidecar.read_text().splitlines()]
    everywhere = encode_mask(np.ones(lines[0]["size"][::-1], bool))
    for number, line in enumerate(lines):
        line["tracks"][0].update(mask=everywhere, name="rei" if number < 5 else None)
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert min(made(sight, clip, sidecar, "hide")[5:]) > 0.7, "they have turned out to be nobody"
    for line in lines[5:]:
        line["undecided"] = [line["tracks"][0]["id"]]
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert max(made(sight, clip, sidecar, "hide")) < 0.3


@pytest.mark.parametrize("style", [*PRIVATE, "annotated"])
def test_the_sidecar_of_a_clip_of_another_size_is_refused(sight: Sight, tmp_path: Path, style: Style) -> None:
    sidecar = told(sight, media.video(tmp_path / "other.mp4", size=(320, 180)))
    clip = media.video(tmp_path / "in.mp4", size=(480, 270))
    with pytest.raises(SourceUnusable, match=r"of 320x180.* 480x270.*do not belong together"):
        made(sight, clip, sidecar, style)
    assert not (tmp_path / "again.mp4").exists()
    # An odd side is cut: lines and pictures are of the size as shown.
    odd = media.video(tmp_path / "odd.mkv", size=(321, 181), pixel_format="yuv444p")
    assert made(sight, odd, told(sight, odd), "hide")
    turned = media.rotated(tmp_path / "turned.mp4", 90)
    assert made(sight, turned, told(sight, turned), "hide")


@pytest.mark.parametrize("style", PRIVATE)
def test_a_sidecar_with_more_lines_than_the_clip_has_pictures(sight: Sight, tmp_path: Path, style: Style) -> None:
    sidecar = told(sight, media.video(tmp_path / "other.mp4", times_ms=range(0, 800, 40)))
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    with pytest.raises(SourceUnusable, match=r"20 lines.* 10 pictures.*do not belong together"):
        made(sight, clip, sidecar, style)
    assert not (tmp_path / "again.mp4").exists()
    assert len(made(sight, clip, sidecar, "annotated")) == 9


@pytest.mark.parametrize("style", [*PRIVATE, "annotated"])
def test_a_sidecar_of_other_times_is_refused(sight: Sight, tmp_path: Path, style: Style) -> None:
    sidecar = told(sight, media.video(tmp_path / "long.mp4", times_ms=range(0, 4000, 40)), from_seconds=3.0)
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 2000, 40))
    with pytest.raises(SourceUnusable, match=r"not one line of it .*do not belong together"):
        made(sight, clip, sidecar, style)
    # Within the same seconds, but between the pictures.
    shifted = media.video(tmp_path / "shifted.mp4", times_ms=[0, *range(60, 4000, 40)])
    with pytest.raises(SourceUnusable, match=r"not one line of it .*do not belong together"):
        made(sight, shifted, sidecar, style)
    assert not (tmp_path / "again.mp4").exists()


# --- sidecars of recordings: their lines tell the time of the stream, and not when a picture of the file is shown ---


def recording(folder: Path, seconds: Sequence[float], first: int = 700) -> tuple[Path, Path]:
    """What the recorder makes of a stream's pictures at `seconds` of its clock, from picture `first` on.

    Pictures are as `media.numbered`; in the lines rei stands at the left edge, and somebody who is no track to the
    right. One whose time is that of the picture before it is that picture once more, as for a keyframe.
    """
    codec = H264Encoder("libx264", 320, 180, 25, VideoSettings())
    recorder = Recorder(folder, "s1", None, keyframe=lambda: None)
    index, pts = first - 1, -1
    for number, at in enumerate(seconds):
        index += number == 0 or at != seconds[number - 1]
        pts = max(round(at * 90_000), pts + 1)
        labels = np.zeros((180, 320), np.uint8)
        labels[60:120, :16] = LABEL_PERSON | 1
        labels[40:140, 200:300] = LABEL_PERSON
        box = (0.0, 60.0, 16.0, 120.0)
        rei = Track(1, "rei", 0.6, "tracked", box, None, 1)
        line = json.dumps(result_json(FrameResult(index, at, 320, 180, "lite", False, (rei,), labels))).encode()
        for data, keyframe in codec.encode(media.numbered(320, 180, index - first), pts, number % 10 == 0):
            recorder.put(EncodedFrame(data, keyframe, pts, 320, 180, index, at, time.monotonic(), line))
    recorder.close()
    state = recorder.state()
    assert state["frames"] == len(seconds), state
    return Path(state["path"]), Path(state["sidecar"])


def changed(sidecar: Path, change: Callable[[list[Line]], list[Line]]) -> Path:
    """A sidecar whose lines are what `change` makes of those of another."""
    other = sidecar.with_name("changed.jsonl")
    lines = change([json.loads(line) for line in sidecar.read_text().splitlines()])
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return other


def same_times(lines: list[Line]) -> list[Line]:
    return [{**line, "pts": lines[0]["pts"]} for line in lines]


STEADY = [20 + number / 25 for number in range(20)]
UNEVEN = [*STEADY[:5], STEADY[4], STEADY[4], *[at + 2.4 for at in STEADY[5:9]], *[at + 3 for at in STEADY[12:]]]
"""With a picture that is there three times, a pause, and pictures that never came to the file."""


@pytest.mark.parametrize("seconds", [STEADY, UNEVEN, [number / 25 for number in range(20)]])
@pytest.mark.parametrize("style", PRIVATE)
def test_a_recordings_lines_are_matched_by_their_times(
    sight: Sight, tmp_path: Path, style: Style, seconds: list[float]
) -> None:
    clip, sidecar = recording(tmp_path, seconds)
    sharp = made(sight, clip, sidecar, style)
    assert len(sharp) == len(seconds) - 1
    assert min(sharp[5:]) > 0.5, "no picture is frosted as a whole"


WRONG: dict[str, Callable[[list[Line]], list[Line]]] = {
    "shifted, the last ones again": lambda lines: [*lines[3:], *lines[-3:]],
    "shifted, the first ones again": lambda lines: [*lines[:1] * 3, *lines[:-3]],
    "turned round": lambda lines: [*lines[3:], *lines[:3]],
    "reversed": lambda lines: lines[::-1],
    "cut at the front": lambda lines: lines[3:],
    "cut at the end": lambda lines: lines[:-3],
    "cut in the middle": lambda lines: [*lines[:5], *lines[8:]],
    "all of one time": same_times,
    "of another rate": lambda lines: [{**line, "pts": line["pts"] * 1.1} for line in lines],
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("style", PRIVATE)
def test_lines_of_a_recording_that_were_changed_are_refused(
    sight: Sight, tmp_path: Path, style: Style, how: str
) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    before = set(tmp_path.iterdir())
    with pytest.raises(SourceUnusable, match=r"\d lines.* 20 pictures.*do not belong together"):
        made(sight, clip, changed(sidecar, WRONG[how]), style)
    assert set(tmp_path.iterdir()) == before | {tmp_path / "changed.jsonl"}


@pytest.mark.parametrize("how", [how for how in WRONG if how not in ("cut at the end", "cut in the middle")])
@pytest.mark.parametrize("style", PRIVATE)
def test_lines_of_a_file_that_were_changed_are_refused(sight: Sight, tmp_path: Path, style: Style, how: str) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 800, 40))
    with pytest.raises(SourceUnusable, match="do not belong together"):
        made(sight, clip, changed(told(sight, clip), WRONG[how]), style)
    assert not (tmp_path / "again.mp4").exists()


@pytest.mark.parametrize("how", WRONG)
def test_other_styles_say_so(sight: Sight, tmp_path: Path, how: str) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    wrong = changed(sidecar, WRONG[how])
    done: VideoResult = render(RenderOrder(clip, wrong, tmp_path / "again.mp4", Look("cutout")), sight.settings.video)
    assert done.frames == 20
    assert any("may be of another" in note for note in done.notes), done.notes
    assert not render(RenderOrder(clip, sidecar, tmp_path / "again.mp4", Look("cutout")), sight.settings.video).notes


def test_a_line_without_a_time_is_no_line(sight: Sight, tmp_path: Path) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    times = [("pts", value) for value in (None, "soon", float("nan"), 1e305)]
    for key, value in [*times, ("frame", None), ("tracks", None)]:
        with pytest.raises(SourceUnusable, match=rf"line 3: not the JSON of a frame.*{key}"):
            made(sight, clip, changed(sidecar, lambda lines: [*lines[:2], {**lines[2], key: value}]), "hide")  # noqa: B023


@pytest.mark.parametrize("undecided", [None, "1", 1, {"1": True}])
def test_undecided_that_are_no_list_are_refused_not_passed_over(
    sight: Sight, tmp_path: Path, undecided: object
) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    wrong = changed(sidecar, lambda lines: [{**line, "undecided": undecided} for line in lines])
    with pytest.raises(SourceUnusable, match="undecided is"):
        made(sight, clip, wrong, "hide")


@pytest.mark.parametrize("counts", [None, 7, [1, 2], "?"])
def test_a_mask_that_is_none_is_refused_and_nothing_is_left(sight: Sight, tmp_path: Path, counts: object) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    size = [180, 320]

    def spoilt(lines: list[Line]) -> list[Line]:
        (track,) = lines[4]["tracks"]
        track["mask"] = {"size": size, "counts": counts}
        return lines

    wrong = changed(sidecar, spoilt)
    before = set(tmp_path.iterdir())
    if counts == "?":
        assert made(sight, clip, wrong, "annotated"), "short counts are an empty mask"
        return
    with pytest.raises(SourceUnusable, match="frame 704 of the sidecar cannot be read"):
        made(sight, clip, wrong, "annotated")
    assert set(tmp_path.iterdir()) == before


# --- whom it is asked to hide ---


def nameless(lines: list[Line]) -> list[Line]:
    return [{**line, "tracks": [{**track, "name": None} for track in line["tracks"]]} for line in lines]


def shown(sight: Sight, clip: Path, sidecar: Path, style: Style, *members: str) -> VideoResult:
    return render(
        RenderOrder(clip, sidecar, clip.with_name("again.mp4"), Look(style), members=members), sight.settings.video
    )


@pytest.mark.parametrize("style", PRIVATE)
def test_who_is_never_named_cannot_be_hidden(sight: Sight, tmp_path: Path, style: Style) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    for members in (("rej",), ("rei", "rej")):
        with pytest.raises(MemberUnknown, match=r"never names 'rej'; it names 'rei'"):
            shown(sight, clip, sidecar, style, *members)
    with pytest.raises(MemberUnknown, match=r"never names 'rei'; it names nobody"):
        shown(sight, clip, changed(sidecar, nameless), style, "rei")
    assert not (tmp_path / "again.mp4").exists()
    # As the gallery has it: case and width of letters do not count.
    assert shown(sight, clip, sidecar, style, " Ｒei").seen == {"rei": 20}


def test_hide_of_everybody_where_nobody_is_named(sight: Sight, tmp_path: Path) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    unnamed = changed(sidecar, nameless)
    with pytest.raises(MemberUnknown, match=r"names nobody.*hide would hide nobody"):
        shown(sight, clip, unnamed, "hide")
    assert not (tmp_path / "again.mp4").exists()
    assert shown(sight, clip, unnamed, "only").frames == 20


def test_who_is_never_named_is_said_in_other_styles(sight: Sight, tmp_path: Path) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    done = shown(sight, clip, sidecar, "annotated", "rej", "rei")
    assert done.seen == {"rej": 0, "rei": 20}
    assert any("never names 'rej'; it names 'rei'" in note for note in done.notes), done.notes


# --- people whom the sidecar does not name ---


def steps(path: Path, columns: slice) -> list[float]:
    """As `sharpness`, but of these columns only, and of each picture."""
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="gray")[:, columns].astype(int) for frame in container.decode(video=0)]
    return [float(np.abs(np.diff(each, axis=0)).max()) / (4 + 6 * index) for index, each in enumerate(pictures)]


def test_only_hides_people_who_are_no_track(sight: Sight, tmp_path: Path) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    assert not shown(sight, clip, sidecar, "only").notes
    stranger, rei = (steps(clip.with_name("again.mp4"), columns) for columns in (slice(210, 290), slice(0, 14)))
    assert max(stranger[5:]) < 0.4 < 0.6 < min(rei[5:])


def test_only_says_where_nothing_is_known_of_people_who_are_no_track(sight: Sight, tmp_path: Path) -> None:
    clip, sidecar = recording(tmp_path, STEADY)
    bare = changed(sidecar, lambda lines: [{k: v for k, v in line.items() if k != "people"} for line in lines])
    assert any("whose face was never found" in note for note in shown(sight, clip, bare, "only").notes)
    assert not shown(sight, clip, bare, "hide").notes


def test_hide_says_whose_masks_are_not_new_on_every_picture(sight: Sight, tmp_path: Path) -> None:
    """Of people whom the sidecar was not written for; recordings do not say."""
    clip, sidecar = recording(tmp_path, STEADY)

    def noted(style: str, *members: str) -> list[str]:
        made_of = {"style": style, "members": list(members)}
        of = changed(sidecar, lambda lines: [{**lines[0], "made_of": made_of}, *lines[1:]])
        return shown(sight, clip, of, "hide").notes

    assert any("made for 'lin'" in note and "'rei'" in note for note in noted("annotated", "lin"))
    assert noted("annotated", "rei") == noted("annotated", "lin", "liz") == noted("hide", "lin") == []

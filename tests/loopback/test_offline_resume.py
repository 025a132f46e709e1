"""`--resume` given every time, as a script does that starts again whatever happened: no work is lost by it."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from streamer.errors import OutputError, SourceUnusable
from streamer.offline.cast import Cast
from streamer.offline.film import Look
from streamer.offline.progress import Progress
from streamer.offline.render import RenderOrder, render
from streamer.offline.sight import Sight
from streamer.offline.video import VideoOrder, VideoResult, process
from streamer.vision.loading import build_models
from tests import media

FRAMES = 100


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return media.video(tmp_path / "in.mp4", times_ms=range(0, FRAMES * 40, 40))


def order(clip: Path, *, resume: bool = False, style: str = "none", member: str = "rei") -> VideoOrder:
    return VideoOrder(clip, clip.with_name("out.mp4"), Cast((member,)), Look(style), resume=resume)  # type: ignore[arg-type]


def stopped(sight: Sight, wanted: VideoOrder, after: int = 20) -> VideoResult:
    """What a run leaves that is stopped in order, once it is told of `after` frames."""
    vision = sight.settings.vision.model_copy(update={"synthetic_delay_seconds": 0.03})
    settings = sight.settings.model_copy(update={"vision": vision})
    slow = Sight(settings, build_models(vision, settings.data_folder), sight.known)
    stop = threading.Event()

    def on_progress(progress: Progress) -> None:
        if progress.done >= after:
            stop.set()

    done = process(wanted, slow, on_progress, stop)
    assert done.interrupted
    return done


def pictures(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def files(clip: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in clip.parent.iterdir() if path.is_file() and path != clip}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_finished_file_is_left_as_it_is(sight: Sight, clip: Path, suffix: str) -> None:
    def wanted(**options: Any) -> VideoOrder:
        return replace(order(clip, **options), output=clip.with_name(f"out{suffix}"))

    first = process(wanted(), sight)
    before = files(clip)
    assert set(before) == {f"out{suffix}", "out.jsonl"}
    again = process(wanted(resume=True), sight)
    assert files(clip) == before
    assert (again.already, again.interrupted, again.frames, again.size) == (True, False, FRAMES, (320, 180))
    assert (again.seconds, again.fps) == (pytest.approx(first.seconds, abs=0.05), first.fps)
    assert (again.seen, again.resumed_frames) == (first.seen, FRAMES)
    # Moved, and copied without its times, it is the same clip and the same output still.
    elsewhere = clip.parent / "elsewhere"
    elsewhere.mkdir()
    for name in before:
        os.rename(clip.with_name(name), elsewhere / name)
    moved = elsewhere / "copy.mp4"
    moved.write_bytes(clip.read_bytes())
    assert process(replace(wanted(resume=True), clip=moved, output=elsewhere / f"out{suffix}"), sight).already
    # Without --resume it is made anew.
    assert not process(wanted(), sight).already


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"look": Look("hide")}, "style was 'none' and is 'hide' now"),
        ({"look": Look("none", fancam=9 / 16)}, "fancam was None and is 0.5625 now"),
        ({"cast": Cast(("lin",))}, r"members was \['rei'\] and is \['lin'\] now"),
        ({"cast": Cast(("rei",), "hair")}, "object was None and is 'hair' now"),
        ({"every": 2}, "every was 1 and is 2 now"),
        ({"to_seconds": 2.0}, "to was None and is 2.0 now"),
        ({"clip": Path("other.mp4")}, r"it was made of another file, in.mp4"),
        ({"clip": Path("missing.mp4")}, r"cannot read .*missing.mp4"),
    ],
)
def test_a_finished_file_that_is_not_what_is_asked_for_is_refused(
    sight: Sight, clip: Path, change: dict[str, Any], said: str
) -> None:
    process(order(clip), sight)
    media.video(clip.with_name("other.mp4"), times_ms=range(0, FRAMES * 40, 40), options={"preset": "medium"})
    before = files(clip)
    if "clip" in change:
        change = {"clip": clip.with_name(change["clip"].name)}
    with pytest.raises((OutputError, SourceUnusable), match=said):
        process(replace(order(clip, resume=True), **change), sight)
    assert files(clip) == before


def test_a_finished_file_that_does_not_say_what_it_is_is_refused(sight: Sight, clip: Path) -> None:
    """An older version wrote it, or a render took its place."""
    process(order(clip), sight)
    sidecar = clip.with_name("out.jsonl")
    render(RenderOrder(clip, sidecar, clip.with_name("out.mp4"), Look("annotated")), sight.settings.video)
    before = files(clip)
    refusal = r"out.mp4 is there already and does not say what it was made of.*left as it is: choose another name"
    with pytest.raises(OutputError, match=refusal):
        process(order(clip, resume=True), sight)
    assert files(clip) == before
    process(order(clip), sight)
    said = [json.loads(line) for line in sidecar.read_text().splitlines()]
    del said[0]["made_of"]
    sidecar.write_text("".join(json.dumps(line) + "\n" for line in said))
    with pytest.raises(OutputError, match=refusal):
        process(order(clip, resume=True), sight)


def test_the_video_names_nobody(sight: Sight, clip: Path) -> None:
    """It is what is shown to others; the sidecar is not."""
    process(order(clip, style="hide", member="secret name"), sight)
    data = clip.with_name("out.mp4").read_bytes()
    assert b"secret" not in data
    assert b"in.mp4" not in data


def test_a_clip_whose_name_is_no_utf8_is_a_clip(sight: Sight, clip: Path) -> None:
    odd = clip.with_name(os.fsdecode(b"caf\xe9.mp4"))
    os.rename(clip, odd)
    process(order(odd), sight)
    assert process(order(odd, resume=True), sight).already


def test_another_file_under_that_name_is_left_as_it_is(sight: Sight, clip: Path) -> None:
    out = clip.with_name("out.mp4")
    out.write_text("somebody's notes")
    with pytest.raises(OutputError, match=r"out.mp4 is there already.*leave --resume out to make it anew"):
        process(order(clip, resume=True), sight)
    assert out.read_text() == "somebody's notes"


def test_a_whole_file_is_there_until_the_new_one_is_whole(sight: Sight, clip: Path) -> None:
    process(order(clip), sight)
    whole = files(clip)
    part = stopped(sight, order(clip, style="hide"))
    assert part.output.name == "out.part.mp4"
    assert 0 < part.frames == pictures(part.output) < FRAMES
    assert {name: files(clip)[name] for name in whole} == whole
    assert set(files(clip)) == {*whole, "out.part.mp4", "out.part.jsonl", "out.resume.json"}
    # Stopped once more, and then not at all.
    more = stopped(sight, order(clip, style="hide", resume=True), after=part.frames + 15)
    assert more.resumed_frames == part.frames < more.frames == pictures(more.output) < FRAMES
    assert {name: files(clip)[name] for name in whole} == whole
    done = process(order(clip, style="hide", resume=True), sight)
    assert (done.frames, done.resumed_frames) == (FRAMES, more.frames)
    assert set(files(clip)) == set(whole)
    assert files(clip)["out.mp4"] != whole["out.mp4"]


def test_a_killed_run_does_not_go_on_with_the_pictures_of_an_earlier_one(sight: Sight, clip: Path) -> None:
    process(order(clip), sight)
    part = stopped(sight, order(clip, style="hide"))
    for name in ("out.part.mp4", "out.part.jsonl"):
        os.unlink(clip.with_name(name))  # killed before there was a fragment
    done = process(order(clip, style="hide", resume=True), sight)
    assert (done.frames, done.resumed_frames) == (FRAMES, 0)
    assert part.frames


def test_stopped_while_it_copies_what_there_is_nothing_is_lost(sight: Sight, clip: Path) -> None:
    first = stopped(sight, order(clip), after=50)
    before = files(clip)
    assert set(before) == {"out.mp4", "out.jsonl", "out.resume.json"}
    stop = threading.Event()
    stop.set()
    at_once = process(order(clip, resume=True), sight, stop=stop)
    assert (at_once.interrupted, at_once.frames) == (True, first.frames)
    assert files(clip) == before
    early = stopped(sight, order(clip, resume=True), after=1)
    assert early.frames >= first.frames
    done = process(order(clip, resume=True), sight)
    assert (done.frames, done.resumed_frames) == (FRAMES, early.frames)
    assert set(files(clip)) == {"out.mp4", "out.jsonl"}

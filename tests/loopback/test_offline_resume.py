"""`--resume` given every time, as a script does that starts again whatever happened: no work is lost by it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import av
import pytest

from streamer.errors import OutputError
from streamer.offline.cast import Cast
from streamer.offline.film import Look
from streamer.offline.progress import Progress
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


@pytest.mark.parametrize("member", ["rei", "lin"])
def test_a_finished_file_is_left_as_it_is(sight: Sight, clip: Path, member: str) -> None:
    first = process(order(clip), sight)
    before = files(clip)
    again = process(order(clip, resume=True, member=member), sight)
    assert files(clip) == before
    assert (again.already, again.interrupted, again.frames, again.size) == (True, False, FRAMES, (320, 180))
    assert (again.seconds, again.fps) == (pytest.approx(first.seconds, abs=0.05), first.fps)
    assert again.seen == {member: first.seen["rei"] if member == "rei" else 0}
    assert again.resumed_frames == FRAMES
    # Without --resume it is made anew.
    assert not process(order(clip), sight).already


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

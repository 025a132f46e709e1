"""Files of every awkward kind, played in real time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamer.ingest.files import FileSource
from tests import media
from tests.sources import Keeper, numbers, play_once, playing, rises, take, times, until


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("b.mp4", lambda p: media.video(p, times_ms=range(0, 400, 40), options={"bf": "3", "preset": "medium"})),
        ("ten.mp4", lambda p: media.video(p, times_ms=range(0, 400, 40), pixel_format="yuv420p10le")),
        ("full.avi", lambda p: media.video(p, (320, 180), range(0, 400, 40), "mjpeg", "yuvj420p", {})),
        ("rgb.mkv", lambda p: media.video(p, (320, 180), range(0, 400, 40), "ffv1", "bgr0", {})),
        ("odd.mp4", lambda p: media.video(p, (641, 359), range(0, 400, 40), pixel_format="yuv444p")),
        (
            "web.webm",
            lambda p: media.video(p, (320, 180), range(0, 400, 40), "libvpx", options={"deadline": "realtime"}),
        ),
        ("anim.gif", lambda p: media.video(p, (320, 180), range(0, 400, 40), "gif", "rgb8", {})),
        ("sound.mp4", lambda p: media.video(p, times_ms=range(0, 400, 40), sound=True)),
        ("name: with [odd] signs %d.mp4", lambda p: media.video(p, times_ms=range(0, 400, 40))),
    ],
)
def test_many_kinds_of_file_play(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    frames = play_once(make(tmp_path / name))
    # Full range and palettes round the brightness that carries the number.
    assert numbers(frames) == pytest.approx(list(range(10)), abs=1)
    assert rises(frames)


def test_a_variable_frame_rate_is_kept_and_a_long_pause_repeats_the_picture(tmp_path: Path) -> None:
    frames = play_once(media.video(tmp_path / "vfr.mkv", times_ms=[0, 10, 20, 100, 140, 1600, 1640]))
    assert numbers(frames) == [0, 1, 2, 3, 4, 4, 4, 5, 6]
    assert rises(frames)
    fresh = [frames[0], *(b for a, b in pairwise(frames) if not np.array_equal(a.i420, b.i420))]
    assert times(fresh) == pytest.approx([0, 0.01, 0.02, 0.1, 0.14, 1.6, 1.64], abs=2e-3)


def test_time_stamps_that_jump_back_go_on_rising(tmp_path: Path) -> None:
    frames = play_once(media.pts_jump_back(tmp_path / "twice.ts"))
    assert numbers(frames) == [*range(10)] * 2
    assert times(frames) == pytest.approx([n * 0.04 for n in range(20)], abs=1e-3)


def test_a_size_that_changes_is_followed_even_without_time_stamps(tmp_path: Path) -> None:
    frames = play_once(media.size_change(tmp_path / "sizes.h264"))
    assert [(f.width, f.height) for f in frames] == [(320, 180)] * 10 + [(480, 270)] * 10
    assert times(frames) == pytest.approx([n * 0.04 for n in range(20)])


def test_a_format_that_cannot_seek_loops_too(tmp_path: Path) -> None:
    source = FileSource(media.size_change(tmp_path / "raw.h264", [(320, 180)], frames=5))
    keeper = Keeper()
    source.start(keeper)
    until(lambda: len(keeper.frames) >= 12)
    source.close()
    assert numbers(keeper.frames[:12]) == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]
    assert rises(keeper.frames)


def test_a_phone_video_is_upright(tmp_path: Path) -> None:
    source = FileSource(media.rotated(tmp_path / "phone.mp4", 90), max_size=(1280, 720))
    with playing(source) as slot:
        frame = take(slot, 1)[0]
    assert (frame.width, frame.height) == (180, 320)


@pytest.mark.parametrize("make", [media.corrupted, media.truncated])
def test_damage_costs_pictures_but_not_the_stream(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = FileSource(make(tmp_path / ("x.ts" if make is media.corrupted else "x.mkv")))
    keeper = Keeper()
    source.start(keeper)
    until(lambda: len(keeper.frames) > 10)
    assert source.state.phase == "live"
    source.close()
    assert rises(keeper.frames)

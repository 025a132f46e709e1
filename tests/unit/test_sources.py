"""File sources: what they play, how they pace it, and what they say about files that cannot be played."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streamer.channels import LatestSlot
from streamer.errors import SourceUnusable
from streamer.ingest.files import FileSource
from tests import media
from tests.sources import Keeper, numbers, play_once, playing, reach, take, times, until


def test_a_file_is_played_once_in_real_time_though_nobody_takes_the_frames(tmp_path: Path) -> None:
    frames = play_once(media.video(tmp_path / "clip.mp4", times_ms=range(0, 200, 20)))
    assert numbers(frames) == list(range(10))
    assert [frame.index for frame in frames] == list(range(10))
    assert times(frames) == pytest.approx([n * 0.02 for n in range(10)], abs=1e-3)
    assert (frames[0].width, frames[0].height) == (320, 180)
    # Late is the machine's business, early would be ours.
    assert frames[-1].captured_at - frames[0].captured_at > 0.17
    assert all(frame.decode_seconds >= 0 for frame in frames)


def test_a_loop_goes_on_counting(tmp_path: Path) -> None:
    source = FileSource(media.video(tmp_path / "clip.mp4", times_ms=range(0, 100, 10)))
    keeper = Keeper()
    source.start(keeper)
    until(lambda: len(keeper.frames) > 24)
    source.close()
    assert source.state.phase == "ended"
    frames = keeper.frames[:20]
    assert numbers(frames) == [*range(10)] * 2
    assert [frame.index for frame in frames] == list(range(20))
    assert times(frames) == pytest.approx([n * 0.01 for n in range(20)], abs=2e-3)


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("this is no video, whatever its name says\n" * 200)


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(200_000))


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def photo(path: Path) -> None:
    Image.new("RGB", (64, 64)).save(path, format="JPEG")


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")


def headless(path: Path) -> None:
    path.write_bytes(media.video(path).read_bytes()[:3000])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "no such file"),
        (empty, "0 bytes"),
        (text, "no video"),
        (noise, "no video"),
        (folder, "folder"),
        (pipe, "no regular file"),
        (photo, "picture, not a video"),
        (playlist, "no video"),
        (headless, "no video"),
        (media.audio_only, "only audio"),
        (lambda path: media.video(path, (1, 1), codec="ffv1", options={}, muxer="matroska"), "1x1"),
    ],
)
def test_what_cannot_be_played_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "input.mp4"
    make(path)
    source = FileSource(path)
    with playing(source):
        state = reach(source, "failed")
    assert reason in str(state.reason)
    assert str(path) in str(state.reason) or reason == "1x1"
    assert "\n" not in str(state.reason)
    assert state.retry_in_seconds is None
    assert source.state.phase == "failed"


def test_a_file_can_be_checked_before_it_is_played(tmp_path: Path) -> None:
    FileSource(media.video(tmp_path / "good.mp4")).check()
    with pytest.raises(SourceUnusable, match="only audio"):
        FileSource(media.audio_only(tmp_path / "sound.m4a")).check()


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = media.video(tmp_path / "clip.mp4")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(SourceUnusable, match=r"may not be read|Permission"):
        FileSource(path).check()


def test_closing_leaves_no_thread_and_no_open_file(tmp_path: Path) -> None:
    path = media.video(tmp_path / "clip.mp4", times_ms=range(0, 100, 10))
    threads = set(threading.enumerate())
    for _ in range(3):
        source = FileSource(path)
        with playing(source) as slot:
            take(slot, 3)
        source.close()
        assert source.state.phase == "ended"
    assert not [thread for thread in threading.enumerate() if thread not in threads and "source" in thread.name]
    handles = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]
    assert str(path) not in handles


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


def test_a_source_is_over_when_no_picture_will_come_any_more(tmp_path: Path) -> None:
    clip = media.video(tmp_path / "clip.mp4", times_ms=range(0, 50, 10))
    once, endless = FileSource(clip, loop=False), FileSource(clip)
    missing, closed = FileSource(tmp_path / "none.mp4"), FileSource(clip)
    with playing(once) as slot, playing(endless), playing(missing):
        assert not once.over
        take(slot, 1)
        reach(once, "ended")
        until(lambda: once.over and missing.over)
        assert not endless.over
    assert endless.over
    closed.close()
    assert closed.over


def test_a_source_starts_once_and_closes_before_it_starts(tmp_path: Path) -> None:
    source = FileSource(tmp_path / "none.mp4")
    source.close()
    source.close()
    with pytest.raises(RuntimeError):
        source.start(LatestSlot())


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    source = FileSource(media.video(tmp_path / "clip.mp4"), loop=True)
    assert source.describe() == {"kind": "file", "path": str(tmp_path / "clip.mp4"), "loop": True}
    assert source.state.phase == "connecting"
    with playing(source) as slot:
        take(slot, 1)
        assert source.state.phase == "live"
        assert source.fps == pytest.approx(25, abs=0.5)

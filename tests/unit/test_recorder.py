"""Recordings on a real disk: whole, in parts, listed, adopted and removed."""

from __future__ import annotations

import asyncio
import datetime
import os
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import av
import pytest

from streamer.egress import recorder as recording
from streamer.egress.recorder import QUEUE_FRAMES, Recorder
from streamer.egress.recordings import (
    RUNNING,
    adopt_leftovers,
    base_name,
    boxes,
    delete_recording,
    find_recording,
    keep_private,
    list_recordings,
)
from streamer.errors import RecordingError, RecordingUnknown, StreamConflict
from tests.recordings import encoded, lines, pictures


def written(recorder: Recorder, count: int) -> None:
    deadline = time.monotonic() + 10
    while recorder.state()["frames"] < count and not recorder.ended:
        assert time.monotonic() < deadline, recorder.state()
        time.sleep(0.002)


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Recorder]:
    def begin(member: str | None = None, keyframe: Callable[[], None] = lambda: None) -> Recorder:
        return Recorder(tmp_path / "recordings", "cam", member, keyframe=keyframe)

    return begin


def test_a_recording_begins_with_a_picture_that_has_a_line(record: Callable[..., Recorder]) -> None:
    """One that was encoded before anybody wanted lines may still be on its way when the recording starts."""
    asked: list[bool] = []
    recorder = record(keyframe=lambda: asked.append(True))
    first, *others = encoded(31)
    recorder.put(replace(first, result_json=None))
    assert asked, "the next keyframe may be long in coming"
    for frame in others:
        recorder.put(frame)
    recorder.close()
    state = recorder.state()
    assert [line["frame"] for line in lines(Path(state["sidecar"]))] == list(range(15, 31))
    assert pictures(Path(state["path"])) == 16


def test_a_closed_recording_is_an_ordinary_mp4_with_one_line_a_frame(record: Callable[..., Recorder]) -> None:
    recorder = record("Jang Won-young/../장")
    frames = list(encoded(46))
    for frame in frames[7:]:
        recorder.put(frame)  # begins in the middle: the eight frames before the next keyframe are not recorded
    written(recorder, 31)
    running = Path(recorder.state()["path"])
    assert running.name.endswith(f"{RUNNING}.mp4")
    recorder.close()
    recorder.close()
    state = recorder.state()
    path, sidecar = Path(state["path"]), Path(state["sidecar"])
    assert not running.exists()
    assert path.name.startswith("cam_Jang-Won-young-장_")
    assert pictures(path) == 31
    assert [line["frame"] for line in lines(sidecar)] == list(range(15, 46))
    assert state["frames"] == 31
    assert state["duration_seconds"] == pytest.approx(1.0)
    assert state["bytes"] == path.stat().st_size
    assert state["ended_reason"] == "stopped"
    with av.open(str(path)) as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(31 / 30, abs=0.05)
        assert (container.streams.video[0].width, container.streams.video[0].height) == (320, 240)
    assert b"moof" not in {kind for kind, _, _ in boxes(path)}, "one index, no fragments"


def test_a_new_size_goes_to_a_new_part(record: Callable[..., Recorder]) -> None:
    recorder = record()
    for frame in (*encoded(5), *encoded(6, size=(640, 360), start=5)):
        recorder.put(frame)
    written(recorder, 11)
    recorder.close()
    state = recorder.state()
    found = {recording.id: recording for recording in list_recordings(Path(state["path"]).parent)}
    assert set(found) == set(state["parts"])
    first, second = (found[part] for part in state["parts"])
    assert second.id.endswith("_part2")
    assert (pictures(first.path), pictures(second.path)) == (5, 6)
    assert first.sidecar is not None
    assert second.sidecar is not None
    assert len(lines(first.sidecar)) == 5
    assert [line["frame"] for line in lines(second.sidecar)] == [5, 6, 7, 8, 9, 10]


def test_two_recordings_in_the_same_second_do_not_meet(record: Callable[..., Recorder]) -> None:
    recorders = [record(), record(), record()]
    for recorder in recorders:
        for frame in encoded(3):
            recorder.put(frame)
        written(recorder, 3)
    for recorder in recorders:
        recorder.close()
    assert len({recorder.state()["id"] for recorder in recorders}) == 3


def test_an_id_is_never_that_of_another_recording_not_even_of_one_that_left_nothing(
    record: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever still has the first one's id would play, or delete, the second."""
    monkeypatch.setattr("streamer.egress.recorder.datetime", _StoppedClock)
    first = record()
    id_ = first.state()["id"]
    first.close()
    second = record()
    assert second.state()["id"] == f"{id_}_2"
    for frame in encoded(3):
        second.put(frame)
    written(second, 3)
    third = record()
    second.close()
    folder = Path(second.state()["path"]).parent
    delete_recording(folder, f"{id_}_2")
    fourth = record()
    assert [third.state()["id"], fourth.state()["id"]] == [f"{id_}_3", f"{id_}_4"]
    for recorder in (third, fourth):
        recorder.close()


def test_many_that_start_at_once_share_nothing(
    record: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.egress.recorder.datetime", _StoppedClock)
    with ThreadPoolExecutor(16) as pool:
        recorders = list(pool.map(lambda _: record(), range(32)))
    ids = {recorder.state()["id"] for recorder in recorders}
    for recorder in recorders:
        recorder.close()
    assert len(ids) == 32


class _StoppedClock:
    """Stands for the module `datetime`: everything begins within one second."""

    UTC = datetime.UTC
    datetime = SimpleNamespace(now=lambda _zone: datetime.datetime(2026, 11, 25, 10, 15, 0, tzinfo=datetime.UTC))


def test_a_recording_without_a_frame_leaves_nothing(record: Callable[..., Recorder]) -> None:
    recorder = record()
    folder = Path(recorder.state()["path"]).parent
    recorder.close()
    assert list(folder.iterdir()) == []


def test_overflow_goes_on_at_a_keyframe_and_asks_for_it(record: Callable[..., Recorder]) -> None:
    asked: list[float] = []
    recorder = record(keyframe=lambda: asked.append(time.monotonic()))
    frames = list(encoded(QUEUE_FRAMES + 30, every=QUEUE_FRAMES + 10))
    with recorder._more:
        # The recorder's thread cannot take anything meanwhile: a disk that hangs.
        for frame in frames:
            recorder.put(frame)
    assert asked
    recorder.close()
    state = recorder.state()
    assert state["dropped"] + state["frames"] <= len(frames)
    assert state["dropped"] == QUEUE_FRAMES + 1
    assert state["frames"] == 20
    assert pictures(Path(state["path"])) == 20
    assert [line["frame"] for line in lines(Path(state["sidecar"]))] == list(range(QUEUE_FRAMES + 10, len(frames)))


async def test_the_encoder_ending_ends_the_recording(record: Callable[..., Recorder]) -> None:
    recorder = record()
    for frame in encoded(4):
        recorder.put(frame)
    recorder.closed()
    await asyncio.to_thread(recorder.close)
    assert pictures(Path(recorder.state()["path"])) == 4


def test_a_removed_folder_ends_the_recording_with_its_reason(
    record: Callable[..., Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_LOOK_SECONDS", 0.1)
    recorder = record()
    folder = Path(recorder.state()["path"]).parent
    frames = encoded(100_000, every=5)
    recorder.put(next(frames))
    written(recorder, 1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    deadline = time.monotonic() + 10
    while not recorder.ended:
        assert time.monotonic() < deadline
        recorder.put(next(frames))
        time.sleep(0.01)
    assert "removed" in recorder.state()["ended_reason"]
    recorder.put(next(frames))
    recorder.close()


@pytest.fixture
def usual_umask() -> Iterator[None]:
    """Files are readable by everybody unless somebody sees to it."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Permissions of the folder (".") and of what is in it."""
    found = {path.name: path for path in folder.iterdir()} | {".": folder}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in found.items()}


@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize("there", [False, True])
def test_nobody_else_can_read_a_recording(record: Callable[..., Recorder], tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "recordings"
    if there:
        folder.mkdir(mode=0o755)
    recorder = record("rei")
    for frame in (*encoded(3), *encoded(3, size=(640, 360), start=3)):
        recorder.put(frame)
    written(recorder, 6)
    assert set(modes(folder).values()) == {0o700, 0o600}
    recorder.close()
    assert modes(folder).pop(".") == 0o700
    assert [mode for name, mode in modes(folder).items() if name != "."] == [0o600] * 4


@pytest.mark.usefixtures("usual_umask")
def test_what_is_there_already_is_made_private(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "recordings", tmp_path / "elsewhere.mp4"
    folder.mkdir(mode=0o755)
    for path in (folder / "a.mp4", folder / "a.jsonl", folder / f"b{RUNNING}.mp4", folder / "notes.txt", elsewhere):
        path.write_bytes(b"")
    (folder / "link.mp4").symlink_to(elsewhere)
    keep_private(folder)
    kept = modes(folder)
    assert [kept[name] for name in (".", "a.mp4", "a.jsonl", f"b{RUNNING}.mp4")] == [0o700, 0o600, 0o600, 0o600]
    assert kept["notes.txt"] == 0o644, "not ours"
    assert kept["link.mp4"] == 0o644, "where a link leads is not ours either"
    keep_private(tmp_path / "never")


def test_a_folder_that_cannot_be_made_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="file"):
        Recorder(tmp_path / "file" / "recordings", "cam", None, keyframe=lambda: None)


def test_leftovers_without_a_frame_are_removed(tmp_path: Path) -> None:
    for name, content in (("a", b""), ("b", b"not a video"), ("c", bytes(4096))):
        (tmp_path / f"{name}{RUNNING}.mp4").write_bytes(content)
        (tmp_path / f"{name}{RUNNING}.jsonl").write_bytes(b"{}\n")
    assert adopt_leftovers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert adopt_leftovers(tmp_path / "never") == []


@pytest.mark.parametrize("bad", ["", "..", "../x", "a/b", "/etc/passwd", "a\x00b", "x" * 300, ".hidden", "a..b", "%2e"])
def test_ids_that_are_no_names_find_nothing(tmp_path: Path, bad: str) -> None:
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    with pytest.raises(RecordingUnknown):
        find_recording(tmp_path, bad)


def test_a_running_recording_is_listed_but_not_deleted(record: Callable[..., Recorder]) -> None:
    recorder = record("rei")
    folder = Path(recorder.state()["path"]).parent
    for frame in encoded(3):
        recorder.put(frame)
    written(recorder, 3)
    (listed,) = list_recordings(folder)
    assert listed.running
    assert listed.id == recorder.state()["id"]
    with pytest.raises(StreamConflict):
        delete_recording(folder, listed.id)
    recorder.close()
    delete_recording(folder, listed.id)
    assert list(folder.iterdir()) == []
    with pytest.raises(RecordingUnknown):
        delete_recording(folder, listed.id)


def test_names_carry_stream_member_and_start() -> None:
    start = datetime.datetime(2026, 11, 22, 10, 15, 0, tzinfo=datetime.UTC)
    assert base_name("s1", None, start) == "s1_all_20261122T101500Z"
    assert base_name("../s 1", "리즈/..", start) == "s-1_리즈_20261122T101500Z"
    assert base_name("__", "\x00", start) == "unnamed_unnamed_20261122T101500Z"

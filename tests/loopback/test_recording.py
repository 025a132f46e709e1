"""Recordings of streams that run: one at a time, ended with what they record, in step with their sidecars."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import av
import pytest

from streamer.egress.recordings import list_recordings
from streamer.errors import RecordingUnknown, SourceUnusable, StreamConflict
from streamer.offline.film import Look
from streamer.offline.render import RenderOrder, render
from streamer.offline.video import VideoResult
from streamer.service.app import create_app
from streamer.service.services import Services
from streamer.service.settings import VideoSettings, load
from streamer.service.stream import SOURCE_LOOK_SECONDS, Stream
from tests import media
from tests.recordings import lines

PATIENCE_SECONDS = 20.0


@contextlib.asynccontextmanager
async def serving(data_dir: Path, **vision: object) -> AsyncIterator[Services]:
    app = create_app(load(None, {"data_dir": data_dir, "vision": vision}))
    async with app.router.lifespan_context(app):
        yield app.state.services


@pytest.fixture
async def services(data_dir: Path) -> AsyncIterator[Services]:
    async with serving(data_dir, engine="none") as found:
        yield found


async def playing(services: Services, clip: Path, loop: bool = True) -> Stream:
    """A stream of `clip` with a picture."""
    stream = await services.streams.create({"kind": "file", "path": str(clip), "loop": loop})
    await until(lambda: stream.info()["size"] is not None)
    return stream


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


def recorders() -> int:
    return sum(thread.name == "recorder" for thread in threading.enumerate())


def picture_times(path: Path) -> list[float]:
    """Seconds of each picture of a video, as a player sees them."""
    with av.open(str(path)) as container:
        return [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.pts is not None]


def running_files(services: Services) -> list[str]:
    return [recording.path.name for recording in list_recordings(services.recordings) if recording.running]


async def test_of_many_who_start_a_recording_at_once_one_does(services: Services, tmp_path: Path) -> None:
    stream = await playing(services, media.video(tmp_path / "clip.mp4"))
    answers = await asyncio.gather(*(stream.start_recording() for _ in range(5)), return_exceptions=True)
    assert [type(answer) for answer in answers].count(StreamConflict) == 4, answers
    assert recorders() == 1
    await until(lambda: stream.info()["recording"]["frames"] > 3)
    assert len(running_files(services)) == 1

    answers = await asyncio.gather(*(stream.stop_recording() for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers].count(RecordingUnknown) == 2, answers
    assert recorders() == 0
    assert running_files(services) == []
    assert len(list_recordings(services.recordings)) == 1


async def test_starting_and_stopping_at_once_leaves_nothing_behind(services: Services, tmp_path: Path) -> None:
    stream = await playing(services, media.video(tmp_path / "clip.mp4"))
    for _ in range(5):
        calls = (stream.start_recording(), stream.stop_recording(), stream.start_recording())
        await asyncio.gather(*calls, return_exceptions=True)
        with contextlib.suppress(RecordingUnknown):
            await stream.stop_recording()
        assert recorders() == 0
        assert running_files(services) == []


async def test_a_recording_that_starts_while_its_stream_closes_ends_with_it(services: Services, tmp_path: Path) -> None:
    for _ in range(3):
        stream = await playing(services, media.video(tmp_path / "clip.mp4"))
        starting = asyncio.ensure_future(stream.start_recording())
        await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await services.streams.remove(stream.id)
            await asyncio.wait([starting])
        assert recorders() == 0
        assert running_files(services) == []
        with pytest.raises(StreamConflict, match="ending"):
            await stream.start_recording()


async def test_who_goes_away_while_a_recording_starts_leaves_one_that_can_be_stopped(
    services: Services, tmp_path: Path
) -> None:
    stream = await playing(services, media.video(tmp_path / "clip.mp4"))
    starting = asyncio.ensure_future(stream.start_recording())
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    await until(lambda: stream.info()["recording"] is not None)
    await stream.stop_recording()
    assert recorders() == 0


async def test_the_times_of_the_pictures_are_those_of_the_sidecar_though_vision_is_late(data_dir: Path) -> None:
    """A second recording of a stream that nobody watches, whose pictures come later than a keyframe can wait."""
    async with serving(data_dir, engine="synthetic", synthetic_delay_seconds=0.4) as services:
        await services.vision.wait_ready()
        stream = await services.streams.create({"kind": "demo"})
        await until(lambda: stream.info()["fps"]["vision"] > 0)
        for _ in range(3):
            await stream.start_recording()
            await until(lambda: stream.info()["recording"]["frames"] > 5)
            ended = await stream.stop_recording()
            said = [line["pts"] for line in await asyncio.to_thread(lines, Path(ended["sidecar"]))]
            shown = await asyncio.to_thread(picture_times, Path(ended["path"]))
            assert [pts - said[0] for pts in said] == pytest.approx(shown, abs=0.002)


async def test_a_recording_is_drawn_anew_from_its_own_lines_only(data_dir: Path, tmp_path: Path) -> None:
    async with serving(data_dir, engine="synthetic") as services:
        await services.vision.wait_ready()
        stream = await services.streams.create({"kind": "demo"})
        await until(lambda: stream.info()["fps"]["vision"] > 0)
        await stream.start_recording()
        await until(lambda: stream.info()["recording"]["frames"] > 20)
        ended = await stream.stop_recording()
    clip, sidecar, out = Path(ended["path"]), Path(ended["sidecar"]), tmp_path / "out.mp4"

    def drawn(lines_of: Path) -> VideoResult:
        return render(RenderOrder(clip, lines_of, out, Look("only")), VideoSettings())

    done = await asyncio.to_thread(drawn, sidecar)
    assert done.frames == ended["frames"]
    assert not any("another file" in note for note in done.notes), done.notes
    out.unlink()
    said = sidecar.read_text().splitlines(keepends=True)
    shifted = tmp_path / "shifted.jsonl"
    for other in (said[3:], [*said[3:], *said[:3]], [*said[:3], *said[:-3]], said[::-1]):
        shifted.write_text("".join(other))
        with pytest.raises(SourceUnusable, match="do not belong together"):
            await asyncio.to_thread(drawn, shifted)
        assert not out.exists()


async def test_a_recording_ends_when_its_file_is_over(services: Services, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "clip.mp4", times_ms=range(0, 1500, 40))
    stream = await playing(services, clip, loop=False)
    started = await stream.start_recording()
    await until(lambda: stream.info()["recording"]["ended_reason"] is not None)
    assert stream.info()["source"]["state"]["phase"] == "ended"
    state = stream.info()["recording"]
    assert state["ended_reason"] == "the source ended"
    assert recorders() == 0
    (recording,) = list_recordings(services.recordings)
    assert (recording.id, recording.running) == (started["id"], False)
    last = (await asyncio.to_thread(lines, Path(state["sidecar"])))[-1]
    assert last["pts"] == pytest.approx(1.48, abs=0.01), "the last picture is in it"
    with pytest.raises(StreamConflict, match="nothing to record: the source ended"):
        await stream.start_recording()
    assert await stream.stop_recording() == state


async def test_a_recording_goes_on_while_its_source_only_tries_again(services: Services) -> None:
    stream = await services.streams.create({"kind": "whip"})
    await stream.start_recording()
    await asyncio.sleep(2 * SOURCE_LOOK_SECONDS)
    assert stream.info()["recording"]["ended_reason"] is None
    assert recorders() == 1
    await stream.stop_recording()


async def test_recordings_from_before_are_private_once_the_service_runs(data_dir: Path) -> None:
    folder = data_dir / "recordings"
    folder.mkdir(mode=0o755)
    old = media.video(folder / "cam_rei_20261122T101500Z.mp4")
    old.chmod(0o644)
    async with serving(data_dir, engine="none") as services:
        assert [recording.path for recording in list_recordings(services.recordings)] == [old]
        assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(old.stat().st_mode)) == (0o700, 0o600)

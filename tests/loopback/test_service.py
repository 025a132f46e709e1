"""The whole way of a frame: a real source, the real worker process, real viewers. What fails must not take the rest."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from streamer.contract import decode_mask
from streamer.errors import (
    LimitReached,
    MemberUnknown,
    PromptUnsupported,
    RecordingUnknown,
    SourceUnusable,
    StreamUnknown,
)
from streamer.service.app import create_app
from streamer.service.services import Services
from streamer.service.settings import load
from streamer.service.stream import Stream
from streamer.vision import shared
from tests import media
from tests.peers import Viewer

PATIENCE_SECONDS = 60.0


@contextlib.asynccontextmanager
async def running(data_dir: Path, **vision: object) -> AsyncIterator[Services]:
    app = create_app(load(None, {"data_dir": data_dir, "vision": {"engine": "synthetic", **vision}}))
    async with app.router.lifespan_context(app):
        services: Services = app.state.services
        yield services


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


async def shown(viewer: Viewer, condition: Callable[[Viewer], bool]) -> None:
    await viewer.wait_for(condition, PATIENCE_SECONDS)


def sees(stream: Stream) -> bool:
    return stream.info()["fps"]["vision"] > 0 and stream.info()["vision"]["notice"] is None


def read_lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def detail(jpeg: bytes) -> float:
    """Mean strength of fine structure: what a heavy blur removes."""
    grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


async def test_a_killed_worker_costs_neither_the_video_nor_the_viewer(data_dir: Path) -> None:
    async with running(data_dir) as services:
        await services.vision.wait_ready()
        stream = await services.streams.create({"kind": "demo"})
        async with Viewer(stream.whep) as viewer:
            await until(lambda: sees(stream))
            await shown(viewer, lambda v: v.frames > 10)
            pid = services.vision.state.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: stream.info()["vision"]["notice"] == "vision restarting")
            before = viewer.frames
            await shown(viewer, lambda v: v.frames > before + 10)
            await until(lambda: sees(stream))
            assert services.vision.state.pid not in (None, pid)
            assert services.vision.state.restarts == 1
            before = viewer.frames
            await shown(viewer, lambda v: v.frames > before + 10)
            assert viewer.connection.connectionState == "connected"
            assert stream.info()["viewers"] == 1


async def test_a_style_that_hides_shows_nothing_while_vision_is_away(data_dir: Path) -> None:
    async with running(data_dir, hang_seconds=60.0) as services:
        await services.vision.wait_ready()
        stream = await services.streams.create({"kind": "demo"}, style="only")
        async with Viewer(stream.whep) as viewer:
            await until(lambda: sees(stream))
            await shown(viewer, lambda v: v.frames > 5)
            pid = services.vision.state.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                await until(lambda: stream.info()["vision"]["state"] == "stalled")
                before = viewer.frames
                await shown(viewer, lambda v: v.frames > before + 5)
                hidden = detail(await stream.snapshot())
                await services.streams.update(stream, style="annotated")
                before = viewer.frames
                await shown(viewer, lambda v: v.frames > before + 10)
                assert detail(await stream.snapshot()) > 3 * hidden
            finally:
                os.kill(pid, signal.SIGCONT)


@pytest.mark.models
async def test_a_stream_that_hides_somebody_takes_nobody_for_a_stranger_before_vision_knows_the_gallery(
    model_data_dir: Path,
) -> None:
    """One that is there before vision is, as after a restart of the service."""
    for run in range(2):
        async with running(model_data_dir, engine="lite") as services:
            stream = await services.streams.create({"kind": "demo"}, member="eileen" if run else None, style="hide")
            if run:
                await stream.start_recording()
            await until(lambda: any(track["name"] == "eileen" for track in stream.info()["tracks"]))  # noqa: B023
            if run:
                hidden = stream.info()["recording"]["frames"]
                await until(lambda: stream.info()["recording"]["frames"] > hidden + 20)  # noqa: B023
            ended = await stream.stop_recording() if run else None
    assert ended is not None
    first = next(line for line in read_lines(ended["sidecar"]) if line["tracks"])
    assert first.get("undecided", []) == [track["id"] for track in first["tracks"] if track["name"] is None]


@pytest.mark.models
async def test_hide_shows_nothing_when_nobody_can_tell_any_more_whom_it_is_to_hide(model_data_dir: Path) -> None:
    async with running(model_data_dir, engine="lite") as services:
        stream = await services.streams.create({"kind": "demo"}, style="hide")
        await services.streams.update(stream, member="eileen")
        await until(lambda: sees(stream) and any(track["name"] == "eileen" for track in stream.info()["tracks"]))
        await asyncio.to_thread(services.gallery.remove_member, "eileen")
        await services.gallery_changed()
        await until(lambda: stream.info()["vision"]["notice"] == "no photo of eileen, so all is hidden")
        async with Viewer(stream.whep) as viewer:
            await shown(viewer, lambda v: v.frames > 10)
            hidden = detail(await stream.snapshot())
            await services.streams.update(stream, style="annotated")
            before = viewer.frames
            await shown(viewer, lambda v: v.frames > before + 10)
            assert detail(await stream.snapshot()) > 2 * hidden
            assert stream.info()["vision"]["notice"] is None
        await services.streams.update(stream, style="hide", member=None)
        await until(lambda: sees(stream))


async def test_without_room_in_shared_memory_the_video_goes_on_and_vision_comes_back_with_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A container has 64 MB of it. To write to more ends a process, and it would be the service."""

    def full(_block: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running(data_dir) as services:
        await services.vision.wait_ready()
        with monkeypatch.context() as patch:
            patch.setattr(shared, "_reserve", full)
            stream = await services.streams.create({"kind": "demo"})
            await until(lambda: stream.info()["vision"]["notice"] == "no shared memory for vision")
            await until(lambda: stream.info()["dropped"]["vision"] > 10)
            assert await stream.snapshot()
            told = [line for line in caplog.messages if "no room for pictures of" in line]
            assert len(told) == 1, "not a line a frame"
            assert "--shm-size" in told[0]
        await until(lambda: sees(stream))


async def test_a_slow_engine_lowers_the_rate_not_the_age_of_frames(data_dir: Path) -> None:
    async with running(data_dir, synthetic_delay_seconds=0.1) as services:
        await services.vision.wait_ready()
        stream = await services.streams.create({"kind": "demo"})
        indices = []
        async with Viewer(stream.whep):
            async for line in stream.events():
                indices.append(json.loads(line)["frame"])
                if len(indices) == 15:
                    break
        gaps = np.diff(indices)
        assert (gaps > 0).all()
        assert gaps.mean() > 1.5  # the demo has 25 frames a second, the engine manages less than 10
        info = stream.info()
        assert info["dropped"]["source"] > 0
        # a frame waits for at most the one before it, however long the stream has run
        assert info["latency_ms"]["wait"]["p50"] < 1000


async def test_events_follow_the_contract(data_dir: Path) -> None:
    async with running(data_dir) as services:
        await services.vision.wait_ready()
        services.gallery.add_member("Rei")
        stream = await services.streams.create({"kind": "demo"}, member="rei", object="shirt")
        await until(lambda: sees(stream))
        events = stream.events()
        said = [json.loads(await anext(events)) for _ in range(3)]
        await events.aclose()
        for event in said:
            assert set(event) == {"v", "frame", "pts", "size", "engine", "identified", "tracks"}
            assert (event["v"], event["engine"], event["size"]) == (1, "synthetic", [960, 540])
            (track,) = event["tracks"]
            assert track["name"] == "Rei"
            person, part = decode_mask(track["mask"]), decode_mask(track["object"]["mask"])
            assert person.shape == (540, 960)
            assert part.any()
            assert not (part & ~person).any()


async def test_what_cannot_be_shown_is_refused_and_leaves_nothing(data_dir: Path) -> None:
    async with running(data_dir) as services:
        streams = services.streams
        with pytest.raises(MemberUnknown, match="wonyoung"):
            await streams.create({"kind": "demo"}, member="wonyoung")
        with pytest.raises(PromptUnsupported, match="annotated"):
            await streams.create({"kind": "demo"}, style="sepia")
        with pytest.raises(PromptUnsupported, match=r"the object prompt ', ,' names nothing: name a part, such as"):
            await streams.create({"kind": "demo"}, object=" , ,")
        with pytest.raises(SourceUnusable):
            await streams.create({"kind": "telepathy"})
        with pytest.raises(StreamUnknown):
            streams.get("nope")
        assert streams.all() == []
        for _ in range(services.settings.service.max_streams):
            await streams.create({"kind": "demo"})
        with pytest.raises(LimitReached, match="max_streams"):
            await streams.create({"kind": "demo"})
        for stream in streams.all():
            await streams.remove(stream.id)


async def test_a_change_that_waited_for_vision_takes_nothing_back(data_dir: Path) -> None:
    async with running(data_dir) as services:
        stream = await services.streams.create({"kind": "demo"})
        phrase = asyncio.create_task(services.streams.update(stream, object="shirt"))
        await asyncio.sleep(0)
        assert services.vision.state.phase == "starting", "the phrase is checked by an engine that is not there yet"
        await services.streams.update(stream, style="hide")
        await phrase
        assert (stream.style, stream.target.object) == ("hide", "shirt")


async def test_of_two_changes_of_one_thing_the_later_one_holds(data_dir: Path) -> None:
    async with running(data_dir) as services:
        stream = await services.streams.create({"kind": "demo"})
        phrase = asyncio.create_task(services.streams.update(stream, object="shirt"))
        await asyncio.sleep(0)
        await services.streams.update(stream, object=None, style="only")
        await phrase
        assert (stream.style, stream.target.object, stream.target.everybody) == ("only", None, True)
        with pytest.raises(PromptUnsupported):
            await services.streams.update(stream, object="hat", style="blurred")
        assert (stream.style, stream.target.object) == ("only", None), "all of a change or nothing"


async def test_a_broken_stream_leaves_its_neighbour_alone(data_dir: Path, tmp_path: Path) -> None:
    blank = media.undecodable(tmp_path / "blank.mp4")
    async with running(data_dir) as services:
        await services.vision.wait_ready()
        good = await services.streams.create({"kind": "demo"})
        bad = await services.streams.create({"kind": "file", "path": str(blank)})
        gone = await services.streams.create({"kind": "rtsp", "url": "rtsp://bob:secret@127.0.0.1:9/x"})
        async with Viewer(good.whep) as viewer:
            await until(lambda: bad.info()["source"]["state"]["phase"] == "failed")
            await until(lambda: gone.info()["source"]["state"]["phase"] == "reconnecting")
            assert "blank.mp4" in bad.info()["source"]["state"]["reason"]
            assert "secret" not in json.dumps(gone.info())
            await services.streams.remove(bad.id)
            await services.streams.remove(gone.id)
            before = viewer.frames
            await shown(viewer, lambda v: v.frames > before + 10)


async def test_a_file_is_played_seen_recorded_and_ends(data_dir: Path, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "clip.mp4")
    async with running(data_dir) as services:
        await services.vision.wait_ready()
        stream = await services.streams.create({"kind": "file", "path": str(clip), "loop": True})
        await until(lambda: sees(stream))
        started = await stream.start_recording()
        await until(lambda: stream.info()["recording"]["frames"] > 20)
        ended = await stream.stop_recording()
        assert ended["ended_reason"] == "stopped"
        assert os.path.getsize(ended["path"]) == ended["bytes"]
        assert started["id"] == ended["id"]
        lines = await asyncio.to_thread(read_lines, ended["sidecar"])
        assert len(lines) == ended["frames"]
        assert any(line["tracks"] for line in lines)
        with pytest.raises(RecordingUnknown):
            await stream.stop_recording()


async def test_coming_and_going_leaves_nothing(data_dir: Path) -> None:
    process = psutil.Process()
    async with running(data_dir) as services:
        await services.vision.wait_ready()

        async def once() -> None:
            stream = await services.streams.create({"kind": "demo"})
            async with Viewer(stream.whep) as first, Viewer(stream.whep) as second:
                await shown(first, lambda v: v.frames > 2)
                await shown(second, lambda v: v.frames > 2)
            await services.streams.remove(stream.id)

        await once()
        gc.collect()
        tasks, threads, files = len(asyncio.all_tasks()), threading.active_count(), process.num_fds()
        blocks = len(os.listdir("/dev/shm"))
        for _ in range(4):
            await once()
        gc.collect()
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        await until(lambda: process.num_fds() <= files + 1)
        # threads of the default executor stay for the next call; it has a bound of its own
        pool = sum(thread.name.startswith("asyncio_") for thread in threading.enumerate())
        assert threading.active_count() - pool <= threads
        assert len(os.listdir("/dev/shm")) <= blocks
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


async def test_the_service_ends_in_bounded_time_with_everything_running(data_dir: Path) -> None:
    async with running(data_dir) as services:
        stream = await services.streams.create({"kind": "demo"})
        viewer = Viewer(stream.whep)
        await viewer.connect()
        await shown(viewer, lambda v: v.frames > 2)
        await stream.start_recording()
        began = time.monotonic()
    assert time.monotonic() - began < 15
    await viewer.close()

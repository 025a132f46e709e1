"""The real worker process, with the engine that needs no models."""

import asyncio
import contextlib
import os
import resource
import signal
import time

import numpy as np
import psutil
import pytest

from streamer.errors import TrackUnknown, VisionUnavailable
from streamer.frames import Frame
from streamer.service.settings import VisionSettings
from streamer.tracks import Target
from streamer.vision import process as pipes
from streamer.vision.known import Known
from streamer.vision.process import WorkerProcess
from streamer.vision.supervisor import Supervisor

READY_SECONDS = 60.0


def frame(index: int, width: int = 320, height: int = 180) -> Frame:
    return Frame(np.full((height * 3 // 2, width), 128, np.uint8), index, index / 25, time.monotonic())


@contextlib.asynccontextmanager
async def running(tmp_path, **vision):
    supervisor = Supervisor(VisionSettings(**{"engine": "synthetic"} | vision), tmp_path)
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def ready(supervisor: Supervisor) -> None:
    await asyncio.wait_for(supervisor.wait_ready(), READY_SECONDS)


async def until(condition) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_frame_comes_back_with_its_own_number_its_mask_and_the_wanted_name(tmp_path):
    async with running(tmp_path) as supervisor:
        session = supervisor.open("a", Target(member="rei"))
        with pytest.raises(VisionUnavailable):
            session.step(frame(0))
        await ready(supervisor)
        for index in (3, 4, 9):
            result = await session.step(frame(index))
            assert result.frame_index == index
            assert (result.width, result.height, result.engine) == (320, 180, "synthetic")
            (track,) = result.tracks
            assert track.name == "rei"
            assert result.mask(track).any()


@pytest.mark.models
async def test_an_engine_that_names_people_sees_nothing_before_it_knows_the_gallery(model_data_dir):
    """Everybody would be nobody, and a style that hides somebody would show them."""
    async with running(model_data_dir, engine="lite") as supervisor:
        session = supervisor.open("a", Target())
        await ready(supervisor)
        with pytest.raises(VisionUnavailable, match="starting"):
            session.step(frame(0))
        assert supervisor.notice() == "vision starting"
        supervisor.set_known(Known.nobody(supervisor.state.model_id))
        assert supervisor.notice() is None
        assert (await session.step(frame(1))).engine == "lite"
        os.kill(supervisor.state.pid, signal.SIGKILL)
        await until(lambda: supervisor.state.phase == "restarting")
        await ready(supervisor)
        assert (await session.step(frame(2))).engine == "lite", (
            "the next worker gets the gallery with the first message"
        )


async def test_pictures_may_grow_and_shrink_while_it_runs(tmp_path):
    async with running(tmp_path) as supervisor:
        session = supervisor.open("a", Target())
        await ready(supervisor)
        for index, size in enumerate([(64, 36), (640, 360), (320, 180), (1280, 720)]):
            result = await session.step(frame(index, *size))
            assert (result.width, result.height) == size
            assert result.label_map is not None
            assert result.label_map.shape == (size[1], size[0])


async def test_streams_do_not_mix(tmp_path):
    async with running(tmp_path) as supervisor:
        sessions = {name: supervisor.open(name, Target(member=name)) for name in ("gaeul", "liz")}
        await ready(supervisor)
        for index in range(5):
            results = await asyncio.gather(*(session.step(frame(index)) for session in sessions.values()))
            assert [result.tracks[0].name for result in results] == list(sessions)


async def test_after_kill_9_vision_is_back_and_track_ids_go_on(tmp_path):
    async with running(tmp_path) as supervisor:
        session = supervisor.open("a", Target(member="rei"))
        await ready(supervisor)
        before = await session.step(frame(0))
        pid = supervisor.state.pid
        os.kill(pid, signal.SIGKILL)
        await until(lambda: supervisor.state.phase == "restarting")
        assert "SIGKILL" in supervisor.state.reason
        with pytest.raises(VisionUnavailable, match="restarting"):
            session.step(frame(1))
        await ready(supervisor)
        assert supervisor.state.pid != pid
        assert supervisor.state.restarts == 1
        after = await session.step(frame(2))
        assert after.tracks[0].name == "rei"
        assert after.tracks[0].id > before.tracks[0].id


async def test_whoever_waits_for_a_frame_is_told_when_the_worker_dies(tmp_path):
    async with running(tmp_path, synthetic_delay_seconds=30.0, hang_seconds=60.0) as supervisor:
        session = supervisor.open("a", Target())
        await ready(supervisor)
        future = session.step(frame(0))
        await asyncio.sleep(0.2)
        os.kill(supervisor.state.pid, signal.SIGKILL)
        with pytest.raises(VisionUnavailable):
            await asyncio.wait_for(future, READY_SECONDS)


async def test_a_hanging_worker_is_replaced(tmp_path):
    async with running(tmp_path, synthetic_delay_seconds=30.0, hang_seconds=0.5) as supervisor:
        session = supervisor.open("a", Target())
        await ready(supervisor)
        pid = supervisor.state.pid
        with pytest.raises(VisionUnavailable):
            await asyncio.wait_for(session.step(frame(0)), READY_SECONDS)
        assert "0 s" in supervisor.state.reason or "frame of stream a" in supervisor.state.reason
        await ready(supervisor)
        assert supervisor.state.pid != pid
        assert not psutil.pid_exists(pid)


async def test_a_hanging_worker_is_replaced_as_soon_though_somebody_asks_it_something(tmp_path):
    async with running(tmp_path, synthetic_delay_seconds=30.0, hang_seconds=0.5) as supervisor:
        session = supervisor.open("a", Target())
        await ready(supervisor)
        future = session.step(frame(0))
        async with asyncio.timeout(10):
            with pytest.raises(VisionUnavailable):
                await supervisor.check_phrase("shirt")
        with pytest.raises(VisionUnavailable):
            await future


async def test_a_worker_that_reads_nothing_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(pipes, "OUTBOX_BYTES", 1_000_000)
    async with running(tmp_path, hang_seconds=60.0) as supervisor:
        await ready(supervisor)
        pid = supervisor.state.pid
        os.kill(pid, signal.SIGSTOP)
        known = Known("m", ("rei",), np.zeros(200, np.int64), np.zeros((200, 512), np.float32))
        for _ in range(10):
            supervisor.set_known(known)
        await until(lambda: supervisor.state.restarts == 1)
        await ready(supervisor)
        assert not psutil.pid_exists(pid)


async def test_photos_need_an_engine_that_knows_faces(tmp_path):
    async with running(tmp_path) as supervisor:
        with pytest.raises(VisionUnavailable, match="lite"):
            await asyncio.wait_for(supervisor.read_photo(b"whatever"), READY_SECONDS)
        await asyncio.wait_for(supervisor.check_phrase("shirt"), READY_SECONDS)


@pytest.mark.parametrize("steps", range(16))
async def test_ending_at_any_moment_of_a_start_leaves_nothing(tmp_path, steps):
    """What is left open is told of at the end of a test, as an error."""
    files, children = psutil.Process().num_fds(), set(psutil.Process().children())
    task = asyncio.create_task(Supervisor(VisionSettings(engine="synthetic"), tmp_path).run())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert [
        child
        for child in psutil.Process().children()
        if child not in children and "tracker" not in str(child.cmdline())
    ] == []
    assert psutil.Process().num_fds() <= files + 2, "the tracker of shared memory, which is started once"


async def test_ending_while_a_worker_is_being_replaced_waits_for_its_end(tmp_path):
    supervisor = Supervisor(VisionSettings(engine="synthetic", synthetic_delay_seconds=30.0), tmp_path)
    task = asyncio.create_task(supervisor.run())
    await ready(supervisor)
    pid, future = supervisor.state.pid, supervisor.open("a", Target()).step(frame(0))
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(VisionUnavailable):
        await future
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not psutil.pid_exists(pid)


async def test_ending_leaves_no_process_and_no_shared_memory(tmp_path):
    blocks = set(os.listdir("/dev/shm"))
    async with running(tmp_path) as supervisor:
        session = supervisor.open("a", Target())
        await ready(supervisor)
        pid = supervisor.state.pid
        await session.step(frame(0))
        assert set(os.listdir("/dev/shm")) > blocks
    assert not psutil.pid_exists(pid)
    assert supervisor.state.phase == "off"
    assert not {name for name in set(os.listdir("/dev/shm")) - blocks if name.startswith("psm_")}


async def test_a_worker_that_outlives_its_pipe_is_ended_all_the_same(tmp_path):
    """It may take long to end by itself: to free a GPU, or because it hangs while the service gives its pipe up."""
    pids = []

    def on_message(process: WorkerProcess, _: object) -> None:
        pids.append(process.pid)
        os.kill(process.pid, signal.SIGSTOP)
        raise ValueError("asyncio ends the pipe, and says why")

    process = WorkerProcess(VisionSettings(engine="synthetic"), tmp_path, on_message)
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    await process.start()
    await asyncio.wait_for(process.ended.wait(), READY_SECONDS)
    assert psutil.pid_exists(pids[0])
    await asyncio.wait_for(process.aclose(), READY_SECONDS)
    assert not psutil.pid_exists(pids[0])


async def test_a_worker_that_cannot_be_started_now_is_started_later(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        unused = os.dup(0)
        os.close(unused)
        resource.setrlimit(resource.RLIMIT_NOFILE, (unused + 2, hard))
        async with running(tmp_path) as supervisor:
            await until(lambda: supervisor.state.phase == "restarting")
            assert "Too many open files" in supervisor.state.reason
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await ready(supervisor)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_the_story_of_a_track_is_told_and_an_unknown_one_is_a_clear_error(tmp_path):
    async with running(tmp_path) as supervisor:
        session = supervisor.open("a", Target(member="rei"))
        await ready(supervisor)
        with pytest.raises(TrackUnknown, match=r"stream a has no track 1\b"):
            await supervisor.track_story("a", 1)
        result = await session.step(frame(0))
        story = await supervisor.track_story("a", result.tracks[0].id)
        # The synthetic engine sees no faces.
        assert (story.track_id, story.name, story.faces, story.looks) == (result.tracks[0].id, None, (), ())
        with pytest.raises(TrackUnknown, match="track 99"):
            await supervisor.track_story("a", 99)
        with pytest.raises(TrackUnknown, match="stream b"):
            await supervisor.track_story("b", 1)


async def test_no_story_without_a_worker(tmp_path):
    with pytest.raises(VisionUnavailable):
        await Supervisor(VisionSettings(engine="none"), tmp_path).track_story("a", 1)

"""The one encoder of a stream, with the real x264 and the real overlay."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator

import av
import numpy as np
import pytest

from streamer.egress import encoder as encoding
from streamer.egress.encoder import EncodedFrame, RenderJob, RenderStats, StreamEncoder
from streamer.frames import Frame, planes
from streamer.service.settings import VideoSettings
from streamer.tracks import FrameResult, Target, Track
from tests.media import texture

WIDTH, HEIGHT = 320, 240


class Collector:
    """A sink that keeps everything."""

    def __init__(self, wants_result: bool = False) -> None:
        self.wants_result = wants_result
        self.frames: list[EncodedFrame] = []
        self.ended = False
        self._more = asyncio.Event()

    def put(self, frame: EncodedFrame) -> None:
        self.frames.append(frame)
        self._more.set()

    def closed(self) -> None:
        self.ended = True
        self._more.set()

    async def wait(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.frames) < count:
                self._more.clear()
                await self._more.wait()


def job(index: int, width: int = WIDTH, height: int = HEIGHT, pts: float | None = None) -> RenderJob:
    frame = Frame(texture(width, height, index), index, index / 30 if pts is None else pts, time.monotonic())
    return RenderJob(frame, None, "none", Target(), None)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> float:
    """The encoder's waits are a few hundredths of a second; the least time between two requested keyframes."""
    monkeypatch.setattr(encoding, "STILL_SECONDS", 0.04)
    monkeypatch.setattr(encoding, "KEYFRAME_GAP_SECONDS", 0.05)
    return encoding.KEYFRAME_GAP_SECONDS


@pytest.fixture
async def encoder() -> AsyncIterator[StreamEncoder]:
    encoder = StreamEncoder(asyncio.get_running_loop(), VideoSettings())
    yield encoder
    await asyncio.to_thread(encoder.close)


async def feed(encoder: StreamEncoder, sink: Collector, jobs: Iterator[RenderJob] | list[RenderJob]) -> None:
    """One after the other, so that none is overtaken."""
    for each in jobs:
        count = len(sink.frames)
        encoder.submit(each)
        await sink.wait(count + 1)


def decoded(frames: list[EncodedFrame]) -> list[av.VideoFrame]:
    context = av.CodecContext.create("h264", "r")
    context.flags |= av.codec.context.Flags.low_delay
    return [picture for frame in frames for picture in context.decode(av.Packet(frame.data))]


async def test_every_picture_comes_out_at_once_as_constrained_baseline(encoder: StreamEncoder) -> None:
    sink = Collector()
    encoder.add_sink(sink)
    await feed(encoder, sink, [job(n) for n in range(8)])
    assert [frame.frame_index for frame in sink.frames] == list(range(8))
    assert [frame.keyframe for frame in sink.frames] == [True] + [False] * 7
    sps = sink.frames[0].data.split(b"\x00\x00\x01")[1]
    assert sps[0] & 0x1F == 7
    assert sps[1] == 66, "profile_idc baseline"
    assert sps[2] & 0x40, "constraint_set1: constrained baseline, what browsers negotiate"
    pictures = decoded(sink.frames)
    assert len(pictures) == 8
    luma = pictures[-1].to_ndarray()[:HEIGHT].astype(int)
    assert np.abs(luma - texture(WIDTH, HEIGHT, 7)[:HEIGHT]).mean() < 3


async def test_pts_rise_strictly_whatever_the_source_says(encoder: StreamEncoder) -> None:
    sink = Collector()
    encoder.add_sink(sink)
    await feed(encoder, sink, [job(n, pts=pts) for n, pts in enumerate((0.0, 0.5, 0.5, 0.2, 0.6))])
    stamps = [frame.pts for frame in sink.frames]
    assert stamps[0] == 0
    assert stamps[1] == 45_000
    assert stamps[-1] == 54_000
    assert all(b > a for a, b in itertools.pairwise(stamps))


@pytest.mark.usefixtures("hurried")
async def test_a_first_picture_that_is_encoded_again_has_its_own_time(encoder: StreamEncoder) -> None:
    """Who joins while the source or vision is slow gets the picture that is there; time goes on from that."""
    encoder.submit(job(0, pts=40.0))
    async with asyncio.timeout(10):
        while encoder.snapshot_i420() is None:
            await asyncio.sleep(0.01)
    sink = Collector()
    encoder.add_sink(sink)
    await sink.wait(1)
    await feed(encoder, sink, [job(1, pts=42.0), job(2, pts=44.0)])
    assert [frame.pts for frame in sink.frames] == [40 * 90_000, 42 * 90_000, 44 * 90_000]


@pytest.mark.usefixtures("hurried")
async def test_a_picture_that_is_encoded_again_takes_no_time_from_those_that_are_late(encoder: StreamEncoder) -> None:
    """Vision may be far behind the source: what was made long before the picture is repeated comes long after it."""
    early, late = Collector(), Collector()
    encoder.add_sink(early)
    await feed(encoder, early, [job(0, pts=40.0)])
    encoder.add_sink(late)
    await late.wait(1)
    await feed(encoder, late, [job(1, pts=40.04), job(2, pts=40.08)])
    assert [frame.frame_index for frame in late.frames] == [0, 1, 2]
    assert [frame.pts - 40 * 90_000 for frame in late.frames] == [1, 3600, 7200]


@pytest.mark.usefixtures("hurried")
async def test_who_joins_gets_the_newest_picture_with_its_own_result(encoder: StreamEncoder) -> None:
    """While nobody watches most pictures are not even drawn; the one that is shown then is not the last one drawn."""
    encoder.submit(job(0))
    async with asyncio.timeout(10):
        while encoder.snapshot_i420() is None:
            await asyncio.sleep(0.01)
        encoder.submit(job(9))
        while encoder._jobs._full:
            await asyncio.sleep(0.01)
    sink = Collector(wants_result=True)
    encoder.add_sink(sink)
    await sink.wait(1)
    assert sink.frames[0].frame_index == json.loads(sink.frames[0].result_json or b"")["frame"] == 9
    luma = decoded(sink.frames)[0].to_ndarray()[:HEIGHT].astype(int)
    assert np.abs(luma - texture(WIDTH, HEIGHT, 9)[:HEIGHT]).mean() < 3


async def test_keyframes_come_by_time_not_by_count(encoder: StreamEncoder) -> None:
    sink = Collector()
    encoder.add_sink(sink)
    await feed(encoder, sink, [job(n, pts=n / 4) for n in range(9)])
    assert [frame.frame_index for frame in sink.frames if frame.keyframe] == [0, 4, 8]


async def test_a_requested_keyframe_comes_and_a_flood_of_requests_gives_few(
    hurried: float, encoder: StreamEncoder
) -> None:
    sink = Collector()
    encoder.add_sink(sink)
    await feed(encoder, sink, [job(0)])
    began = time.monotonic()
    index = 0
    while time.monotonic() - began < 2.7 * hurried:
        index += 1
        encoder.request_keyframe()
        await feed(encoder, sink, [job(index, pts=index / 1000)])
    keyframes = sum(frame.keyframe for frame in sink.frames)
    assert 2 <= keyframes <= 1 + (time.monotonic() - began) / hurried


@pytest.mark.usefixtures("hurried")
async def test_a_keyframe_request_is_answered_while_the_source_stands_still(encoder: StreamEncoder) -> None:
    early, late = Collector(), Collector()
    encoder.add_sink(early)
    await feed(encoder, early, [job(0), job(1)])
    encoder.add_sink(late)
    await late.wait(1)
    assert late.frames[0].keyframe
    assert late.frames[0].frame_index == 1
    assert late.frames[0].pts > early.frames[1].pts
    assert len(decoded(late.frames)) == 1


async def test_a_new_size_begins_with_a_keyframe(encoder: StreamEncoder) -> None:
    sink = Collector()
    encoder.add_sink(sink)
    await feed(encoder, sink, [job(0), job(1), job(2, 640, 360), job(3, 640, 360)])
    assert [(f.width, f.height, f.keyframe) for f in sink.frames] == [
        (320, 240, True), (320, 240, False), (640, 360, True), (640, 360, False)
    ]  # fmt: skip
    assert [(p.width, p.height) for p in decoded(sink.frames)] == [(320, 240)] * 2 + [(640, 360)] * 2


async def test_the_newest_job_wins_and_the_others_are_counted(encoder: StreamEncoder) -> None:
    sink = Collector()
    encoder.add_sink(sink)
    await feed(encoder, sink, [job(0)])
    jobs = [job(index) for index in range(1, 101)]  # before: making one takes as long as encoding it
    for waiting in jobs:
        encoder.submit(waiting)
    async with asyncio.timeout(10):
        while sink.frames[-1].frame_index != 100:
            await sink.wait(len(sink.frames) + 1)
    assert encoder.dropped + len(sink.frames) == 101
    assert encoder.dropped > 0


async def test_without_a_sink_nothing_is_encoded_but_a_snapshot_is_there() -> None:
    seen: list[RenderStats] = []
    encoder = StreamEncoder(asyncio.get_running_loop(), VideoSettings(), on_rendered=seen.append)
    assert encoder.snapshot_i420() is None
    encoder.submit(job(0))
    async with asyncio.timeout(5):
        while not seen:
            await asyncio.sleep(0.01)
    assert seen[0].frame_index == 0
    assert seen[0].encode_seconds == 0.0
    picture = encoder.snapshot_i420()
    assert picture is not None
    assert picture.shape == (HEIGHT * 3 // 2, WIDTH)
    await asyncio.to_thread(encoder.close)


async def test_the_result_line_is_made_only_for_those_who_want_it(encoder: StreamEncoder) -> None:
    viewers, recorder = Collector(), Collector(wants_result=True)
    encoder.add_sink(viewers)
    await feed(encoder, viewers, [job(0)])
    encoder.add_sink(recorder)
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[50:100, 60:120] = 1
    track = Track(7, "wonyoung", 0.61, "tracked", (60, 50, 120, 100), None, 1)
    result = FrameResult(1, 1 / 30, WIDTH, HEIGHT, "lite", True, (track,), labels)
    plain = job(1)
    await feed(encoder, viewers, [RenderJob(plain.frame, result, "annotated", Target("wonyoung"), None), job(2)])
    assert viewers.frames[0].result_json is None
    first, second = (json.loads(frame.result_json or b"") for frame in recorder.frames)
    assert (first["frame"], first["tracks"][0]["name"]) == (1, "wonyoung")
    assert (second["frame"], second["tracks"]) == (2, [])


async def test_the_source_frame_is_never_written_to(encoder: StreamEncoder) -> None:
    """A file with long pauses shows the same picture again, and vision looks at it again."""
    sink = Collector()
    encoder.add_sink(sink)
    drawn_on = job(0)
    before = drawn_on.frame.i420.copy()
    await feed(encoder, sink, [RenderJob(drawn_on.frame, None, "annotated", Target(), "vision restarting")])
    assert np.array_equal(before, drawn_on.frame.i420)
    picture = encoder.snapshot_i420()
    assert picture is not None
    assert not np.array_equal(planes(picture)[0], planes(before)[0]), "the notice is in the picture"


async def test_closing_tells_the_sinks_and_leaves_no_thread() -> None:
    encoder = StreamEncoder(asyncio.get_running_loop(), VideoSettings())
    sink = Collector()
    encoder.add_sink(sink)
    await feed(encoder, sink, [job(0)])
    await asyncio.to_thread(encoder.close)
    await asyncio.to_thread(encoder.close)
    await asyncio.sleep(0)
    assert sink.ended
    assert not [thread for thread in threading.enumerate() if thread.name == "encoder"]
    late = Collector()
    encoder.add_sink(late)
    assert late.ended


async def test_asking_for_nvenc_where_there_is_none_falls_back_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    encoder = StreamEncoder(asyncio.get_running_loop(), VideoSettings(encoder="nvenc"))
    try:
        assert encoder.encoder_name in ("libx264", "h264_nvenc")
        if encoder.encoder_name == "libx264":
            assert "NVENC does not open here" in caplog.text
    finally:
        await asyncio.to_thread(encoder.close)

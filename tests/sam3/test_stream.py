"""A stream with engine sam3, from settings to results: real faces name people, the tiny network's masks follow them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from skimage import data as skimage_data  # noqa: E402

from streamer.errors import PromptUnsupported, VisionUnavailable  # noqa: E402
from streamer.frames import Frame  # noqa: E402
from streamer.service.settings import Sam3Settings, VisionSettings  # noqa: E402
from streamer.tracks import FrameResult, Target, Track  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.known import Known  # noqa: E402
from streamer.vision.loading import Models, build_models  # noqa: E402
from streamer.vision.models import ModelStore  # noqa: E402
from streamer.vision.processor import FrameProcessor  # noqa: E402
from streamer.vision.supervisor import Supervisor  # noqa: E402

pytestmark = pytest.mark.models
READY_SECONDS = 120.0


@pytest.fixture(scope="module")
def settings(checkpoint: Path) -> VisionSettings:
    """Random weights are sure of nothing: whatever the detector says counts. Their masks are not people, and jump: a
    face that is carried along with one between two looks lands anywhere, the face that is found then begins a track of
    its own, and takes the name with it. So faces are looked for on every frame; what holds for names between two looks
    is tested by itself below, and with masks of people in `tests/loopback/test_vision.py`."""
    chosen = Sam3Settings(checkpoint=str(checkpoint), score_threshold=0.0, part_refresh_frames=8)
    return VisionSettings(engine="sam3", sam3=chosen, identity_every=1, threads=1)


@pytest.fixture(scope="module")
def models(settings: VisionSettings, model_store: ModelStore) -> Models:
    return build_models(settings, model_store.root.parent)


@pytest.fixture(scope="module")
def eileen(models: Models) -> Known:
    """The gallery: the astronaut."""
    assert models.faces is not None
    (face, *_) = models.faces.read_photo(np.ascontiguousarray(skimage_data.astronaut()[..., ::-1]))
    return Known(models.faces.model_id, ("eileen",), np.zeros(1, np.int64), face.embedding[None])


@pytest.fixture
def processor(models: Models, eileen: Known) -> Iterator[FrameProcessor]:
    made = models.processor()
    made.set_known(eileen)
    made.set_target(Target(member="eileen"))
    yield made
    made.close()


def frame(index: int, *, hidden: bool = False) -> Frame:
    """The astronaut, 480 x 360, moving to and fro; `hidden`: something grey is before her face."""
    photo = cv2.resize(skimage_data.astronaut()[..., ::-1], (600, 600), interpolation=cv2.INTER_AREA)
    x = abs(2 * index % 200 - 100)
    bgr = np.ascontiguousarray(photo[:360, x : x + 480])
    if hidden:
        bgr[50:220, 190 - x : 340 - x] = 128
    return Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), index, index / 30, time.monotonic())


def play(processor: FrameProcessor, frames: range) -> list[FrameResult]:
    return [processor.step(frame(index)) for index in frames]


def only(result: FrameResult) -> Track:
    (track,) = result.tracks
    return track


def engine_of(processor: FrameProcessor) -> Sam3Engine:
    engine = processor._engine
    assert isinstance(engine, Sam3Engine)
    return engine


def test_a_member_is_named_followed_and_masked_by_sam3(processor: FrameProcessor) -> None:
    results = play(processor, range(20))
    assert {result.engine for result in results} == {"sam3"}
    assert len({only(result).id for result in results}) == 1
    assert {only(result).name for result in results[5:]} == {"eileen"}
    assert {only(result).state for result in results[5:]} == {"tracked"}
    for result in results[5:]:
        assert 0 < result.mask(only(result)).mean() < 1
    first, last = results[5], results[-1]
    assert (first.mask(only(first)) != last.mask(only(last))).any()


def test_member_and_objects_each_part_is_an_object_of_its_own(processor: FrameProcessor) -> None:
    processor.set_target(Target(member="eileen", object="shirt, hair"))
    results = play(processor, range(20))
    track_id = only(results[-1]).id
    assert set(engine_of(processor)._scene.keys()) == {(track_id, None), (track_id, "shirt"), (track_id, "hair")}
    seen = [result for result in results if only(result).object_prompt is not None]
    assert len(seen) > 10
    for result in seen:
        part, person = result.object_mask(only(result)), result.mask(only(result))
        assert part.any()
        assert not (part & ~person).any()
    # The user changes the mind while it runs: another phrase from the next frame on, the old objects go.
    processor.set_target(Target(member="eileen", object="hat"))
    results = play(processor, range(20, 56))
    assert set(engine_of(processor)._scene.keys()) <= {(track_id, None), (track_id, "hat")}
    assert {only(result).id for result in results} == {track_id}
    assert any(only(result).object_prompt == "hat" for result in results)
    with pytest.raises(PromptUnsupported, match="tokens long"):
        processor.set_target(Target(object="a phrase of so very many words that nobody reads them"))
    processor.set_target(Target(member="eileen"))
    assert only(play(processor, range(56, 58))[-1]).object_prompt is None


def test_a_new_seed_keeps_the_track_and_its_name(models: Models, processor: FrameProcessor) -> None:
    assert models.sam3 is not None
    network = models.sam3.network
    assert isinstance(network, Network)
    before = only(play(processor, range(10))[-1])
    assert before.name == "eileen"
    memory = engine_of(processor)._scene._tracker.memory
    first = min(memory.output_dict_per_obj[(before.id, None)]["cond_frame_outputs"])
    # She is not found in the picture for a while …
    bias = network.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias
    with torch.no_grad():
        bias.sub_(20)
    gone = [processor.step(frame(index, hidden=True)) for index in range(10, 18)]
    assert {only(result).state for result in gone[-4:]} == {"lost"}
    assert not any(result.mask(only(result)).any() for result in gone[-4:])
    with torch.no_grad():
        bias.add_(20)
    # … and comes back: seeded anew from her face, on clean memory, as the person that she was.
    back = play(processor, range(18, 30))
    assert {only(result).id for result in back} == {before.id}
    assert only(back[-1]).name == "eileen"
    assert back[-1].mask(only(back[-1])).any()
    again = min(memory.output_dict_per_obj[(before.id, None)]["cond_frame_outputs"])
    assert first < 10 <= again


def test_with_masks_that_stray_between_two_looks_the_name_stays_with_the_face(
    settings: VisionSettings, models: Models, eileen: Known
) -> None:
    seldom = replace(models, settings=settings.model_copy(update={"identity_every": 2}))
    processor = seldom.processor()
    processor.set_known(eileen)
    processor.set_target(Target(member="eileen"))
    looks = 0
    for result in play(processor, range(60)):
        named = [track for track in result.tracks if track.name is not None]
        assert len(named) <= 1, "one person has one name"
        if result.identified and result.frame_index >= 10:
            (track,) = named
            assert track.face_xyxy is not None
            x0, y0, x1, y1 = track.face_xyxy
            at = abs(2 * result.frame_index % 200 - 100)
            assert x0 < 265 - at < x1
            assert y0 < 135 < y1
            looks += 1
    processor.close()
    assert 20 <= looks < 50


def test_a_long_stream_holds_no_more_than_a_short_one(processor: FrameProcessor) -> None:
    processor.set_target(Target(member="eileen", object="shirt"))
    held = []
    for index in range(80):
        processor.step(frame(index))
        held.append(len(engine_of(processor).tensors()))
    # A person and a part: at most 4 conditioning frames and 15 others each.
    assert max(held[45:]) <= max(held[20:45])
    assert max(held) <= 2 * (4 * 4 + 6 * 4 + 9 * 2) + 6


@contextlib.asynccontextmanager
async def running(settings: VisionSettings, data_folder: Path) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(settings, data_folder)
    task = asyncio.create_task(supervisor.run())
    try:
        await asyncio.wait_for(supervisor.wait_ready(), READY_SECONDS)
        yield supervisor
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_the_worker_process_dies_and_the_next_one_seeds_anew(
    settings: VisionSettings, model_store: ModelStore, eileen: Known
) -> None:
    async with running(settings, model_store.root.parent) as supervisor:
        supervisor.set_known(eileen)
        await asyncio.wait_for(supervisor.check_phrase("red shirt"), READY_SECONDS)
        with pytest.raises(PromptUnsupported, match="tokens long"):
            await asyncio.wait_for(supervisor.check_phrase("so many letters that it cannot be read"), READY_SECONDS)
        session = supervisor.open("a", Target(member="eileen", object="shirt"))
        results = [await session.step(frame(index)) for index in range(12)]
        before = only(results[-1])
        assert (before.name, results[-1].engine) == ("eileen", "sam3")
        assert results[-1].mask(before).any()
        assert any(only(result).object_prompt == "shirt" for result in results)

        assert supervisor.state.pid is not None
        os.kill(supervisor.state.pid, signal.SIGKILL)
        async with asyncio.timeout(READY_SECONDS):
            while supervisor.state.phase == "ready":
                await asyncio.sleep(0.02)
        with pytest.raises(VisionUnavailable, match="restarting"):
            session.step(frame(12))
        await asyncio.wait_for(supervisor.wait_ready(), READY_SECONDS)
        results = [await session.step(frame(index)) for index in range(13, 25)]
        after = only(results[-1])
        assert (after.name, supervisor.state.restarts) == ("eileen", 1)
        assert after.id > before.id
        assert results[-1].mask(after).any()
        assert any(only(result).object_prompt == "shirt" for result in results)

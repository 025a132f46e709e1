"""The worker with engine sam3: frames of several streams that wait together share one batch of the image encoder."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.frames import Frame  # noqa: E402
from streamer.service.settings import VisionSettings  # noqa: E402
from streamer.tracks import FrameResult, Target  # noqa: E402
from streamer.vision import messages as msg  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Models  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.loading import Models  # noqa: E402
from streamer.vision.shared import SharedFrame  # noqa: E402
from streamer.vision.worker import MAX_TOGETHER, Worker  # noqa: E402
from tests.sam3 import tiny  # noqa: E402
from tests.sam3.conftest import HEIGHT, WIDTH  # noqa: E402
from tests.sam3.test_engine import Calls, Pictures  # noqa: E402

Shared = Callable[[str], SharedFrame]


@pytest.fixture
def models(network: Network) -> Models:
    """Without faces: each stream follows one person, whose box the clock gives."""
    return Models(VisionSettings(engine="synthetic"), None, None, Sam3Models(network))


@pytest.fixture
def shared() -> Iterator[Shared]:
    made: dict[str, SharedFrame] = {}

    def memory(stream: str) -> SharedFrame:
        if stream not in made:
            made[stream] = SharedFrame.create(WIDTH, HEIGHT)
        return made[stream]

    yield memory
    for each in made.values():
        each.close()


def frame(picture: Pictures, stream: str, index: int) -> Frame:
    """Frames of one stream look the same: there is room for one at a time, and here two wait."""
    bgr = picture(11 * ord(stream)).bgr
    return Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), index, index / 30, 0.0)


def step(shared: Shared, picture: Pictures, stream: str, index: int) -> msg.Step:
    shared(stream).write_frame(frame(picture, stream, index).i420)
    return msg.Step(stream, WIDTH, HEIGHT, index, index / 30, 0.0)


def opened(shared: Shared, streams: Sequence[str]) -> list[object]:
    return [
        msg.OpenStream(stream, shared(stream).name, shared(stream).capacity, Target(member="rei"), 1)
        for stream in streams
    ]


def answers(models: Models, messages: Sequence[object]) -> list[msg.Stepped]:
    """What a worker says to messages that all wait before it begins."""
    service: Connection
    service, far_end = multiprocessing.Pipe()
    for message in [*messages, msg.Shutdown()]:
        service.send(message)
    worker = Worker(far_end, models)
    worker.run()
    said = []
    while service.poll():
        said.append(service.recv())
    worker.close()
    service.close()
    return said


def alone(models: Models, picture: Pictures, stream: str, frames: range) -> FrameResult:
    processor = models.processor()
    processor.set_target(Target(member="rei"))
    result = [processor.step(frame(picture, stream, index)) for index in frames][-1]
    processor.close()
    return result


def test_waiting_frames_share_a_batch_and_get_what_each_gets_alone(
    models: Models, network: Network, shared: Shared, picture: Pictures
) -> None:
    streams = "abc"
    images = Calls(network.model.detector_model.vision_encoder)
    steps = [step(shared, picture, stream, index) for index in range(2) for stream in streams]
    said = answers(models, [*opened(shared, streams), *steps])
    # Of six waiting frames four make a batch, but no stream is in it twice.
    assert images.batches == [3, 3]
    assert [(answer.stream_id, answer.error) for answer in said] == [(stream, None) for stream in "abcabc"]
    for answer in said[3:]:
        expected = alone(models, picture, answer.stream_id, range(2))
        labels = shared(answer.stream_id).read_labels(WIDTH, HEIGHT)
        assert expected.label_map is not None
        assert np.count_nonzero(expected.label_map) > 0
        assert np.count_nonzero(labels != expected.label_map) <= 2  # a logit at the edge may round either way
        assert answer.result is not None
        assert answer.result.tracks == expected.tracks
    assert images.batches[2:] == [1] * 6


def test_a_batch_has_an_end_and_lets_no_message_be_overtaken(
    models: Models, network: Network, shared: Shared, picture: Pictures
) -> None:
    streams = "abcdef"
    images = Calls(network.model.detector_model.vision_encoder)
    steps = [step(shared, picture, stream, 0) for stream in streams]
    told = [*steps[:5], msg.CloseStream("f"), steps[5], msg.CloseStream("a")]
    said = answers(models, [*opened(shared, streams), *told])
    assert images.batches == [MAX_TOGETHER, 1]
    assert [answer.stream_id for answer in said] == list(streams)
    assert [answer.error is None for answer in said] == [True] * 5 + [False]


def test_a_batch_that_does_not_fit_goes_one_by_one(
    models: Models, network: Network, shared: Shared, picture: Pictures
) -> None:
    encoder = network.model.detector_model.vision_encoder
    tiny.refuse_batches(encoder)
    images = Calls(encoder)
    said = answers(models, [*opened(shared, "ab"), *(step(shared, picture, stream, 0) for stream in "ab")])
    assert images.batches == [1, 1]
    assert [answer.error for answer in said] == [None, None]
    assert all(answer.has_labels for answer in said)
    assert models.sam3 is not None
    assert models.sam3.headroom.given_up == []  # nothing had to be given up for good

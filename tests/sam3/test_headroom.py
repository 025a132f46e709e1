"""The card's memory runs full in the middle of a stream: something is given up, the stream goes on and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.errors import VisionUnavailable  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine, encode_together  # noqa: E402
from streamer.vision.engines.sam3.headroom import Headroom  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from tests.sam3 import tiny  # noqa: E402
from tests.sam3.test_engine import BOXES, Pictures  # noqa: E402


class Card:
    """A memory of so many bytes, in the allocator's place: from every tensor that a module is given it takes the size,
    and raises the allocator's own error where it does not fit."""

    def __init__(self, module: torch.nn.Module, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.refused = 0
        module.register_forward_pre_hook(self._check, with_kwargs=True)

    def _check(self, module: object, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
        wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if wanted > self.most_bytes:
            self.refused += 1
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {wanted} bytes.")


@pytest.fixture
def large(options: Sam3Options) -> Network:
    return Network(tiny.sam3_model(size=224), tiny.tokenizer(), options)


def follow(engine: Sam3Engine, picture: Pictures, frames: range, ids: list[int]) -> list[set[int]]:
    found = []
    for index in frames:
        engine.encode(picture(index))
        found.append(set(engine.propagate(ids)))
    return found


def start(engine: Sam3Engine, picture: Pictures) -> None:
    engine.encode(picture(0))
    for track_id, box in BOXES.items():
        engine.prompt(track_id, box_xyxy=box)
    assert set(engine.propagate(list(BOXES))) == set(BOXES)


def pixels_bytes(size: int) -> int:
    return 3 * size * size * 4


@pytest.mark.parametrize("part", ["encoder", "attention", "memory"])
def test_the_input_shrinks_and_every_track_goes_on(large: Network, picture: Pictures, part: str) -> None:
    headroom = Headroom(large, sizes=(224, 112))
    engine = Sam3Engine(large, headroom)
    start(engine, picture)
    assert follow(engine, picture, range(1, 4), list(BOXES)) == [set(BOXES)] * 3
    tracker = large.tracker_model
    module = {
        "encoder": large.model.detector_model.vision_encoder,
        "attention": tracker.memory_attention,
        "memory": tracker.memory_encoder,
    }[part]
    # These modules are those of the large network; the smaller one gets modules of its own.
    card = Card(module, most_bytes=1)
    assert follow(engine, picture, range(4, 10), list(BOXES))[1:] == [set(BOXES)] * 5
    assert card.refused == 1
    assert large.image_size == 112
    assert engine.notices == ("input size 224 -> 112",)
    assert engine.propagate([1])[1].logits.shape == (32, 32)


def test_other_streams_follow_to_the_smaller_input(large: Network, picture: Pictures) -> None:
    headroom = Headroom(large, sizes=(224, 112))
    engines = [Sam3Engine(large, headroom) for _ in range(2)]
    for engine in engines:
        start(engine, picture)
    Card(large.model.detector_model.vision_encoder, most_bytes=pixels_bytes(112))
    for index in range(1, 5):
        for engine in engines:
            engine.encode(picture(index))
            assert set(engine.propagate(list(BOXES))) == set(BOXES)
    assert headroom.given_up == ["input size 224 -> 112"]


@pytest.mark.parametrize("first", ["track", "prompt", "detect"])
def test_a_stream_whose_picture_was_encoded_before_the_other_stepped_down(
    large: Network, picture: Pictures, first: str
) -> None:
    """Pictures of several streams are encoded together, then each stream is tracked: the first may run out there."""
    headroom = Headroom(large, sizes=(224, 112))
    engines = [Sam3Engine(large, headroom) for _ in range(2)]
    for engine in engines:
        start(engine, picture)
    card = Card(large.tracker_model.memory_attention, most_bytes=1)
    encode_together(engines, [picture(1), picture(1)])
    engines[0].propagate(list(BOXES))
    card.most_bytes = 1 << 40
    assert headroom.given_up == ["input size 224 -> 112"]
    other = engines[1]
    if first == "detect":
        other.detect(["person"])
    if first == "prompt":
        other.prompt(1, box_xyxy=BOXES[1])
    regions = other.propagate(list(BOXES))
    assert {track_id: region.logits.shape for track_id, region in regions.items()} == dict.fromkeys(BOXES, (32, 32))
    for index in range(2, 5):
        encode_together(engines, [picture(index), picture(index)])
        for engine in engines:
            assert set(engine.propagate(list(BOXES))) == set(BOXES)


def test_at_the_smallest_input_fewer_objects_are_followed(network: Network, picture: Pictures) -> None:
    network.options = replace(network.options, max_objects=4)
    headroom = Headroom(network, sizes=(112,))
    engine = Sam3Engine(network, headroom)
    start(engine, picture)
    held: list[int] = []
    network.tracker_model.memory_attention.register_forward_pre_hook(_at_most(2, held), with_kwargs=True)
    found = follow(engine, picture, range(1, 8), list(BOXES))
    assert held == [3]
    assert found[-1] == {1, 2}
    assert engine.notices == ("objects followed at once 4 -> 2",)
    # The place of one that leaves can be had again.
    engine.remove(1)
    engine.encode(picture(9))
    engine.prompt(3, box_xyxy=BOXES[3])
    assert set(engine.propagate([2, 3])) == {2, 3}


def test_with_nothing_left_to_give_up_it_says_what_to_do(network: Network, picture: Pictures) -> None:
    network.options = replace(network.options, max_objects=2)
    engine = Sam3Engine(network, Headroom(network, sizes=(112,)))
    Card(network.model.detector_model.vision_encoder, most_bytes=1)
    with pytest.raises(VisionUnavailable, match=r"memory of cpu is full .*run fewer streams"):
        engine.encode(picture(0))


def test_memory_of_before_is_let_go(large: Network, picture: Pictures) -> None:
    engine = Sam3Engine(large, Headroom(large, sizes=(224, 112)))
    start(engine, picture)
    follow(engine, picture, range(1, 8), [1])
    before = sum(tensor.untyped_storage().nbytes() for tensor in engine.tensors())
    Card(large.model.detector_model.vision_encoder, most_bytes=pixels_bytes(112))
    follow(engine, picture, range(8, 15), [1])
    after = sum(tensor.untyped_storage().nbytes() for tensor in engine.tensors())
    assert after < 0.5 * before


def _at_most(objects: int, held: list[int]) -> Callable[..., None]:
    def check(module: object, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        count = kwargs["memory"].shape[1]
        if count > objects:
            held.append(count)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB.")

    return check

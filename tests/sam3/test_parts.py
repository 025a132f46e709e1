"""Member AND object: the part is detected now and then, cut to the person, and tracked in between."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.vision.engines.base import Picture  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from tests.sam3.conftest import HEIGHT, WIDTH  # noqa: E402
from tests.sam3.test_engine import Calls  # noqa: E402

Pictures = Callable[[int], Picture]


def start(engine: Sam3Engine, pictures: Pictures) -> None:
    """A person who fills most of the picture, so that whatever the detector finds lies on them."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[5:-5, 5:-5] = True
    engine.encode(pictures(0))
    engine.prompt(1, mask=mask)
    engine.propagate([1])


def test_a_part_lies_on_its_person_and_is_one_more_object(engine: Sam3Engine, picture: Pictures) -> None:
    start(engine, picture)
    person = engine.propagate([1])[1].logits > 0
    part = engine.part(1, "shirt")
    assert part is not None
    inside = part.logits > 0
    assert inside.any()
    assert not (inside & ~person).any()
    assert (1, "shirt") in engine._scene
    assert engine.part(2, "shirt") is None


def test_the_detector_looks_again_only_when_due(engine: Sam3Engine, network: Network, picture: Pictures) -> None:
    start(engine, picture)
    looks = Calls(network.model.detector_model.detr_decoder, "vision_features")
    frames = []
    for index in range(1, 20):
        engine.part(1, "shirt")
        frames.append(len(looks))
        engine.encode(picture(index))
        engine.propagate([1])
    # Refreshed every 8 frames; a part that is not to be seen is looked for every 5.
    assert frames[0] == 1
    assert frames[4] == 1
    assert 3 <= frames[-1] <= 4


def test_several_phrases_share_one_batch(engine: Sam3Engine, network: Network, picture: Pictures) -> None:
    start(engine, picture)
    for phrase in ("shirt", "hair"):
        engine.part(1, phrase)
    looks = Calls(network.model.detector_model.detr_decoder, "vision_features")
    for index in range(1, 10):
        engine.encode(picture(index))
        engine.propagate([1])
        for phrase in ("shirt", "hair"):
            engine.part(1, phrase)
    assert looks.batches
    assert set(looks.batches) == {2}


def test_parts_are_tracked_with_their_people_in_one_pass(
    engine: Sam3Engine, network: Network, picture: Pictures
) -> None:
    start(engine, picture)
    assert engine.part(1, "shirt") is not None
    attention = Calls(network.tracker_model.memory_attention, "memory")
    widths = []
    network.tracker_model.memory_attention.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["memory"].shape[1]), with_kwargs=True
    )
    engine.encode(picture(1))
    engine.propagate([1])
    engine.part(1, "shirt")
    assert len(attention) == 1
    assert widths == [2]


def test_a_part_that_nobody_asks_for_is_forgotten_and_goes_with_its_person(
    engine: Sam3Engine, picture: Pictures
) -> None:
    start(engine, picture)
    engine.part(1, "shirt")
    for index in range(1, 40):
        engine.encode(picture(index))
        engine.propagate([1])
        engine.part(1, "hair")
    assert (1, "shirt") not in engine._scene
    engine.part(1, "shirt")
    engine.remove(1)
    assert engine._scene.keys() == []
    assert engine.part(1, "shirt") is None


def test_people_and_parts_that_are_due_together_share_one_batch(
    engine: Sam3Engine, network: Network, picture: Pictures
) -> None:
    start(engine, picture)
    looks = Calls(network.model.detector_model.detr_decoder, "vision_features")
    batches = []
    for index in range(1, 20):
        engine.encode(picture(index))
        if index % 4 == 0:
            engine.prompt(1, face_xyxy=(60, 40, 90, 70))
        engine.propagate([1])
        engine.part(1, "shirt")
        batches.append(list(looks.batches))
        looks.batches.clear()
    assert [2] in batches
    # Never a second look at one picture, but where a new person's parts are sought.
    assert all(len(batch) <= 1 for batch in batches if 2 in batch)

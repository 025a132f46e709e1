"""The engine through its port, on the real architecture with random weights: who is seeded, followed, dropped, and how
often each network runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.errors import PromptUnsupported  # noqa: E402
from streamer.vision.engines.base import LookAhead, Picture, Region  # noqa: E402
from streamer.vision.engines.sam3 import association  # noqa: E402
from streamer.vision.engines.sam3 import engine as engine_module  # noqa: E402
from streamer.vision.engines.sam3.association import assign_faces, box_around, overlap  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Engine, encode_together  # noqa: E402
from streamer.vision.engines.sam3.headroom import Headroom  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from streamer.vision.engines.sam3.scene import Scene  # noqa: E402
from tests.sam3 import tiny  # noqa: E402
from tests.sam3.conftest import HEIGHT, WIDTH  # noqa: E402

Pictures = Callable[[int], Picture]
BOXES = {1: (20.0, 20.0, 80.0, 110.0), 2: (60.0, 30.0, 120.0, 90.0), 3: (5.0, 5.0, 70.0, 60.0)}


class Calls:
    """Counts how often a module really runs, and with what batch size."""

    def __init__(self, module: torch.nn.Module, argument: str | None = None) -> None:
        self.batches: list[int] = []
        self._argument = argument
        self._hook = module.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: object, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        value = kwargs[self._argument] if self._argument else (args[0] if args else next(iter(kwargs.values())))
        self.batches.append(int(value.shape[0]))

    def __len__(self) -> int:
        return len(self.batches)


def run(engine: Sam3Engine, pictures: Pictures, frames: range, ids: list[int]) -> list[dict[int, Region]]:
    regions = []
    for index in frames:
        engine.encode(pictures(index))
        regions.append(engine.propagate(ids))
    return regions


def conditioning_frames(engine: Sam3Engine, track_id: int) -> list[int]:
    memory = engine._scene._tracker.memory.output_dict_per_obj[(track_id, None)]
    return sorted(memory["cond_frame_outputs"])


def face_in(mask: np.ndarray) -> tuple[float, float, float, float]:
    """A small face box around a pixel well inside `mask` (h, w), in pixels of the frame."""
    import cv2

    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(distance.argmax()), mask.shape)
    px, py = (x + 0.5) * WIDTH / mask.shape[1], (y + 0.5) * HEIGHT / mask.shape[0]
    return px - 2, py - 2, px + 2, py + 2


def test_a_box_starts_a_track_that_every_further_frame_answers(engine: Sam3Engine, picture: Pictures) -> None:
    engine.encode(picture(0))
    assert engine.propagate([1]) == {}
    engine.prompt(1, box_xyxy=BOXES[1])
    first = engine.propagate([1])[1]
    assert first.box_xyxy == (0, 0, WIDTH, HEIGHT)
    assert first.logits.shape == (32, 32)
    assert first.logits.dtype == np.float32
    assert 0 < first.presence <= 1
    for regions in run(engine, picture, range(1, 6), [1]):
        assert set(regions) == {1}


def test_objects_that_come_and_go_do_not_touch_the_others(network: Network, picture: Pictures) -> None:
    alone, beside = (Sam3Engine(network, Headroom(network)) for _ in range(2))
    for index in range(14):
        for engine in (alone, beside):
            engine.encode(picture(index))
            if index == 0:
                engine.prompt(1, box_xyxy=BOXES[1])
        if index == 4:
            beside.prompt(2, box_xyxy=BOXES[2])
        if index == 9:
            beside.remove(2)
        expected, got = alone.propagate([1]), beside.propagate([1, 2])
        assert (2 in got) == (4 <= index < 9)
        np.testing.assert_allclose(got[1].logits, expected[1].logits, atol=1e-5)
    assert len(alone.tensors()) == len(beside.tensors())


def test_prompts_of_different_kinds_on_one_picture_are_all_answered(engine: Sam3Engine, picture: Pictures) -> None:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:100, 90:140] = True
    engine.encode(picture(0))
    engine.prompt(1, box_xyxy=BOXES[1])
    engine.prompt(2, mask=mask)
    engine.prompt(3, box_xyxy=BOXES[3])
    regions = engine.propagate([1, 2, 3])
    assert set(regions) == {1, 2, 3}
    inside = regions[2].logits > 0
    assert inside[32 * 38 // HEIGHT : 32 * 92 // HEIGHT, 32 * 98 // WIDTH : 32 * 132 // WIDTH].all()
    assert abs(inside.mean() - mask.mean()) < 0.02


def test_each_face_gets_the_person_that_covers_it(engine: Sam3Engine, network: Network, picture: Pictures) -> None:
    engine.encode(picture(0))
    people = engine._scene.find(["person"])["person"]
    masks = people.masks
    chosen = [index for index, mask in enumerate(masks) if mask.mean() > 0.1][:2]
    faces = [face_in(masks[i]) for i in chosen]
    expected = assign_faces(masks, people.scores.tolist(), faces, (HEIGHT, WIDTH))
    assert 1 <= len(faces) == len(set(expected.values()))
    for track_id, face in enumerate(faces):
        engine.prompt(track_id, face_xyxy=face)
    regions = engine.propagate([0, 1])
    for track_id in range(len(faces)):
        assert int(overlap(regions[track_id].logits > 0, masks).argmax()) == expected[track_id]
        assert regions[track_id].face_xyxy is not None


def test_a_face_that_no_person_covers_starts_from_the_box_around_it(network: Network, picture: Pictures) -> None:
    face = (70.0, 30.0, 90.0, 50.0)
    by_face, by_box = (Sam3Engine(network, Headroom(network)) for _ in range(2))
    nobody = network.options.__class__(device="cpu", dtype="float32", channels_last=False, score_threshold=0.999)
    network.options = nobody
    for engine in (by_face, by_box):
        engine.encode(picture(0))
    by_face.prompt(1, face_xyxy=face)
    by_box.prompt(1, box_xyxy=box_around(face, (HEIGHT, WIDTH)))
    np.testing.assert_array_equal(by_face.propagate([1])[1].logits, by_box.propagate([1])[1].logits)


def test_newer_evidence_that_agrees_keeps_the_memory_and_other_evidence_starts_anew(
    engine: Sam3Engine, picture: Pictures
) -> None:
    engine.encode(picture(0))
    engine.prompt(1, box_xyxy=BOXES[1])
    run(engine, picture, range(1, 5), [1])
    own = engine.propagate([1])[1].logits > 0
    import cv2

    engine.prompt(1, mask=cv2.resize(own.astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST) > 0)
    engine.propagate([1])
    assert conditioning_frames(engine, 1) == [0]
    engine.prompt(1, mask=cv2.resize((~own).astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST) > 0)
    after = engine.propagate([1])[1].logits > 0
    assert conditioning_frames(engine, 1) == [engine._scene.frame]
    assert (after & ~own).sum() / (after | ~own).sum() > 0.9


def test_a_prompt_after_propagate_is_answered_on_its_own_picture(network: Network, picture: Pictures) -> None:
    early, late = (Sam3Engine(network, Headroom(network)) for _ in range(2))
    for engine in (early, late):
        engine.encode(picture(0))
    early.prompt(1, box_xyxy=BOXES[1])
    early.propagate([1])
    late.propagate([])
    late.prompt(1, box_xyxy=BOXES[1])
    for engine in (early, late):
        engine.encode(picture(1))
    np.testing.assert_array_equal(late.propagate([1])[1].logits, early.propagate([1])[1].logits)


def test_where_detector_and_tracker_agree_a_frame_is_kept_at_most_four(network: Network, picture: Pictures) -> None:
    with torch.inference_mode():
        scene = Scene(network, Headroom(network))
        for index in range(30):
            scene.show(picture(index))
            if index == 0:
                scene.seed((1, None), box=BOXES[1])
            scene.track([(1, None)])
            if index % 3 == 0:
                scene.promote((1, None))
        outputs = scene._tracker.memory.output_dict_per_obj[(1, None)]
        assert sorted(outputs["cond_frame_outputs"]) == [18, 21, 24, 27]
        assert 27 not in outputs["non_cond_frame_outputs"]


def test_good_frames_are_kept_and_others_are_not(
    engine: Sam3Engine, picture: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is good is for a trained network to say: here everything is, or nothing."""
    face = (70.0, 30.0, 90.0, 50.0)
    for name in ("FACE_COVERED", "SAME_PERSON", "GOOD_OVERLAP", "GOOD_SCORE", "GOOD_LOGIT"):
        monkeypatch.setattr(engine_module, name, -1.0)
    monkeypatch.setattr(association, "FACE_COVERED", 0.0)
    for index in range(24):
        engine.encode(picture(index))
        if index == 0:
            engine.prompt(1, box_xyxy=BOXES[1])
        elif index % 4 == 0 and index < 21:
            engine.prompt(1, face_xyxy=face)
        engine.propagate([1])
    assert conditioning_frames(engine, 1) == [8, 12, 16, 20]
    monkeypatch.setattr(engine_module, "GOOD_LOGIT", 1e9)
    for index in range(24, 40):
        engine.encode(picture(index))
        engine.prompt(1, face_xyxy=face)
        engine.propagate([1])
    assert conditioning_frames(engine, 1) == [8, 12, 16, 20]


def test_lost_and_found_again(engine: Sam3Engine, network: Network, picture: Pictures) -> None:
    bias = network.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias
    engine.encode(picture(0))
    engine.prompt(1, box_xyxy=BOXES[1])
    assert 1 in engine.propagate([1])
    with torch.no_grad():
        bias.sub_(20)
    assert run(engine, picture, range(1, 8), [1]) == [{}] * 7
    with torch.no_grad():
        bias.add_(20)
    engine.encode(picture(8))
    engine.prompt(1, box_xyxy=BOXES[2])
    assert 1 in engine.propagate([1])
    assert conditioning_frames(engine, 1) == [8]


def test_one_image_encoding_a_picture_and_none_for_text_that_is_known(
    engine: Sam3Engine, network: Network, picture: Pictures
) -> None:
    images = Calls(network.model.detector_model.vision_encoder)
    texts = Calls(network.model.detector_model.text_encoder, "input_ids")
    decoder = Calls(network.model.detector_model.detr_decoder, "vision_features")
    for index in range(6):
        engine.encode(picture(index))
        engine.detect(["person", "shirt", "hair"])
        engine.detect(["shirt"])
        engine.prompt(1, face_xyxy=(70, 30, 90, 50))
        engine.propagate([1])
    assert images.batches == [1] * 6
    assert texts.batches == [1] * 3
    assert decoder.batches == [3] * 6


def test_without_prompts_the_detector_rests(engine: Sam3Engine, network: Network, picture: Pictures) -> None:
    engine.encode(picture(0))
    engine.prompt(1, box_xyxy=BOXES[1])
    engine.propagate([1])
    decoder = Calls(network.model.detector_model.detr_decoder, "vision_features")
    run(engine, picture, range(1, 10), [1])
    assert len(decoder) == 0


def test_concepts_in_one_batch_give_what_each_gives_alone(network: Network, picture: Pictures) -> None:
    with torch.inference_mode():
        (features,) = network.encode([picture(0).bgr])
        together = network.find(features, ["person", "shirt", "hair"])
        for concept, found in together.items():
            alone = network.find(features, [concept])[concept]
            np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)
            torch.testing.assert_close(found.logits, alone.logits, atol=1e-4, rtol=0)


def test_streams_that_are_due_together_share_one_batch(network: Network, picture: Pictures) -> None:
    together = [Sam3Engine(network, Headroom(network)) for _ in range(2)]
    alone = [Sam3Engine(network, Headroom(network)) for _ in range(2)]
    images = Calls(network.model.detector_model.vision_encoder)
    encode_together(together, [picture(0), picture(7)])
    assert images.batches == [2]
    for engine, index in zip(alone, (0, 7), strict=True):
        engine.encode(picture(index))
    for one, other in zip(together, alone, strict=True):
        for engine in (one, other):
            engine.prompt(1, box_xyxy=BOXES[1])
        np.testing.assert_allclose(one.propagate([1])[1].logits, other.propagate([1])[1].logits, atol=1e-4)
    held = sum(tensor.untyped_storage().nbytes() for tensor in together[0].tensors())
    assert held == pytest.approx(sum(tensor.untyped_storage().nbytes() for tensor in alone[0].tensors()))


def test_pictures_known_ahead_share_one_batch(network: Network, picture: Pictures) -> None:
    ahead, alone = (Sam3Engine(network, Headroom(network)) for _ in range(2))
    images = Calls(network.model.detector_model.vision_encoder)
    assert isinstance(ahead, LookAhead)
    ahead.prepare([picture(index) for index in range(3)])
    assert images.batches == [3]
    for index in range(4):  # the last one was not prepared
        for engine in (ahead, alone):
            engine.encode(picture(index))
            if index == 0:
                engine.prompt(1, box_xyxy=BOXES[1])
        one, other = ahead.propagate([1])[1], alone.propagate([1])[1]
        np.testing.assert_allclose(one.logits, other.logits, atol=1e-3)
    assert images.batches == [3, 1, 1, 1, 1, 1]
    assert ahead._prepared == {}


def test_forgetting_and_closing(engine: Sam3Engine, picture: Pictures) -> None:
    engine.encode(picture(0))
    for track_id in (1, 2):
        engine.prompt(track_id, box_xyxy=BOXES[track_id])
    engine.propagate([1, 2])
    engine.remove(1)
    engine.remove(99)
    assert set(engine.propagate([1, 2])) == {2}
    engine.reset()
    assert engine.propagate([1, 2]) == {}
    engine.encode(picture(1))
    engine.prompt(2, box_xyxy=BOXES[2])
    assert set(engine.propagate([1, 2])) == {2}
    engine.close()
    engine.close()
    assert engine.tensors() == []


def test_no_more_objects_than_allowed(network: Network, picture: Pictures, caplog: pytest.LogCaptureFixture) -> None:
    network.options = Sam3Options(device="cpu", dtype="float32", channels_last=False, max_objects=2)
    engine = Sam3Engine(network, Headroom(network))
    for index in range(3):
        engine.encode(picture(index))
        for track_id, box in BOXES.items():
            engine.prompt(track_id, box_xyxy=box)
        assert set(engine.propagate([1, 2, 3])) == {1, 2}
    assert [record.message for record in caplog.records] == ["2 objects are followed already; no more are started"]


def test_bfloat16_streams(picture: Pictures) -> None:
    options = Sam3Options(device="cpu", dtype="bfloat16", channels_last=True, score_threshold=0.0)
    network = Network(tiny.sam3_model().to(torch.bfloat16), tiny.tokenizer(), options)
    engine = Sam3Engine(network, Headroom(network))
    engine.encode(picture(0))
    engine.prompt(1, box_xyxy=BOXES[1])
    engine.prompt(2, face_xyxy=(70, 30, 90, 50))
    for index in range(1, 20):
        regions = engine.propagate([1, 2])
        assert set(regions) == {1, 2}
        assert all(np.isfinite(region.logits).all() for region in regions.values())
        engine.encode(picture(index))
    assert {tensor.dtype for tensor in engine.tensors()} == {torch.bfloat16}


def test_pixels_are_those_of_the_reference_processor(network: Network, picture: Pictures) -> None:
    from PIL import Image
    from transformers import Sam3ImageProcessor

    reference = Sam3ImageProcessor(size={"height": 112, "width": 112})
    expected = reference(images=Image.fromarray(picture(0).bgr[..., ::-1]), return_tensors="pt").pixel_values
    # The reference rounds to whole levels after resizing.
    torch.testing.assert_close(network.pixels(picture(0).bgr), expected, atol=1.01 / 127.5, rtol=0)


def test_a_phrase_that_is_too_long_is_refused(engine: Sam3Engine) -> None:
    engine.check_phrase("shirt")
    with pytest.raises(PromptUnsupported, match="tokens long"):
        engine.check_phrase("a very long phrase about somebody who wears a shirt")


@pytest.mark.parametrize(("family", "make"), [("sam2", tiny.sam2_model), ("edgetam", tiny.edgetam_model)])
def test_trackers_without_concepts(
    family: str, make: Callable[[], torch.nn.Module], options: Sam3Options, picture: Pictures
) -> None:
    network = Network(make(), None, options)
    engine = Sam3Engine(network, Headroom(network))
    assert engine.name == family
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[30:100, 90:140] = True
    for index in range(24):
        engine.encode(picture(index))
        if index == 0:
            engine.prompt(1, face_xyxy=(70, 30, 90, 50))
            engine.prompt(2, mask=mask)
        if index == 3:
            engine.prompt(3, box_xyxy=BOXES[3])
        assert set(engine.propagate([1, 2, 3])) == ({1, 2, 3} if index >= 3 else {1, 2})
        if index == 20:
            held = len(engine.tensors())
    assert len(engine.tensors()) == held
    with pytest.raises(PromptUnsupported, match="facebook/sam3"):
        engine.check_phrase("shirt")

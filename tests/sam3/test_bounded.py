"""A stream that never ends: flat memory, and the masks of the stock session that forgets nothing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")
pytest.importorskip("transformers", reason="SAM 3 needs transformers: pip install -e '.[sam3]'")

from transformers import Sam3TrackerVideoInferenceSession  # noqa: E402

from streamer.vision.engines.sam3.features import Features  # noqa: E402
from streamer.vision.engines.sam3.tracker import Tracker  # noqa: E402
from tests.sam3 import tiny  # noqa: E402

FRAMES = 1000
PICTURES = 24
"""Different pictures, shown in turn."""
Box = tuple[float, float, float, float]
COMINGS: dict[int, tuple[int, Box]] = {
    0: (1, (10, 10, 60, 90)),
    120: (2, (30, 20, 100, 80)),
    500: (3, (5, 40, 50, 110)),
}
GOINGS = {420: 2}
AGAIN: dict[int, tuple[int, Box]] = {300: (1, (12, 14, 66, 96)), 640: (3, (8, 36, 58, 104))}
"""Prompted once more while tracked: one more conditioning frame."""


class Stock:
    """One unpruned stock session an object: what the object's logits are where nobody else is there."""

    def __init__(self, model: torch.nn.Module, track_id: int) -> None:
        self._model = model
        self._id = track_id
        self.session = Sam3TrackerVideoInferenceSession(dtype=torch.float32)
        self.session.processed_frames = {}

    def step(self, frame: int, features: Features, box: Box | None) -> torch.Tensor:
        session = self.session
        session.cache.cache_vision_features(
            frame, {"vision_feats": features.maps, "vision_pos_embeds": features.positions}
        )
        if box is not None:
            points = {
                "point_coords": torch.tensor(box).view(1, 1, 2, 2),
                "point_labels": torch.tensor([[[2, 3]]], dtype=torch.int32),
            }
            session.add_point_inputs(session.obj_id_to_idx(self._id), frame, points)
            session.obj_with_new_inputs = [self._id]
        masks: torch.Tensor = self._model(session, frame=torch.zeros(0), frame_idx=frame).pred_masks
        return masks[0, 0]


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return tiny.sam3_model()


@pytest.fixture(scope="module")
def features(model: torch.nn.Module) -> list[Features]:
    generator = torch.Generator().manual_seed(5)
    still = torch.randn(1, 3, tiny.SIZE, tiny.SIZE, generator=generator)
    made = []
    with torch.inference_mode():
        for _ in range(PICTURES):
            pixels = 0.7 * still + 0.3 * torch.randn(1, 3, tiny.SIZE, tiny.SIZE, generator=generator)
            vision = model.detector_model.get_vision_features(pixel_values=pixels)
            maps, positions = model.get_vision_features_for_tracker(vision)
            made.append(Features(list(maps), list(positions), None, (tiny.SIZE, tiny.SIZE)))
    return made


@torch.inference_mode()
def test_a_thousand_frames_are_the_stock_sessions_in_flat_memory(
    model: torch.nn.Module, features: list[Features]
) -> None:
    tracker = Tracker(model.tracker_model)
    stock: dict[int, Stock] = {}
    worst, moved = 0.0, 0.0
    before: dict[int, torch.Tensor] = {}
    held: dict[int, list[tuple[int, int]]] = {}
    for frame in range(FRAMES):
        current = features[frame % PICTURES]
        tracker.begin(current)
        boxes = {}
        for schedule in (COMINGS, AGAIN):
            if frame in schedule:
                track_id, box = schedule[frame]
                boxes[track_id] = box
                stock.setdefault(track_id, Stock(model.tracker_model, track_id))
        if frame in GOINGS:
            tracker.forget(GOINGS[frame])
            del stock[GOINGS[frame]]
        got = {track_id: tracker.seed(track_id, box=box).logits[0] for track_id, box in boxes.items()}
        for tracked in tracker.track(list(stock)):
            got.update(zip(tracked.keys, tracked.logits, strict=True))
        assert set(got) == set(stock)
        for track_id, session in stock.items():
            expected = session.step(frame, current, boxes.get(track_id))
            worst = max(worst, (got[track_id] - expected).abs().max().item())
            if track_id in before:
                moved = max(moved, (expected - before[track_id]).abs().max().item())
            before[track_id] = expected
        memory = tracker.memory
        held.setdefault(frame // 100, []).append((len(memory.tensors()), memory.bytes()))
    assert worst < 1e-5
    assert moved > 0.1  # the masks do change from frame to frame, so the comparison means something
    # Full after 16 frames of an object; afterwards not one tensor and not one byte more, until an object comes or goes.
    assert held[0][20] == held[0][99] == held[1][19]
    assert held[1][50] == held[2][0] == held[2][99]
    assert held[4][50] == held[4][99]
    assert held[6][80] == held[7][0] == held[9][99]
    assert max(count for counts in held.values() for count, _ in counts) < 200


@torch.inference_mode()
def test_forgetting_one_frame_too_many_would_show(model: torch.nn.Module, features: list[Features]) -> None:
    """The comparison above is sharp: of what is kept, the oldest spatial memory and the oldest pointer matter."""
    results = []
    for drop in (None, "maskmem_features", "object_pointer"):
        tracker = Tracker(model.tracker_model)
        for frame in range(20):
            tracker.begin(features[frame % PICTURES])
            if frame == 0:
                tracker.seed(1, box=(10, 10, 60, 90))
            if frame == 19:
                tracked = tracker.memory.output_dict_per_obj[1]["non_cond_frame_outputs"]
                if drop == "maskmem_features":
                    del tracked[13]
                elif drop == "object_pointer":
                    del tracked[4]
            masks = tracker.track([1])
        results.append(masks[0].logits)
    assert (results[0] - results[1]).abs().max() > 1e-4
    assert (results[0] - results[2]).abs().max() > 1e-4


@torch.inference_mode()
def test_objects_in_one_batch_are_what_each_is_alone(model: torch.nn.Module, features: list[Features]) -> None:
    together, alone = Tracker(model.tracker_model), Tracker(model.tracker_model, batch_objects=False)
    boxes = {"a": (10, 10, 60, 90), "b": (30, 20, 100, 80), "c": (5, 5, 50, 60)}
    for frame in range(20):
        for tracker in (together, alone):
            tracker.begin(features[frame % PICTURES])
            for start, (key, box) in enumerate(boxes.items()):
                if frame == 2 * start:
                    tracker.seed(key, box=box)
        one, other = (
            {key: t.logits[row] for t in tracker.track(boxes) for row, key in enumerate(t.keys)}
            for tracker in (together, alone)
        )
        assert set(one) == set(other)
        for key in one:
            torch.testing.assert_close(one[key], other[key], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_more_conditioning_frames_than_are_read_are_not_kept(model: torch.nn.Module, features: list[Features]) -> None:
    tracker = Tracker(model.tracker_model)
    sizes = []
    for frame in range(60):
        tracker.begin(features[frame % PICTURES])
        if frame % 4 == 0:
            tracker.seed(1, box=(10, 10, 60, 90))
        tracker.track([1])
        sizes.append(tracker.memory.bytes())
    assert sizes[30] == sizes[34] == sizes[58]
    assert len(tracker.memory.output_dict_per_obj[1]["cond_frame_outputs"]) == 4

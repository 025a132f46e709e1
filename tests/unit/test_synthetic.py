"""The frame processor with the synthetic engine: no model, no gallery."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from streamer.errors import VisionUnavailable
from streamer.frames import Frame
from streamer.service.settings import VisionSettings
from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, FrameResult, Target
from streamer.vision.engines.synthetic import RADIUS_X, RADIUS_Y, ellipse_box
from streamer.vision.loading import build_models
from streamer.vision.processor import FrameProcessor


def grey(index: int, width: int = 320, height: int = 180, pts_seconds: float | None = None) -> Frame:
    planes = np.full((height * 3 // 2, width), 128, np.uint8)
    return Frame(planes, index, index / 30 if pts_seconds is None else pts_seconds, time.monotonic())


def processor(tmp_path: Path, **settings: object) -> FrameProcessor:
    return build_models(VisionSettings.model_validate({"engine": "synthetic"} | settings), tmp_path).processor()


def only_track(result: FrameResult) -> tuple[int, str | None]:
    (track,) = result.tracks
    return track.id, track.name


def test_one_track_follows_the_ellipse(tmp_path: Path) -> None:
    vision = processor(tmp_path)
    for index in range(60):
        result = vision.step(grey(index))
        (track,) = result.tracks
        x0, y0, x1, y1 = ellipse_box(index / 30, 320, 180)
        ys, xs = np.mgrid[0:180, 0:320] + 0.5
        truth = np.hypot((xs - (x0 + x1) / 2) / (RADIUS_X * 320), (ys - (y0 + y1) / 2) / (RADIUS_Y * 180)) < 1
        mask = result.mask(track)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9
        assert np.allclose(track.box_xyxy, (x0, y0, x1, y1), atol=3)
        assert result.label_map is not None
        assert ((result.label_map & LABEL_PERSON) > 0)[mask].all()
    vision.close()
    vision.close()


def test_the_result_belongs_to_its_frame(tmp_path: Path) -> None:
    vision = processor(tmp_path)
    result = vision.step(grey(17, 640, 360, pts_seconds=2.5))
    assert (result.frame_index, result.pts_seconds, result.width, result.height) == (17, 2.5, 640, 360)
    assert (result.engine, result.identified) == ("synthetic", False)
    assert set(result.stage_seconds) == {"identity", "propagate"}
    assert result.label_map is not None
    assert result.label_map.shape == (360, 640)


def test_the_path_is_a_function_of_the_time(tmp_path: Path) -> None:
    a, b = processor(tmp_path), processor(tmp_path)
    for index in (0, 5, 40):
        first, second = a.step(grey(index)), b.step(grey(index))
        assert np.array_equal(first.label_map, second.label_map)


def test_the_track_bears_the_member_that_is_asked_for(tmp_path: Path) -> None:
    vision = processor(tmp_path)
    assert only_track(vision.step(grey(0))) == (1, None)
    vision.set_target(Target(member="rei"))
    assert only_track(vision.step(grey(1))) == (1, "rei")
    vision.set_target(Target())
    assert only_track(vision.step(grey(2))) == (1, None)


def test_any_object_is_part_of_the_person(tmp_path: Path) -> None:
    vision = processor(tmp_path)
    vision.set_target(Target(object="shirt"))
    result = vision.step(grey(0))
    (track,) = result.tracks
    assert track.object_prompt == "shirt"
    part, whole = result.object_mask(track), result.mask(track)
    assert 0 < part.sum() < whole.sum()
    assert not (part & ~whole).any()
    vision.set_target(Target())
    result = vision.step(grey(1))
    assert result.tracks[0].object_prompt is None
    assert result.label_map is not None
    assert not (result.label_map & LABEL_OBJECT).any()


def test_the_delay_passes_in_each_step(tmp_path: Path) -> None:
    vision = processor(tmp_path, synthetic_delay_seconds=0.03)
    vision.step(grey(0))
    assert vision.step(grey(1)).stage_seconds["propagate"] >= 0.03


def test_a_size_that_changes_and_odd_ones(tmp_path: Path) -> None:
    vision = processor(tmp_path)
    for index, (width, height) in enumerate([(320, 180), (640, 360), (16, 16), (358, 202)]):
        result = vision.step(grey(index, width, height))
        assert result.label_map is not None
        assert result.label_map.shape == (height, width)
        for track in result.tracks:
            x0, y0, x1, y1 = track.box_xyxy
            assert 0 <= x0 <= x1 <= width
            assert 0 <= y0 <= y1 <= height


def test_reset_starts_a_new_track(tmp_path: Path) -> None:
    vision = processor(tmp_path)
    first = only_track(vision.step(grey(0)))[0]
    vision.reset()
    assert only_track(vision.step(grey(1)))[0] > first, "ids are never used again"


def test_results_share_no_memory(tmp_path: Path) -> None:
    vision = processor(tmp_path)
    first = vision.step(grey(0))
    assert first.label_map is not None
    before = first.label_map.copy()
    vision.step(grey(30))
    assert np.array_equal(first.label_map, before)


def test_engine_none_has_no_processor(tmp_path: Path) -> None:
    with pytest.raises(VisionUnavailable, match="none"):
        build_models(VisionSettings(engine="none"), tmp_path)

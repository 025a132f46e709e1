"""`streamer bench engine` on the real architectures, tiny: what is counted is what runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from streamer.bench import engine_sam3  # noqa: E402
from streamer.bench.engine import faces, picture, run  # noqa: E402
from streamer.errors import ConfigError  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from tests.sam3 import tiny  # noqa: E402

MAKERS = {"sam3": tiny.sam3_model, "sam2": tiny.sam2_model, "edgetam": tiny.edgetam_model}


def measure(options: Sam3Options, family: str, objects: int, frames: int) -> dict[str, object]:
    chosen = replace(options, checkpoint=family)
    network = engine_sam3.network_of(MAKERS[family](), family, chosen)
    subject = engine_sam3.subject(chosen, folder=None, tell=lambda line: None, network=network)
    return run(subject, objects, frames)


def test_every_stage_of_sam3_is_timed_and_counted(options: Sam3Options) -> None:
    one, three = (measure(options, "sam3", objects, 8) for objects in (1, 3))
    assert set(one["stages"]) == {"encode", "detect", "propagate", "attend", "decode", "remember", "smooth"}
    for report, objects in ((one, 1), (three, 3)):
        stages = report["stages"]
        assert report["objects_found"] == objects
        assert stages["encode"]["calls"] == 6  # the first two frames are not counted
        parts = sum(stages[name]["gflop"] for name in ("attend", "decode", "remember"))
        assert parts == pytest.approx(stages["propagate"]["gflop"], rel=0.05)
        assert sum(stages[name]["ms_p50"] for name in ("attend", "decode", "remember")) < stages["propagate"]["ms_most"]
        for name in ("encode", "detect", "propagate"):
            stage = stages[name]
            expected = stage["gflop"] / (stage["ms_p50"] / 1000) / report["peak_gflops"]
            assert stage["share_of_peak"] == pytest.approx(expected)
        assert report["propagate_ms_per_object"] == pytest.approx(stages["propagate"]["ms_p50"] / objects)
    # One picture whoever is on it; each object its own arithmetic.
    assert one["stages"]["encode"]["gflop"] == three["stages"]["encode"]["gflop"] > 0
    assert three["stages"]["attend"]["gflop"] == pytest.approx(3 * one["stages"]["attend"]["gflop"])


def test_arithmetic_is_that_of_full_memories(options: Sam3Options) -> None:
    """Counted on the third frame, but with as much to read as after a minute."""
    network = engine_sam3.network_of(tiny.sam3_model(), "sam3", options)
    counted = measure(options, "sam3", 1, 3)["stages"]["attend"]["gflop"]
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode():
        tracker = network.tracker()
        for index in range(20):
            (features,) = network.encode([picture(index, 1).bgr])
            tracker.begin(features)
            if index == 0:
                tracker.seed(1, box=(20.0, 20.0, 80.0, 90.0))
            prepared = tracker._memory_of(1) if index == 19 else None
            if prepared is not None:
                with FlopCounterMode(display=False) as counter:
                    tracker._attend([prepared], prepared[2])
            tracker.track([1])
    assert counted == pytest.approx(counter.get_total_flops() / 1e9, rel=0.15)


@pytest.mark.parametrize("family", ["sam2", "edgetam"])
def test_trackers_without_concepts_are_measured_too(options: Sam3Options, family: str) -> None:
    report = measure(options, family, 2, 4)
    assert report["engine"] == family
    assert report["objects_found"] == 2
    assert report["stages"]["propagate"]["gflop"] > 0
    assert not report["stages"].get("detect", {}).get("gflop")


def test_a_family_that_is_not_known_is_refused(options: Sam3Options) -> None:
    with pytest.raises(ConfigError, match="sam2"):
        engine_sam3.random_network("sam9", options)


def test_pictures_hold_as_many_people_as_are_followed() -> None:
    for people in (1, 2, 6, 16):
        shown = picture(4, people).bgr
        assert shown.shape == (720, 1280, 3)
        boxes = faces(4, people)
        assert len(boxes) == people
        for x0, y0, x1, y1 in boxes:
            inside = shown[round(y0) : round(y1), round(x0) : round(x1)]
            assert inside.std() > 20
            assert (np.array([x0, y0, 1280 - x1, 720 - y1]) > 0).all()

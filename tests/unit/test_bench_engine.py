"""The engine benchmark without torch: arithmetic of ONNX models, and the engine that needs no models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from streamer.bench.engine_run import measure
from streamer.bench.engine_subjects import onnx_gflop
from streamer.errors import ConfigError
from streamer.service.settings import Settings, VisionSettings


def test_gflop_of_an_onnx_model_are_those_of_its_convolutions_and_products(tmp_path: Path) -> None:
    weights = [
        numpy_helper.from_array(np.zeros((16, 3, 5, 5), np.float32), "w"),
        numpy_helper.from_array(np.zeros((16, 1, 3, 3), np.float32), "depthwise"),
        numpy_helper.from_array(np.zeros((32, 10), np.float32), "m"),
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[2, 2, 2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["a", "depthwise"], ["b"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("MatMul", ["b", "m"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 32, 10])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    cells = 32 * 32
    expected = 2 * (16 * cells * 3 * 25 + 16 * cells * 9 + 16 * 32 * 10 * 32) / 1e9
    assert onnx_gflop(tmp_path / "m.onnx") == pytest.approx(expected)


def test_the_synthetic_engine_is_measured(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, vision=VisionSettings(engine="synthetic", synthetic_delay_seconds=0.005))
    report = measure(settings, 3, 6, random_weights=False)
    assert report["objects_found"] == 3
    assert report["stages"]["propagate"]["ms_p50"] >= 5
    assert report["stages"]["propagate"]["gflop"] is None
    assert report["peak_gflops"] > 0.1
    assert report["memory_mb"]["last"] > 10


@pytest.mark.parametrize("engine", ["lite", "none"])
def test_what_cannot_be_measured_says_why(tmp_path: Path, engine: str) -> None:
    settings = Settings(data_dir=tmp_path, vision=VisionSettings.model_validate({"engine": engine}))
    with pytest.raises(ConfigError, match="--engine sam3"):
        measure(settings, 1, 3, random_weights=True)


def test_an_engine_that_sees_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, vision=VisionSettings(engine="none"))
    with pytest.raises(ConfigError, match="take lite, synthetic or sam3"):
        measure(settings, 1, 3, random_weights=False)

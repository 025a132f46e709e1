"""The engines that `streamer bench engine` can measure, each with its clock, its counter and its device's peak."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from streamer.bench.engine import Stopwatch, Subject, process_bytes
from streamer.errors import ConfigError
from streamer.service.settings import Settings

PEAK_SIDE = 1024
PEAK_RUNS = 5


def subject(settings: Settings, tell: Callable[[str], None]) -> Subject:
    """The engine of the settings, with its models. Engine `sam3` comes from `streamer.bench.engine_sam3`.

    Raises:
        ConfigError: the engine has nothing to measure.
        ModelMissing, VisionUnavailable: the models cannot be had.
    """
    name = settings.vision.engine
    if name not in ("lite", "synthetic"):
        raise ConfigError(f"engine {name!r} sees nothing that could be measured; take lite, synthetic or sam3")
    from streamer.vision.loading import build_models

    models = build_models(settings.vision, settings.data_folder, tell)
    engine = models.engine()
    counted = _OnnxCounter(models.lite) if models.lite is not None else None
    return Subject(
        engine=engine,
        watch=Stopwatch(lambda: None),
        peak=lambda: peak_numpy(settings.vision.threads),
        memory=process_bytes,
        count=counted or _nothing,
        facts={
            "engine": name,
            "device": settings.vision.device,
            "dtype": "float32",
            "threads": settings.vision.threads,
        },
    )


def _nothing(work: Callable[[], object]) -> None:
    work()


class _OnnxCounter:
    """Counts the arithmetic of ONNX sessions while some work runs."""

    def __init__(self, lite: Any) -> None:
        self._sessions = {name: getattr(lite, name) for name in ("pose", "people", "mesh")}
        self._gflop = {name: onnx_gflop(_model_of(session)) for name, session in self._sessions.items()}
        self._total = 0.0

    def __call__(self, work: Callable[[], object]) -> float:
        self._total = 0.0
        usual = {name: session.run for name, session in self._sessions.items()}
        for name, session in self._sessions.items():
            session.run = self._counting(name, usual[name])
        try:
            work()
        finally:
            for name, session in self._sessions.items():
                session.run = usual[name]
        return self._total

    def _counting(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._total += self._gflop[name]
            return run(*args, **kwargs)

        return counted


def _model_of(session: Any) -> Path | bytes:
    """What a session was made of: a file, or a graph that was rearranged when it was loaded."""
    made_of: bytes | None = session._model_bytes
    return Path(session._model_path) if made_of is None else made_of


def onnx_gflop(source: Path | bytes) -> float:
    """GFLOP of one run: two for each multiplication of the convolutions and matrix products.

    `source`: an ONNX file, or what would be in it.
    """
    import onnx

    model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(source)
    model = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [max(axis.dim_value, 1) for axis in value.type.tensor_type.shape.dim]
        for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    total = 0.0
    for node in model.graph.node:
        out, weight = shapes.get(node.output[0], []), shapes.get(node.input[1] if len(node.input) > 1 else "", [])
        if node.op_type == "Conv" and out and weight:
            total += 2.0 * np.prod(out) * np.prod(weight[1:])
        elif node.op_type == "ConvTranspose" and weight:
            total += 2.0 * np.prod(shapes.get(node.input[0], [0])) * np.prod(weight[1:])
        elif node.op_type in ("MatMul", "Gemm") and out and weight:
            inner = shapes.get(node.input[0], [0])[-1]
            total += 2.0 * np.prod(out) * inner
    return total / 1e9


def peak_numpy(threads: int) -> float:
    """GFLOP/s of a large float32 product on `threads` CPU threads."""
    a = np.random.default_rng(0).standard_normal((PEAK_SIDE, PEAK_SIDE), np.float32)
    return best_gflops(lambda: a @ a, PEAK_SIDE, lambda: None)


def best_gflops(product: Callable[[], Any], side: int, sync: Callable[[], None]) -> float:
    """GFLOP/s of the fastest of some runs of a (side, side) product."""
    product()
    seconds = []
    for _ in range(PEAK_RUNS):
        sync()
        began = time.perf_counter()
        product()
        sync()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 / min(seconds) / 1e9

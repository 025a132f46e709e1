"""`streamer bench engine`: what each stage of a mask engine costs, in time, arithmetic and memory. Any engine.

Stages: `encode` (the picture), `detect` ("person"), `propagate` (every object onto the picture; of which, in the SAM
family, `attend`, `decode` and `remember`), `smooth`. Arithmetic is counted from what really ran, except in ONNX models,
where it is that of their convolutions and products.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import psutil

from streamer.bench.results import slope
from streamer.errors import PromptUnsupported
from streamer.tracks import Box
from streamer.vision.engines.base import MaskEngine, Picture, Region
from streamer.vision.smoothing import Smoother

WIDTH, HEIGHT = 1280, 720
DETECT_EVERY = 5
"""Frames between two detections that are measured."""

Tell = Callable[[int, int], None]


@dataclass(slots=True)
class Stage:
    """One stage over a run."""

    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    """Of all threads of this process; on a busy machine they say more than `ms`."""
    gflop: float | None = None
    """Of one call; None: not counted."""

    @property
    def p50(self) -> float | None:
        return float(np.median(self.ms)) if self.ms else None


class Stopwatch:
    """Times stages. `sync` waits for the device, so that its work counts where it was asked for."""

    def __init__(self, sync: Callable[[], None]) -> None:
        self._sync = sync
        self.stages: dict[str, Stage] = {}
        self.running = False
        """What happens before is not counted."""
        self.meter: Callable[[], float] | None = None
        """Arithmetic so far, in GFLOP, while it is counted."""
        self.counted: dict[str, float] = {}
        """GFLOP of the stages inside of what was counted."""

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, whose time goes to stage `name`."""
        if self.meter is not None:
            before = self.meter()
            result = work()
            self.counted[name] = self.counted.get(name, 0.0) + self.meter() - before
            return result
        if not self.running:
            return work()
        self._sync()
        began, cpu_began = time.perf_counter(), time.process_time()
        result = work()
        self._sync()
        stage = self.stages.setdefault(name, Stage())
        stage.ms.append(1000 * (time.perf_counter() - began))
        stage.cpu_ms.append(1000 * (time.process_time() - cpu_began))
        return result


@dataclass(frozen=True, slots=True)
class Subject:
    """An engine to measure."""

    engine: MaskEngine
    watch: Stopwatch
    peak: Callable[[], float]
    """Measures the GFLOP/s that the device reaches in a large matrix product of the dtype."""
    memory: Callable[[], int]
    """Bytes that are held now: of the device's, or of the process."""
    count: Callable[[Callable[[], object]], float | None]
    """GFLOP of some work, which it runs."""
    facts: dict[str, Any]
    """For the report: engine, device, dtype, input size, parameters, ..."""
    fill: Callable[[], None] = lambda: None
    """Makes every object's memory as long as it gets."""
    prepare: Callable[[], None] = lambda: None
    """Compiles, after arithmetic was counted: in what is compiled it cannot be."""


def run(subject: Subject, objects: int, frames: int, tell: Tell = lambda done, total: None) -> dict[str, Any]:
    """Follow `objects` people over `frames` pictures; JSON-able."""
    engine, watch = subject.engine, subject.watch
    smoother = Smoother(0.5)
    ids = list(range(1, objects + 1))
    peak = subject.peak()
    engine.encode(picture(0, objects))
    for track_id, face in zip(ids, faces(0, objects), strict=True):
        engine.prompt(track_id, face_xyxy=face)
    engine.propagate(ids)
    engine.encode(picture(1, objects))
    engine.propagate(ids)
    subject.fill()
    counts = _counts(subject, ids, objects)
    subject.prepare()
    held: list[int] = []
    seen = 0
    # The first frames are not counted: they choose kernels and fill caches.
    warm = min(2, frames - 1)
    for index in range(3, 3 + frames):
        watch.running = index >= 3 + warm
        regions = _frame(subject, smoother, index, ids, objects)
        seen += len(regions)
        held.append(subject.memory())
        tell(index - 2, frames)
    engine.close()
    return {
        **subject.facts,
        "objects": objects,
        "frames": frames,
        "objects_found": round(seen / frames, 2),
        "peak_gflops": peak,
        "stages": {name: _told(stage, counts.get(name), peak) for name, stage in watch.stages.items()},
        "propagate_ms_per_object": _per_object(watch, objects),
        "frame_ms_without_detect": _sum(watch, ("encode", "propagate", "smooth")),
        "memory_mb": {
            "first": held[0] / 1e6,
            "last": held[-1] / 1e6,
            "most": max(held) / 1e6,
            "growth_mb_per_frame": slope([(float(n), b / 1e6) for n, b in enumerate(held[len(held) // 2 :])]),
        },
    }


def _frame(subject: Subject, smoother: Smoother, index: int, ids: list[int], objects: int) -> dict[int, Region]:
    engine, watch = subject.engine, subject.watch
    shown = picture(index, objects)
    watch.time("encode", lambda: engine.encode(shown))
    if index % DETECT_EVERY == 0:
        watch.time("detect", lambda: _detect(engine))
    regions: dict[int, Region] = watch.time("propagate", lambda: engine.propagate(ids))
    smoother.show(cv2.cvtColor(shown.bgr, cv2.COLOR_BGR2YUV_I420))
    watch.time("smooth", lambda: [smoother.step(track_id, region) for track_id, region in regions.items()])
    return regions


def _counts(subject: Subject, ids: list[int], objects: int) -> dict[str, float | None]:
    """GFLOP of each stage on one frame."""
    engine = subject.engine
    shown = picture(2, objects)
    return {
        "encode": subject.count(lambda: engine.encode(shown)),
        "detect": subject.count(lambda: _detect(engine)),
        "propagate": subject.count(lambda: engine.propagate(ids)),
        **subject.watch.counted,
    }


def _detect(engine: MaskEngine) -> None:
    try:
        engine.detect(["person"])
    except PromptUnsupported:
        return  # a tracker without concepts


def _told(stage: Stage, gflop: float | None, peak: float) -> dict[str, Any]:
    middle = stage.p50
    share = None if not gflop or not middle or not peak else gflop / (middle / 1000) / peak
    return {
        "ms_p50": middle,
        "ms_most": max(stage.ms),
        "cpu_ms_p50": float(np.median(stage.cpu_ms)),
        "calls": len(stage.ms),
        "gflop": gflop,
        "share_of_peak": share,
    }


def _per_object(watch: Stopwatch, objects: int) -> float | None:
    stage = watch.stages.get("propagate")
    return None if stage is None or stage.p50 is None else stage.p50 / objects


def _sum(watch: Stopwatch, names: tuple[str, ...]) -> float:
    return sum(watch.stages[name].p50 or 0.0 for name in names if name in watch.stages)


def picture(index: int, people: int) -> Picture:
    """The index-th picture: `people` portraits in a row, that sway."""
    portrait = _portrait(people)
    side = portrait.shape[0]
    bgr = np.full((HEIGHT, WIDTH, 3), 96, np.uint8)
    for place in range(people):
        x, y = _corner(index, place, people)
        bgr[y : y + side, x : x + side] = portrait
    return Picture(bgr, index, index / 30)


def faces(index: int, people: int) -> list[Box]:
    """Where the faces of `picture` are."""
    scale = _portrait(people).shape[0] / 512
    corners = [_corner(index, place, people) for place in range(people)]
    return [(x + 176 * scale, y + 60 * scale, x + 272 * scale, y + 190 * scale) for x, y in corners]


_PORTRAITS: dict[int, np.ndarray] = {}


def _portrait(people: int) -> np.ndarray:
    from streamer.ingest.demo_cast import ASTRONAUT

    side = min(HEIGHT - 40, WIDTH // people - 24)
    if side not in _PORTRAITS:
        _PORTRAITS[side] = cv2.resize(ASTRONAUT.read(), (side, side), interpolation=cv2.INTER_AREA)
    return _PORTRAITS[side]


def _corner(index: int, place: int, people: int) -> tuple[int, int]:
    room = WIDTH // people
    side = min(HEIGHT - 40, room - 24)
    return place * room + (room - side) // 2 + round(8 * np.sin(index / 5 + place)), (HEIGHT - side) // 2


def process_bytes() -> int:
    """Resident memory of this process."""
    return int(psutil.Process().memory_info().rss)

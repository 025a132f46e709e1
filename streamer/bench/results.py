"""From what viewers saw and processes used to the numbers that are printed."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from streamer import __version__

PACKAGES = ("aiortc", "av", "numpy", "opencv-python", "onnxruntime", "insightface")


@dataclass(frozen=True, slots=True)
class Sight:
    """What one viewer saw, in frame order."""

    seen_at: list[float]
    """`time.monotonic()` after decoding."""
    latency_ms: list[int | None]
    """Glass to glass; None: the mark could not be read."""
    errors: list[float]
    """Mean squared errors of luma, of some frames."""
    size: list[int] | None = None
    annotated_at: float | None = None

    def between(self, start: float, end: float) -> Sight:
        """The part seen in `start` <= t < `end`; the errors are kept as they are."""
        chosen = [n for n, at in enumerate(self.seen_at) if start <= at < end]
        return Sight(
            [self.seen_at[n] for n in chosen],
            [self.latency_ms[n] for n in chosen],
            self.errors,
            self.size,
            self.annotated_at,
        )

    @property
    def fps(self) -> float:
        """Frames a second between the first and the last frame."""
        if len(self.seen_at) < 2:
            return 0.0
        return (len(self.seen_at) - 1) / max(1e-6, self.seen_at[-1] - self.seen_at[0])

    @property
    def latencies(self) -> list[int]:
        """Milliseconds of the frames whose mark was read."""
        return [value for value in self.latency_ms if value is not None]


def percentile(values: Sequence[float], share: float) -> float | None:
    """By nearest rank; None where there are no values."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def latency(values: Sequence[float]) -> dict[str, float | None]:
    """{"p50", "p95"} in milliseconds."""
    return {"p50": percentile(values, 0.50), "p95": percentile(values, 0.95)}


def psnr(errors: Sequence[float]) -> float | None:
    """Decibels of the mean of mean squared errors; None where nothing was compared."""
    if not errors:
        return None
    return 10 * math.log10(255**2 / max(1e-9, sum(errors) / len(errors)))


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares slope of (x, y) points; None with fewer than three."""
    if len(points) < 3:
        return None
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else None


def machine() -> dict[str, Any]:
    """What it was measured on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "versions": {"streamer": __version__, **{name: _version(name) for name in PACKAGES}},
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def rounded(value: Any, digits: int = 3) -> Any:
    """`value` with every float in it rounded."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item, digits) for item in value]
    return value


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

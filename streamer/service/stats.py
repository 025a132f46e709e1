"""Numbers of a running stream: stage times and rates over a sliding window. O(1) a frame, sorted only when asked."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from math import ceil
from threading import Lock

WINDOW_FRAMES = 300
"""Samples a stage keeps: ten seconds at 30 fps, long enough for a p95 and short enough to follow a change."""

RATE_SECONDS = 2.0
"""Window of a rate: a stall shows within two seconds, one late frame does not."""
LEAST_SECONDS = 0.25
"""A rate is not measured over less: after a stall, what has waited comes all at once."""

STAGES = ("decode", "wait", "identity", "propagate", "overlay", "encode", "total")
"""Stages in the order a frame meets them; `total` is from decode to the encoded packet."""


class StageTimes:
    """Seconds by stage of the last `window` frames. Bound: `window` samples a stage. Thread-safe."""

    def __init__(self, window: int = WINDOW_FRAMES) -> None:
        self._window = window
        self._samples: dict[str, deque[float]] = {}
        self._lock = Lock()

    def add(self, stage_seconds: Mapping[str, float]) -> None:
        """Take the times of one frame; a frame need not have every stage (identity runs on some only)."""
        with self._lock:
            for stage, seconds in stage_seconds.items():
                samples = self._samples.get(stage)
                if samples is None:
                    samples = self._samples[stage] = deque(maxlen=self._window)
                samples.append(seconds)

    def summary(self) -> dict[str, dict[str, float]]:
        """{stage: {"p50": ms, "p95": ms}} by nearest rank, known stages first; a stage never seen is absent."""
        with self._lock:
            copies = {stage: list(samples) for stage, samples in self._samples.items()}
        order = [stage for stage in STAGES if stage in copies]
        order += sorted(stage for stage in copies if stage not in STAGES)
        return {stage: _summary(sorted(copies[stage])) for stage in order}


class RateMeter:
    """Events a second over the last `window_seconds`. Bound: `capacity` time stamps (600: 300/s). Thread-safe.

    `now` is `time.monotonic()` seconds; left out, it is read here.
    """

    def __init__(self, window_seconds: float = RATE_SECONDS, capacity: int = 600) -> None:
        self._seconds = window_seconds
        self._times: deque[float] = deque(maxlen=capacity)
        self._lock = Lock()
        self.count = 0
        """Events since the start."""

    def tick(self, now: float | None = None) -> None:
        """Count one event."""
        now = time.monotonic() if now is None else now
        with self._lock:
            self.count += 1
            self._times.append(now)
            self._forget(now)

    def rate(self, now: float | None = None) -> float:
        """Events a second, measured between the first and the last event of the window; 0.0 once it is empty."""
        now = time.monotonic() if now is None else now
        with self._lock:
            self._forget(now)
            events = len(self._times)
            if events == 0:
                return 0.0
            # One interval fewer than events while they flow; a stall stretches the span, so the rate falls at once.
            span = max(self._times[-1] - self._times[0], now - self._times[0] - self._usual_gap())
            if events == 1:
                return events / self._seconds
            return (events - 1) / max(span, LEAST_SECONDS)

    def _usual_gap(self) -> float:
        return (self._times[-1] - self._times[0]) / max(1, len(self._times) - 1)

    def _forget(self, now: float) -> None:
        while self._times and self._times[0] < now - self._seconds:
            self._times.popleft()


def _summary(ordered: list[float]) -> dict[str, float]:
    return {"p50": _rank_ms(ordered, 0.50), "p95": _rank_ms(ordered, 0.95)}


def _rank_ms(ordered: list[float], share: float) -> float:
    return round(1000 * ordered[max(0, ceil(share * len(ordered)) - 1)], 2)

"""Who was on screen when: a sidecar's frames as a few intervals a person."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

GAP_SECONDS = 0.5
"""A shorter absence is no absence: a turned head, a frame without a face."""
_LINES_A_TURN = 20
"""Lines read until other threads get the interpreter: an hour has 100 000, and streams must not wait for them."""


@dataclass(frozen=True, slots=True)
class Presence:
    """One person's time on screen."""

    name: str | None
    """None: people without a name, taken together."""
    seconds: float
    intervals: tuple[tuple[float, float], ...]
    """From, to, in seconds since the first frame; in order, apart by more than `GAP_SECONDS`."""


@dataclass(frozen=True, slots=True)
class Presences:
    """Everybody's time on screen."""

    duration_seconds: float
    frames: int
    people: tuple[Presence, ...]
    """Longest first; those without a name last."""


class _Seen(BaseModel):
    name: str | None = None
    state: str = "tracked"
    face: list[float] | None = None


class _Line(BaseModel):
    # Only this much: masks are skipped by the parser and never become Python objects.
    pts: float
    tracks: list[_Seen] = []


def presences(sidecar: Path) -> Presences:
    """Of a sidecar, finished or growing. Blocks; the last ones are kept. Raises `OSError`."""
    status = sidecar.stat()
    return _read(sidecar, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=32)
def _read(sidecar: Path, _changed: int, _size: int) -> Presences:
    intervals: dict[str | None, list[list[float]]] = {}
    first = last = step = 0.0
    before: set[str | None] = set()
    frames = 0
    with sidecar.open("rb") as file:
        for number, text in enumerate(file):
            if number % _LINES_A_TURN == 0:
                time.sleep(0)
            try:
                line = _Line.model_validate_json(text)
            except ValidationError:
                continue  # the torn last line of a file that grows, or a frame without a result
            first = line.pts if frames == 0 else first
            now = max(line.pts - first, last)
            if frames:
                step = min(now - last, GAP_SECONDS)
                _extend(intervals, before, last + step)
            before = {track.name for track in line.tracks if track.state == "tracked" or track.face}
            for name in before:
                _begin(intervals, name, now)
            last = now
            frames += 1
    _extend(intervals, before, last + step)
    people = [_presence(name, found) for name, found in intervals.items()]
    people.sort(key=lambda person: (person.name is None, -person.seconds, person.name or ""))
    return Presences(round(last + step, 3) if frames else 0.0, frames, tuple(people))


def _extend(intervals: dict[str | None, list[list[float]]], names: set[str | None], to: float) -> None:
    for name in names:
        intervals[name][-1][1] = to


def _begin(intervals: dict[str | None, list[list[float]]], name: str | None, now: float) -> None:
    found = intervals.setdefault(name, [])
    if not found or now - found[-1][1] > GAP_SECONDS:
        found.append([now, now])


def _presence(name: str | None, found: list[list[float]]) -> Presence:
    rounded = tuple((round(start, 2), round(end, 2)) for start, end in found)
    return Presence(name, round(sum(end - start for start, end in found), 2), rounded)

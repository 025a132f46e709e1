"""The curve of false names against recall over the margin, and the margin for a wanted rate of false names.

The processor runs once over the data set while what naming was told is written down; that is then told to namers of
other margins. Their false names are counted twice over: with the gallery as it is, and with one member after the other
left out of it, whose faces are strangers then; inside a group whose members resemble each other they are the hardest
strangers there are. What other margins would have changed about *when* faces are looked at is left aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamer.errors import ConfigError
from streamer.vision.known import Known
from streamer.vision.naming import Namer, Naming
from streamer.vision.quality import FaceQuality

MARGINS = tuple(round(-0.20 + 0.02 * step, 2) for step in range(31))
"""Cosines, rising."""
RULE_OF_THREE = 3.0
"""No event in n trials says, with 95 % confidence, that its rate is under 3 / n."""

Call = tuple[Callable[..., object], tuple[Any, ...]]


@dataclass(slots=True)
class Recording:
    """What a namer was told on the frames of a clip, or on a photo."""

    still: bool
    frames: list[tuple[list[Call], frozenset[str] | None]] = field(default_factory=list)
    """Of each frame the calls, and who is right on it; None: nobody knows."""


class ListeningNamer(Namer):
    """A namer that writes down what it is told."""

    def __init__(self, known: Known, *, still: bool = False, margin: float = 0.0) -> None:
        super().__init__(known, still=still, margin=margin)
        self.recording = Recording(still)
        self._calls: list[Call] = []

    def end_frame(self, members: frozenset[str] | None) -> None:
        """The frame is done; `members` are who is right on it."""
        self.recording.frames.append((self._calls, members))
        self._calls = []

    def observe(self, track: int, embedding: np.ndarray, quality: FaceQuality, pts_seconds: float) -> bool:
        self._calls.append((Namer.observe, (track, embedding, quality, pts_seconds)))
        return super().observe(track, embedding, quality, pts_seconds)

    def doubt(self, track: int) -> None:
        self._calls.append((Namer.doubt, (track,)))
        super().doubt(track)

    def forget(self, track: int) -> None:
        self._calls.append((Namer.forget, (track,)))
        super().forget(track)

    def reset(self) -> None:
        self._calls.append((Namer.reset, ()))
        super().reset()

    def decide(self, tracks: Iterable[int], pts_seconds: float) -> dict[int, Naming]:
        asked = tuple(tracks)
        self._calls.append((Namer.decide, (asked, pts_seconds)))
        return super().decide(asked, pts_seconds)


@dataclass(slots=True)
class Counts:
    """Of one margin."""

    expected: int = 0
    """Members on frames."""
    right: int = 0
    """Of them, those who were named."""
    looked_at: int = 0
    """Tracks on frames, of whom a face had been compared."""
    false: int = 0
    """Of them, those with a name of somebody who is not there."""

    @property
    def recall(self) -> float:
        return self.right / self.expected if self.expected else 0.0

    @property
    def false_name_rate(self) -> float:
        return self.false / self.looked_at if self.looked_at else 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The curve, and what was chosen on it."""

    wanted: float
    curve: tuple[tuple[float, Counts], ...]
    """Margins, rising."""
    people: int
    """Tracks, each in one shot, that the curve rests on."""
    margin: float | None
    """None: even the largest margin gives more false names than wanted."""
    limited: bool
    """There are too few people to show that a margin below 0 keeps to the wanted rate."""

    def report(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "wanted_false_name_rate": self.wanted,
            "people": self.people,
            "curve": [
                {
                    "margin": margin,
                    "false_name_rate": round(counts.false_name_rate, 6),
                    "recall": round(counts.recall, 4),
                    "false": counts.false,
                    "looked_at": counts.looked_at,
                }
                for margin, counts in self.curve
            ],
            "margin": self.margin,
            "too_few_people_to_lower": self.limited,
        }


def calibrate(
    recordings: Sequence[Recording], known: Known, wanted: float, tell: Callable[[str, int, int], None]
) -> Calibration:
    """The smallest margin whose false names, and those of every larger one, keep to the rate `wanted` (0..1).

    Below 0 it goes only on enough people to show the rate (rule of three).

    Raises:
        ConfigError: nobody was looked at, or nobody is expected.
    """
    curve = []
    for done, margin in enumerate(MARGINS):
        tell("calibrating", done, len(MARGINS))
        counts = Counts()
        for recording in recordings:
            _count(recording, known, margin, None, counts)
            for name in sorted(_expected(recording)):
                _count(recording, known, margin, name, counts)
        curve.append((margin, counts))
    if not curve[0][1].looked_at or not curve[0][1].expected:
        raise ConfigError("nothing to calibrate on: the data set shows no face, or no member, that could be named")
    people = sum(_people(recording) for recording in recordings)
    limited = people < RULE_OF_THREE / max(wanted, 1e-9)
    chosen: float | None = None
    for margin, counts in reversed(curve):
        if counts.false_name_rate > wanted or (limited and margin < 0):
            break
        chosen = margin
    return Calibration(wanted, tuple(curve), people, chosen, limited)


def _expected(recording: Recording) -> set[str]:
    return {name for _, members in recording.frames if members is not None for name in members}


def _people(recording: Recording) -> int:
    return len({args[0] for calls, _ in recording.frames for call, args in calls if call is Namer.observe})


def _count(recording: Recording, known: Known, margin: float, left_out: str | None, counts: Counts) -> None:
    """Add what a namer of this margin says; with a member left out, only their frames, and false names alone."""
    gallery = known if left_out is None else without(known, left_out)
    for members, said in _replay(recording, gallery, margin):
        if members is None or (left_out is not None and left_out not in members):
            continue
        names = [naming.name for naming in said.values() if naming.name is not None]
        counts.looked_at += sum(naming.similarity is not None for naming in said.values())
        counts.false += sum(name not in members for name in names)
        if left_out is None:
            counts.expected += len(members)
            counts.right += len(members.intersection(names))


def _replay(
    recording: Recording, known: Known, margin: float
) -> Iterator[tuple[frozenset[str] | None, dict[int, Naming]]]:
    namer = Namer(known, still=recording.still, margin=margin)
    for calls, members in recording.frames:
        said: dict[int, Naming] = {}
        for call, args in calls:
            answer = call(namer, *args)
            if isinstance(answer, dict):
                said = answer
        yield members, said


def without(known: Known, name: str) -> Known:
    """The gallery with one member less."""
    left = known.names.index(name)
    names = known.names[:left] + known.names[left + 1 :]
    kept, refused = known.owners != left, known.rejected_owners != left
    owners, rejected_owners = known.owners[kept], known.rejected_owners[refused]
    return Known(
        known.model_id,
        names,
        owners - (owners > left),
        known.embeddings[kept],
        rejected_owners - (rejected_owners > left),
        known.rejected[refused] if known.rejected.size else known.rejected,
    )

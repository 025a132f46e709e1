"""Right and wrong names, counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamer.evaluation.dataset import Shot
from streamer.evaluation.flicker import Flicker
from streamer.frames import Frame, planes
from streamer.tracks import FrameResult

OUTLIVES_LIMIT = 30
"""Frames after the end of a shot in which a name of that shot counts as having outlived it; later it is just wrong."""


@dataclass(frozen=True, slots=True)
class PhotoScore:
    """Names on one photo."""

    file: str
    true: tuple[str, ...]
    false: tuple[str, ...]
    missed: tuple[str, ...]


def score_photo(file: str, expected: frozenset[str], result: FrameResult) -> PhotoScore:
    """Compare the names on a photo with those that are true."""
    found = {track.name for track in result.tracks if track.name is not None}
    return PhotoScore(
        file, tuple(sorted(found & expected)), tuple(sorted(found - expected)), tuple(sorted(expected - found))
    )


@dataclass(slots=True)
class _Member:
    """One member in one shot."""

    frames: int = 0
    named: int = 0
    first_named: int | None = None
    track: int | None = None
    switches: int = 0


@dataclass(slots=True)
class ClipScore:
    """Names and masks over one clip. `step` for every frame in order, then `report`."""

    file: str
    shots: Sequence[Shot]
    frames: int = 0
    wrong_frames: list[int] = field(default_factory=list)
    outlived: int = 0
    """Most frames that a name was still said after its shot had ended."""
    last_pts: float = 0.0
    _members: dict[tuple[int, str], _Member] = field(default_factory=dict)
    _flicker: Flicker = field(default_factory=Flicker)

    def step(self, frame: Frame, result: FrameResult) -> None:
        """Take the result of the next frame."""
        index, self.frames, self.last_pts = frame.index, self.frames + 1, frame.pts_seconds
        position = self._position(index)
        named = {track.name: track.id for track in result.tracks if track.name is not None}
        if position is not None:
            self._step_shot(position, index, named)
        visible = {track.id: result.mask(track) for track in result.tracks if track.state == "tracked"}
        self._flicker.step(planes(frame.i420)[0], visible)

    def shot_at(self, index: int) -> Shot | None:
        """The shot that a frame belongs to; None: nothing is known about it."""
        position = self._position(index)
        return None if position is None else self.shots[position]

    def _position(self, index: int) -> int | None:
        return next((n for n, shot in enumerate(self.shots) if shot.first <= index <= shot.last), None)

    def _step_shot(self, position: int, index: int, named: dict[str, int]) -> None:
        shot = self.shots[position]
        if index == shot.first:
            self._flicker.cut()
        if named.keys() - shot.members:
            self.wrong_frames.append(index)
            before = self.shots[position - 1].members if position else frozenset[str]()
            since = index - shot.first + 1
            if since <= OUTLIVES_LIMIT and (named.keys() - shot.members) & before:
                self.outlived = max(self.outlived, since)
        for name in shot.members:
            member = self._members.setdefault((position, name), _Member())
            member.frames += 1
            track = named.get(name)
            if track is None:
                continue
            member.named += 1
            if member.first_named is None:
                member.first_named = index
            member.switches += member.track not in (None, track)
            member.track = track

    def report(self, seconds: float) -> dict[str, Any]:
        """JSON-able; `seconds` is what processing the clip took."""
        fps = (self.frames - 1) / self.last_pts if self.last_pts > 0 else 0.0
        shots: list[dict[str, Any]] = []
        for (position, name), member in sorted(self._members.items()):
            shot = self.shots[position]
            waited = None if member.first_named is None or not fps else (member.first_named - shot.first) / fps
            shots.append(
                {
                    "from": shot.first,
                    "to": shot.last,
                    "member": name,
                    "recall": round(member.named / max(member.frames, 1), 4),
                    "seconds_to_first_name": None if waited is None else round(waited, 3),
                    "id_switches": member.switches,
                }
            )
        frames = sum(member.frames for member in self._members.values())
        waits = [shot["seconds_to_first_name"] for shot in shots if shot["seconds_to_first_name"] is not None]
        flicker = self._flicker.mean
        return {
            "file": self.file,
            "frames": self.frames,
            "recall": round(sum(m.named for m in self._members.values()) / frames, 4) if frames else None,
            "wrong_name_frames": len(self.wrong_frames),
            "wrong_frames": self.wrong_frames[:100],
            "name_outlives_shot_frames": self.outlived,
            "seconds_to_first_name": round(max(waits), 3) if waits else None,
            "id_switches": sum(m.switches for m in self._members.values()),
            "mask_flicker": None if flicker is None else round(flicker, 4),
            "fps": round(self.frames / seconds, 2) if seconds else None,
            "shots": shots,
        }

"""What an interrupted run leaves beside its output, and how the next one goes on with it.

While a run is under way there are, beside `OUT.mp4`: `OUT.part.mp4` and `OUT.part.jsonl`, which play and read as far
as they go whatever happens, and `OUT.resume.json`, which says what they were made of. A run that is stopped in order
gives the first two their final names and leaves the third. A run that goes on copies the pictures that are there.

What lay under the final names before is only replaced by a whole file: a run that is stopped over it, in order or not,
leaves its own files under their temporary names, and `--resume` goes on with those. Without `OUT.resume.json` a file
under the final name is finished, and `--resume` leaves it as it is: whether it is what is asked for, `record` says.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from streamer.errors import OutputError
from streamer.offline.destination import refused, written

_OVER = "over"
"""In `OUT.resume.json`: OUT is what was there before."""


@dataclass(frozen=True, slots=True)
class Names:
    """The files of one output."""

    video: Path
    sidecar: Path | None

    @property
    def part(self) -> Path:
        """The video under way."""
        return self.video.with_name(f"{self.video.stem}.part{self.video.suffix}")

    @property
    def part_sidecar(self) -> Path | None:
        """The sidecar under way."""
        return _named(self.sidecar, "part")

    @property
    def before(self) -> Path:
        """What an earlier run left, while this one copies it."""
        return self.video.with_name(f"{self.video.stem}.before{self.video.suffix}")

    @property
    def before_sidecar(self) -> Path | None:
        """The same of its lines."""
        return _named(self.sidecar, "before")

    @property
    def under_way(self) -> Names:
        """The files of a run that was stopped, where they do not get their final names."""
        return Names(self.part, self.part_sidecar)

    @property
    def state(self) -> Path:
        """What the run is made of."""
        return self.video.with_name(f"{self.video.stem}.resume.json")


def _named(path: Path | None, what: str) -> Path | None:
    return None if path is None else path.with_name(f"{path.stem}.{what}{path.suffix}")


@dataclass(frozen=True, slots=True)
class Leftover:
    """What there is to go on with."""

    video: Path
    sidecar: Path
    frames: int
    """Whole pictures that have a line as well."""


def is_finished(names: Names) -> bool:
    """Something lies under the final name, and no run is under way that would replace it."""
    return names.video.exists() and not names.state.exists()


def begin(names: Names, made_of: dict[str, Any], leftover: Leftover | None) -> bool:
    """Note what this run is made of. True: what lies under the final names is not of this run. Raises `OutputError`."""
    over = _is_over(names) if leftover is not None else names.video.exists()
    with written(names.state) as path:
        path.write_text(json.dumps({**made_of, _OVER: over}, indent=1) + "\n", encoding="utf-8")
    return over


def find(names: Names, made_of: dict[str, Any]) -> Leftover | None:
    """What an earlier run of the same kind left, moved out of the way of this one; None: nothing.

    Raises:
        OutputError: what is there was made with other options or from another file, or cannot be moved.
    """
    before = _noted(names)
    if before is None or names.before_sidecar is None:
        return None
    differing = [key for key in made_of if before.get(key) != made_of[key]]
    if differing:
        key = differing[0]
        raise OutputError(
            f"{names.video} cannot be gone on with: {key} was {before.get(key)!r} and is {made_of[key]!r} now; "
            "give the same options, or leave --resume out to begin again"
        )
    pairs = [(names.part, names.part_sidecar), (names.before, names.before_sidecar)]
    if not _is_over(names):
        pairs.append((names.video, names.sidecar))
    counted = [(_count(video, sidecar), video, sidecar) for video, sidecar in pairs if sidecar is not None]
    frames, video, sidecar = max(counted, key=lambda found: found[0])
    if not frames:
        return None
    if video != names.before:
        _move((video, names.before), (sidecar, names.before_sidecar))
    return Leftover(names.before, names.before_sidecar, frames)


def settle(names: Names, kept: Names, whole: bool) -> None:
    """Give the files the names of `kept`; what was there under them is replaced. Not `whole`: a later run goes on.

    Raises:
        OutputError: the folder does not let it.
    """
    _move((names.part, kept.video), (names.part_sidecar, kept.sidecar))
    _remove(names.before, names.before_sidecar)
    if whole:
        _remove(names.state)


def put_back(names: Names, kept: Names) -> None:
    """Let what `find` moved away be the run's files again, under the names of `kept`. Raises `OutputError`."""
    _remove(names.part, names.part_sidecar)
    _move((names.before, kept.video), (names.before_sidecar, kept.sidecar))


def discard(names: Names) -> None:
    """Remove what a run left that is not worth going on with."""
    _remove(names.part, names.part_sidecar, names.before, names.before_sidecar, names.state)


def _noted(names: Names) -> dict[str, Any] | None:
    """What the run under way is made of."""
    try:
        noted = json.loads(names.state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return noted if isinstance(noted, dict) else None


def _is_over(names: Names) -> bool:
    """The run under way is over a file that is none of its own."""
    return bool((_noted(names) or {}).get(_OVER))


def _move(*moves: tuple[Path | None, Path | None]) -> None:
    for source, target in moves:
        if source is not None and target is not None:
            try:
                os.replace(source, target)
            except OSError as exc:
                raise refused(target, exc) from exc


def _remove(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def _count(video: Path, sidecar: Path) -> int:
    """Pictures that are in both files."""
    try:
        with sidecar.open("rb") as file:
            lines = sum(line.endswith(b"\n") for line in file)
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            return min(lines, sum(packet.size > 0 for packet in container.demux(stream)))
    except (OSError, ValueError, IndexError):
        # Nothing there, or nothing that opens: killed before the first fragment.
        return 0

"""Sidecar lines: written while a file is made, read again to make another style of it or to go on with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamer.contract import VERSION, decode_mask, result_json
from streamer.errors import SourceUnusable
from streamer.tracks import LABEL_OBJECT, LABEL_PERSON, MAX_TRACKS, Box, FrameResult, Track

SOURCE_PTS = "source_pts"
"""Seconds on the input's clock, in lines of a part of a file: `pts` is that of the output."""
PEOPLE = "people"
"""The mask of people who are no track, where there are any and they were sought."""
MADE_OF = "made_of"
"""In the first line of a video's sidecar: the clip and the options, see `record`."""
_MAX_SECONDS = 1e10
"""Of a time: three hundred years. No clock counts more, and sums with larger numbers would overflow."""


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= _MAX_SECONDS


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(side, int) for side in value)


def _are_tracks(value: Any) -> bool:
    """As far as is read without a look at the masks."""
    return isinstance(value, list) and all(
        isinstance(track["name"], str | None) and isinstance((track.get("object") or {"prompt": ""})["prompt"], str)
        for track in value
    )


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "size": _is_size,
    "pts": _is_time,
    "frame": lambda value: isinstance(value, int),
    "tracks": _are_tracks,
}


def line(result: FrameResult, source_seconds: float | None = None, made_of: dict[str, Any] | None = None) -> bytes:
    """The contract's JSON of one frame, without an end of line."""
    said = result_json(result, sidecar=True)
    if source_seconds is not None:
        said[SOURCE_PTS] = round(source_seconds, 6)
    if made_of is not None:
        said[MADE_OF] = made_of
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()


class Sidecar:
    """A sidecar that is read from one end to the other. Context manager.

    Raises (while iterating):
        SourceUnusable: it cannot be read, or a line of it is no result.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as exc:
            raise SourceUnusable(f"cannot read the sidecar {path}: {exc.strerror}; check the path") from exc

    def __enter__(self) -> Sidecar:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number, text in enumerate(self._file, 1):
            if not text.endswith(b"\n"):
                return  # cut off: the writer was killed
            yield parsed(self.path, number, text)


def parsed(path: Path, number: int, text: bytes) -> dict[str, Any]:
    """The object of line `number` of the sidecar `path`. Raises `SourceUnusable`."""
    try:
        said = json.loads(text)
        if said.get("v") != VERSION:
            raise ValueError(f"version {said.get('v')!r}")
        for key, fits in _FIELDS.items():
            if not fits(said[key]):
                raise ValueError(f"{key} {said[key]!r:.40}")
        if not _is_time(said.get(SOURCE_PTS, 0.0)):
            raise ValueError(f"{SOURCE_PTS} {said[SOURCE_PTS]!r:.40}")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as exc:
        raise SourceUnusable(
            f"{path}, line {number}: not the JSON of a frame ({exc}); give the .jsonl written beside a video"
        ) from exc
    return said  # type: ignore[no-any-return]


def result(said: dict[str, Any], *, masks: bool = True) -> FrameResult:
    """The result that a line tells of; without masks in a hundredth of the time.

    Where masks overlap (they never do in lines of this program) the first track keeps the pixel.

    Raises:
        SourceUnusable: a field is missing or wrong.
    """
    try:
        return _result(said, masks)
    except (KeyError, TypeError, ValueError, IndexError) as exc:
        raise SourceUnusable(f"frame {said.get('frame')!r} of the sidecar cannot be read: {exc!r}") from exc


def _result(said: dict[str, Any], masks: bool) -> FrameResult:
    width, height = (int(side) for side in said["size"])
    labels: np.ndarray | None = None
    tracks = []
    undecided = said.get("undecided", [])
    if not isinstance(undecided, list):
        raise ValueError(f"undecided is {undecided!r:.40}")
    for number, told in enumerate(said["tracks"][:MAX_TRACKS]):
        label = number + 1
        seen = masks and told["state"] == "tracked"
        mask = _mask(told["mask"], (width, height)) if seen else None
        if mask is not None:
            if labels is None:
                labels = np.zeros((height, width), np.uint8)
            labels[mask & (labels == 0)] = label | LABEL_PERSON
        part = told.get("object")
        if part is not None and labels is not None and mask is not None:
            inside = _mask(part["mask"], (width, height))
            labels[inside & (labels == label | LABEL_PERSON)] |= LABEL_OBJECT
        tracks.append(
            Track(
                id=int(told["id"]),
                name=told["name"],
                similarity=told["similarity"],
                state=told["state"],
                box_xyxy=_box(told["box"]),
                face_xyxy=None if told["face"] is None else _box(told["face"]),
                label=label,
                object_prompt=None if part is None else part["prompt"],
                undecided=told["id"] in undecided,
            )
        )
    if masks and said.get(PEOPLE) is not None:
        strangers = _mask(said[PEOPLE], (width, height))
        labels = np.zeros((height, width), np.uint8) if labels is None else labels
        labels[strangers & (labels == 0)] = LABEL_PERSON
    return FrameResult(
        int(said["frame"]),
        float(said["pts"]),
        width,
        height,
        said["engine"],
        bool(said["identified"]),
        tuple(tracks),
        labels,
        between_shots=bool(said.get("between_shots")),
    )


def _mask(rle: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    if tuple(rle["size"]) != (size[1], size[0]):
        raise ValueError(f"a mask of {rle['size']} on a picture of {size}")
    if not isinstance(rle["counts"], str):
        raise ValueError(f"a mask's counts are {rle['counts']!r:.40}")
    return decode_mask(rle)


def _box(sides: list[float]) -> Box:
    x0, y0, x1, y1 = sides
    return x0, y0, x1, y1

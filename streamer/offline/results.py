"""What the Python API gives: plain data, pictures in RGB."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamer.contract import result_json
from streamer.egress.overlay import draw
from streamer.frames import Frame
from streamer.offline import photo
from streamer.offline.cast import Cast
from streamer.offline.photo import PhotoResult
from streamer.tracks import Box, FrameResult, Style, Track


@dataclass(frozen=True, slots=True)
class ImageResult:
    """What was found in one picture."""

    name: str
    """The file's name, or "the picture"."""
    member: str
    seen: bool
    """The member (or the person in the drawn box) is in the picture."""
    similarity: float | None
    """Cosine of the best face to the member, -1..1."""
    masks: list[np.ndarray] = field(repr=False)
    """(H, W) bool, one for each track shown: of the person, or of the object where one was asked for."""
    boxes: list[Box]
    """Of the people, one for each mask."""
    tracks: tuple[Track, ...]
    """Everybody in the picture, known or not."""
    annotated: np.ndarray = field(repr=False)
    """(H, W, 3) uint8 RGB: tint, contour, name."""
    overlay: np.ndarray = field(repr=False)
    """(H, W, 3) uint8 RGB: tint alone."""
    cutout: np.ndarray = field(repr=False)
    """(H, W, 4) uint8 RGBA: the person or object with soft edges."""
    seconds: float
    """Time that it took."""
    json: dict[str, Any] = field(repr=False)
    """One object of the result schema, as the service and the sidecars have it."""
    _found: PhotoResult = field(repr=False)

    def save(self, folder: str | PathLike[str]) -> list[Path]:
        """Write annotated.png, overlay.png, cutout.png and result.json. Raises `OutputError`."""
        return photo.write(self._found, Path(folder))

    @classmethod
    def of(cls, found: PhotoResult) -> ImageResult:
        """What a user is given of `found`."""
        part = found.cast.object is not None
        result = found.result
        return cls(
            name=found.name,
            member=found.cast.members[0],
            seen=bool(found.shown),
            similarity=max((t.similarity for t in found.shown if t.similarity is not None), default=None),
            masks=[_pixels(result, track, part) for track in found.shown],
            boxes=[track.box_xyxy for track in found.shown],
            tracks=result.tracks,
            annotated=_rgb(found.annotated),
            overlay=_rgb(found.overlay),
            cutout=np.ascontiguousarray(found.cutout[..., [2, 1, 0, 3]]),
            seconds=found.seconds,
            json=found.json,
            _found=found,
        )


@dataclass(frozen=True, slots=True)
class StreamResult:
    """One frame of a live stream, seen."""

    frame: Frame
    result: FrameResult
    dropped: int
    """Frames so far that vision had no time for."""
    _cast: Cast

    @property
    def index(self) -> int:
        """0, 1, 2, … as decoded; gaps are dropped frames."""
        return self.frame.index

    @property
    def pts_seconds(self) -> float:
        """On the source's clock."""
        return self.frame.pts_seconds

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Everybody in the picture."""
        return self.result.tracks

    @property
    def seen(self) -> bool:
        """A member is on this frame."""
        return bool(self._cast.seen(self.result))

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, as it came."""
        return _rgb_of_i420(self.frame.i420)

    @property
    def json(self) -> dict[str, Any]:
        """One object of the result schema."""
        return result_json(self.result)

    def mask(self, track: Track) -> np.ndarray:
        """(H, W) bool: the pixels of one of `tracks`."""
        return self.result.mask(track)

    def drawn(self, style: Style = "annotated") -> np.ndarray:
        """(H, W, 3) uint8 RGB in one of the styles of the live view."""
        scene, target = self._cast.scene(self.result)
        return _rgb_of_i420(draw(self.frame, scene, style, target))


def _pixels(result: FrameResult, track: Track, part: bool) -> np.ndarray:
    return result.object_mask(track) if part else result.mask(track)


def _rgb(bgr: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bgr[..., ::-1])


def _rgb_of_i420(i420: np.ndarray) -> np.ndarray:
    rgb: np.ndarray = cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420)
    return rgb

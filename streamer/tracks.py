"""What vision says about one frame. Plain data: it crosses the process border."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from streamer.frames import Frame

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the frame; x1 and y1 exclusive."""

Style = Literal["annotated", "overlay", "cutout", "hide", "only", "none"]
STYLES: tuple[Style, ...] = ("annotated", "overlay", "cutout", "hide", "only", "none")
PRIVATE_STYLES: tuple[Style, ...] = ("hide", "only")
"""They promise to hide somebody: a picture of which nothing is known is frosted as a whole."""
NO_ENGINE = "none"
"""The engine of a result that says nothing about its picture: vision was away, or there is none."""

LABEL_TRACK = 0x3F
"""Low six bits of a label-map byte: 0 background, n = the track whose `label` is n."""
LABEL_PERSON = 0x40
"""Set where there is a person, whoever it is (also outside every track), if the engine can say so."""
LABEL_OBJECT = 0x80
"""Set where the pixel also belongs to the track's object ("shirt")."""
MAX_TRACKS = LABEL_TRACK


@dataclass(frozen=True, slots=True)
class Target:
    """What a stream's user wants to see."""

    member: str | None = None
    """Name of the member to follow; None: everybody."""
    object: str | None = None
    """Object prompt inside the person ("shirt"); None: the whole person."""
    everybody: bool = False
    """Masks of all tracks are wanted on every frame, not only the member's (style `only`)."""


@dataclass(frozen=True, slots=True)
class Track:
    """One person over time, on one frame."""

    id: int
    """For ever: never reused within a stream."""
    name: str | None
    """The member's name, or None: unknown."""
    similarity: float | None
    """Cosine of the newest face to the named (else the nearest) member, -1..1; None before any face was compared."""
    state: Literal["tracked", "lost"]
    """`tracked`: it has pixels in the label map. `lost`: it has none; the box is the last one, or where the person of
    the face should be."""
    box_xyxy: Box
    face_xyxy: Box | None
    """None: it is not seen. Of a lost track: the newest look found the face, but there is no mask of the person."""
    label: int
    """1..63: this track's value in the label map of the same frame."""
    object_prompt: str | None = None
    """The object prompt that LABEL_OBJECT pixels of this track answer; None: no object was asked for or none seen."""
    undecided: bool = False
    """No name is shown, and the next looks at the face may bring one: `hide` hides them until then."""

    @property
    def seen(self) -> bool:
        """The person is on this frame: with a mask, or at least with a face."""
        return self.state == "tracked" or self.face_xyxy is not None


@dataclass(frozen=True, slots=True)
class FrameResult:
    """The result of one `FrameProcessor.step`; pairs with the frame of the same `frame_index`, never with another."""

    frame_index: int
    pts_seconds: float
    width: int
    height: int
    engine: str
    """Its name; `NO_ENGINE`: this result says nothing."""
    identified: bool
    """Identity (face detection and recognition) ran on this frame."""
    tracks: tuple[Track, ...]
    label_map: np.ndarray | None
    """(H, W) uint8, see LABEL_*; None: no pixel is labelled."""
    stage_seconds: dict[str, float] = field(default_factory=dict)
    """Time by stage on this frame: identity, propagate, …"""
    between_shots: bool = False
    """Two shots mix in this picture: nobody in it is told apart, and there are no tracks."""

    @classmethod
    def nothing(cls, frame: Frame, engine: str = NO_ENGINE, *, between_shots: bool = False) -> Self:
        """A result without tracks and masks."""
        size = frame.width, frame.height
        return cls(frame.index, frame.pts_seconds, *size, engine, False, (), None, between_shots=between_shots)

    def mask(self, track: Track) -> np.ndarray:
        """(H, W) bool: the pixels of `track`."""
        if self.label_map is None:
            return np.zeros((self.height, self.width), bool)
        labelled: np.ndarray = (self.label_map & LABEL_TRACK) == track.label
        return labelled

    def object_mask(self, track: Track) -> np.ndarray:
        """(H, W) bool: the pixels of `track` that belong to its object."""
        if self.label_map is None:
            return np.zeros((self.height, self.width), bool)
        labelled: np.ndarray = (self.label_map & (LABEL_TRACK | LABEL_OBJECT)) == track.label | LABEL_OBJECT
        return labelled

"""The port that every mask engine answers: stateful per stream, keyed by track id, bounded in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from streamer.tracks import Box


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame as engines see it. `bgr` is made once a frame and shared with the face detector."""

    bgr: np.ndarray
    """(H, W, 3) uint8, full size."""
    index: int
    pts_seconds: float


@dataclass(frozen=True, slots=True)
class Instance:
    """One detection of a concept."""

    concept: str
    score: float
    """0..1"""
    box_xyxy: Box
    mask: np.ndarray
    """(H, W) bool"""


@dataclass(frozen=True, slots=True)
class Region:
    """Mask logits of a track on a grid stretched over a box; everything outside the box is background.

    Engines see the frame through a small grid (256 x 256, 288 x 288): regions stay on it until the label map is
    painted, so that smoothing costs the same at every frame size.
    """

    box_xyxy: Box
    """Pixels of the frame that the grid covers, edge to edge; may reach beyond the frame."""
    logits: np.ndarray
    """(h, w) float32, > 0 inside; any grid size."""
    presence: float
    """0..1, the engine's belief that the person is there."""
    face_xyxy: Box | None = None
    """Where the engine believes the person's face to be; None: it cannot say."""


class MaskEngine(Protocol):
    """Calls come in frame order from one thread: `encode`, then any of the others for that picture.

    A track that `propagate` returns no region for is lost on this frame; it stays prompted until `remove`.
    """

    name: str

    def encode(self, picture: Picture) -> None:
        """Make `picture` the current one. Image features are computed at most once for it."""

    def detect(self, concepts: Sequence[str]) -> list[Instance]:
        """Instances of each concept on the current picture; an engine that cannot tell people apart answers "person"
        with one instance that is all of them.

        Raises:
            PromptUnsupported: this engine has no detector for such a concept.
        """

    def prompt(
        self,
        track_id: int,
        *,
        face_xyxy: Box | None = None,
        box_xyxy: Box | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Start a track on the current picture from a face box, a person box or an (H, W) bool mask.

        Called again with newer evidence, it re-seeds the track where the engine finds that the two disagree.
        """

    def propagate(self, due: Collection[int]) -> dict[int, Region]:
        """Regions of the tracks in `due` on the current picture; the others keep their state."""

    def part(self, track_id: int, phrase: str) -> Region | None:
        """The part of a track that `phrase` names, on the current picture and after `propagate` for it.

        Raises:
            PromptUnsupported: with the phrases that the engine can answer, and which engine answers any.
        """

    def check_phrase(self, phrase: str) -> None:
        """Raises `PromptUnsupported` where `part` would, without a picture."""

    def remove(self, track_id: int) -> None:
        """Forget a track; unknown ids are ignored."""

    def reset(self) -> None:
        """Forget every track (a shot cut). Cached concepts stay."""

    def close(self) -> None:
        """Free what the engine holds; twice is fine."""


@runtime_checkable
class LookAhead(Protocol):
    """What an engine may do besides, where pictures are known before their turn (files)."""

    def prepare(self, pictures: Sequence[Picture]) -> None:
        """Compute in one batch what `encode` will need of these pictures; their indices tell them apart.

        What an earlier call prepared and nobody encoded is dropped.
        """

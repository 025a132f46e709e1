"""The people of the demo: photos that dependencies ship, and who is on them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from streamer.errors import SourceUnusable
from streamer.tracks import Box

_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo inside an installed package. The package is found, never imported: insightface takes seconds."""

    package: str
    file: str
    """Path inside the package."""

    @property
    def path(self) -> Path:
        """Where the photo lies. Raises `SourceUnusable` where the package or the file is missing."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations if spec is not None else None) or ():
            path = Path(folder) / self.file
            if path.is_file():
                return path
        raise SourceUnusable(
            f"the demo needs {self.file} of the package {self.package}, which is not installed as expected; "
            f"run pip install --force-reinstall {self.package}"
        )

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8, BGR. Raises `SourceUnusable`."""
        bgr: np.ndarray | None = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if bgr is None:
            raise SourceUnusable(f"the demo's photo {self.path} cannot be read; install {self.package} again")
        return bgr


ASTRONAUT = Photo("skimage", "data/astronaut.png")
"""512 x 512: Eileen Collins, NASA, public domain."""
CARD_PARTY = Photo("insightface", "data/images/t1.jpg")
"""1280 x 886: six people around a table."""

DEMO_CAST: dict[str, list[tuple[Photo, Box]]] = {
    "eileen": [(ASTRONAUT, (120, 0, 340, 260))],
    "ben": [(CARD_PARTY, (400, 190, 670, 520))],
    "clara": [(CARD_PARTY, (1060, 210, 1280, 470))],
    "emma": [(CARD_PARTY, (0, 210, 250, 500))],
}
"""Member name -> photos, each with the region (pixels) that holds this face and no other: head and shoulders."""


def demo_members() -> dict[str, list[bytes]]:
    """Member name -> JPEG files, one face each, to enrol the demo's people from.

    Raises:
        SourceUnusable: a photo is missing.
    """
    photos = {photo: photo.read() for shown in DEMO_CAST.values() for photo, _ in shown}
    return {name: [_jpeg(photos[photo], box) for photo, box in shown] for name, shown in DEMO_CAST.items()}


def _jpeg(bgr: np.ndarray, box: Box) -> bytes:
    x0, y0, x1, y1 = (round(side) for side in box)
    encoded: tuple[bool, np.ndarray] = cv2.imencode(
        ".jpg", bgr[y0:y1, x0:x1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    return encoded[1].tobytes()

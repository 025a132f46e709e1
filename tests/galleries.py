"""Photos for a gallery, without a model, and what is done to its files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from streamer.vision.known import PhotoFace
from streamer.vision.member import NewPhoto

MODEL = "model-a"


def unit(seed: int, size: int = 16) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    return vector / np.linalg.norm(vector)


def face(seed: int) -> PhotoFace:
    return PhotoFace((1.0, 2.0, 81.0, 102.0), 0.9, unit(seed), 120.0, 0.1)


def new_photo(seed: int, data: bytes | None = None) -> NewPhoto:
    return NewPhoto(
        data=data if data is not None else b"photo %d" % seed,
        extension="jpg",
        file=f"{seed}.jpg",
        source="upload",
        width=200,
        height=300,
        face_xyxy=(1.0, 2.0, 81.0, 102.0),
        thumbnail=b"thumbnail %d" % seed,
        model_id=MODEL,
        face=face(seed),
        remark=None,
    )


def files_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*/*"))


def damage(database: Path) -> None:
    """Noise over two pages in its middle."""
    content = bytearray(database.read_bytes())
    content[4096 * 2 : 4096 * 4] = os.urandom(4096 * 2)
    database.write_bytes(content)

"""The demo's people are found and told apart by the embedded models, on their photos and in the film."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest

from streamer.ingest.demo import Film
from streamer.ingest.demo_cast import demo_members
from streamer.vision.faces import FaceReader
from streamer.vision.models import ModelStore

pytestmark = pytest.mark.models

SAME = 0.5
"""Cosine at and above which two faces of the embedded pack are one person."""


@pytest.fixture(scope="module")
def reader(model_store: ModelStore) -> FaceReader:
    return FaceReader(model_store.folder("embedded"), model_store.model_id("embedded"))


@pytest.fixture(scope="module")
def cast(reader: FaceReader) -> dict[str, np.ndarray]:
    embeddings = {}
    for name, photos in demo_members().items():
        for photo in photos:
            faces = reader.read_photo(cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR))
            assert len(faces) == 1, name
            embeddings[name] = faces[0].embedding
    return embeddings


def test_the_cast_is_told_apart(cast: dict[str, np.ndarray]) -> None:
    vectors = np.stack(list(cast.values()))
    similarity = vectors @ vectors.T - np.eye(len(vectors)) * 2
    assert similarity.max() < SAME


@pytest.mark.parametrize(
    ("at_seconds", "present", "people"),
    [(7.0, {"ben", "clara", "emma"}, 6), (10.5, {"ben", "emma"}, 4), (14.5, {"ben", "clara"}, 4), (4.0, {"eileen"}, 1)],
)
def test_who_is_in_the_film_is_recognised(
    reader: FaceReader, cast: dict[str, np.ndarray], at_seconds: float, present: set[str], people: int
) -> None:
    picture = cv2.cvtColor(Film((960, 540)).picture(at_seconds), cv2.COLOR_YUV2BGR_I420)
    faces = reader.find(picture)
    assert len(faces) == people
    assert all(face.width >= 60 for face in faces)
    embeddings = [reader.embed(picture, face) for face in faces]
    found = {name for name, known in cast.items() if max(float(known @ e) for e in embeddings) >= SAME}
    assert found == present


def test_the_demo_needs_no_model_and_no_heavy_import() -> None:
    code = (
        "import sys; from streamer.ingest.demo import Film; from streamer.ingest.demo_cast import demo_members;"
        "Film((320, 180)).picture(1.0); demo_members();"
        "print(sorted({'insightface', 'onnxruntime', 'torch', 'skimage', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"

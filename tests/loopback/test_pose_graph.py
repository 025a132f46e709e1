"""The pose network's rearranged graph says what the shipped one says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from skimage import data

import streamer.vision
from streamer.vision.engines import pose_graph
from streamer.vision.engines.lite import POSE_FILE
from streamer.vision.faces import session_options

_FILE = Path(streamer.vision.__file__).parent / "weights" / POSE_FILE


def _session(model: str | bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model, session_options(1), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def sessions() -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
    return _session(str(_FILE)), _session(pose_graph.packed(_FILE))


_NOISE = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(data.astronaut(), id="a person"),
        pytest.param(np.flipud(data.astronaut()).copy(), id="upside down"),
        pytest.param(data.astronaut()[:300, 100:400], id="close"),
        pytest.param(_NOISE, id="noise"),
        pytest.param(np.zeros((256, 256, 3), np.uint8), id="black"),
    ],
)
def test_same_numbers(
    sessions: tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession], picture: np.ndarray
) -> None:
    pixels = cv2.resize(picture, (256, 256)).astype(np.float32).transpose(2, 0, 1)[np.newaxis] / 255
    shipped, packed = (session.run(pose_graph.OUTPUTS, {"input": pixels}) for session in sessions)
    landmarks, presence, segmentation = shipped
    assert segmentation.std() > 10, "logits of any size: the comparison means something"
    np.testing.assert_allclose(packed[0], landmarks, atol=1e-3)
    np.testing.assert_allclose(packed[1], presence, atol=1e-5)
    # Logits reach -1,600; the enlargement is computed in another order.
    np.testing.assert_allclose(packed[2], segmentation, rtol=1e-4, atol=0.01)
    assert np.array_equal(packed[2] > 0, segmentation > 0)


def test_rows_at_the_seam_see_each_other(
    sessions: tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession],
) -> None:
    """A wrong overlap would show where the two halves meet, and nowhere else."""
    pixels = _NOISE.astype(np.float32).transpose(2, 0, 1)[np.newaxis] / 255
    shipped, packed = (session.run(["segmentation"], {"input": pixels})[0][0, :, :, 0] for session in sessions)
    difference = np.abs(shipped - packed).max(axis=1)
    assert difference[96:160].max() <= 2 * max(difference[:96].max(), difference[160:].max())


def test_only_what_is_needed_is_kept() -> None:
    assert {output.name for output in _session(pose_graph.packed(_FILE)).get_outputs()} == set(pose_graph.OUTPUTS)

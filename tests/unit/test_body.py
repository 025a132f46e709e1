"""How a face is carried along by the landmarks of its body."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.vision.engines.body import FACE_DRIFT, GRID, SIDE_PER_RADIUS, Body, View, anchor, carried_face

FACE = (100.0, 50.0, 140.0, 100.0)


def view(size: float, head: tuple[float, float] = (120.0, 75.0)) -> View:
    """Somebody whose landmarks ask for a square of `size` pixels."""
    landmarks = np.zeros((39, 3), np.float32)
    landmarks[:33, :2] = head
    landmarks[33, :2] = 120.0, 200.0
    landmarks[34, :2] = 120.0 + size / SIDE_PER_RADIUS, 200.0
    return View((0.0, 0.0, size), 1.0, landmarks, np.zeros((GRID, GRID), np.float32))


def height(body: Body, now: View) -> float:
    _, top, _, bottom = carried_face(body, now)
    return bottom - top


def test_a_face_grows_and_moves_with_its_body() -> None:
    body = Body(FACE)
    anchor(body, view(300.0), FACE)
    assert carried_face(body, view(300.0)) == pytest.approx(FACE)
    x0, y0, x1, y1 = carried_face(body, view(600.0, (220.0, 95.0)))
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx((220.0, 95.0))
    assert (x1 - x0, y1 - y0) == pytest.approx((80.0, 100.0))


@pytest.mark.parametrize("ratio", [0.9, 1.1])
def test_a_square_that_follows_the_face_does_not_run_away_with_it(ratio: float) -> None:
    """Each frame's size is a guess that follows the frame before: a small error must not add up."""
    body = Body(FACE, level=1)
    anchor(body, view(300.0), FACE)
    size = 300.0
    for _ in range(30):
        size *= ratio
        body.face = carried_face(body, view(size))
    assert 50 / FACE_DRIFT - 1e-3 <= body.face[3] - body.face[1] <= 50 * FACE_DRIFT + 1e-3
    anchor(body, view(size), (100.0, 50.0, 180.0, 150.0))
    assert height(body, view(size)) == pytest.approx(100), "what the detector says counts at once"

"""Smoothing: steadier where nothing moves, no shadow where something does."""

from __future__ import annotations

import itertools

import numpy as np

from streamer.tracks import Box
from streamer.vision.engines.base import Region
from streamer.vision.smoothing import Smoother

GRID = 64
SQUARE: Box = (0.0, 0.0, 64.0, 64.0)


def disc(x: float, y: float, radius: float = 16.0, noise: float = 0.0, seed: int = 0, box: Box = SQUARE) -> Region:
    """Logits of a disc in frame pixels, seen through `box`."""
    x0, y0, x1, y1 = box
    ys, xs = np.mgrid[0:GRID, 0:GRID].astype(np.float32) + 0.5
    frame_x, frame_y = x0 + xs * (x1 - x0) / GRID, y0 + ys * (y1 - y0) / GRID
    logits = radius - np.hypot(frame_x - x, frame_y - y)
    logits += np.random.default_rng(seed).normal(0, noise, logits.shape) if noise else 0
    return Region(box, np.clip(logits, -8, 8).astype(np.float32), 1.0)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def flicker(regions: list[Region]) -> float:
    masks = [region.logits > 0 for region in regions]
    return float(np.mean([1 - iou(a, b) for a, b in itertools.pairwise(masks)]))


def test_a_wavering_border_is_steadied() -> None:
    raw = [disc(32, 32, noise=1.0, seed=seed) for seed in range(20)]
    smoother = Smoother(0.5)
    smooth = [smoother.step(1, region) for region in raw]
    assert flicker(smooth[2:]) < 0.6 * flicker(raw[2:])
    assert iou(smooth[-1].logits > 0, disc(32, 32).logits > 0) > 0.95


def test_stronger_is_steadier() -> None:
    raw = [disc(32, 32, noise=1.0, seed=seed) for seed in range(20)]
    levels = []
    for strength in (0.0, 0.5, 1.0):
        smoother = Smoother(strength)
        levels.append(flicker([smoother.step(1, region) for region in raw][2:]))
    assert levels[0] > levels[1] > levels[2]


def test_a_moving_person_is_not_trailed() -> None:
    smoother = Smoother(1.0)
    for step in range(10):
        truth = disc(16 + 3 * step, 32)
        shown = smoother.step(1, truth)
        assert iou(shown.logits > 0, truth.logits > 0) > 0.97


def test_a_moving_square_around_a_still_person_changes_nothing() -> None:
    smoother = Smoother(1.0)
    for step in range(8):
        box = (step * 2.0, step * 1.0, 64.0 + step * 2, 64.0 + step * 1)
        truth = disc(36, 36, box=box)
        shown = smoother.step(1, truth)
        assert iou(shown.logits > 0, truth.logits > 0) > 0.97


def test_a_limb_that_shoots_out_is_there_at_once() -> None:
    smoother = Smoother(1.0)
    for _ in range(5):
        smoother.step(1, disc(32, 40))
    logits = disc(32, 40).logits.copy()
    logits[8:30, 28:36] = 6.0
    shown = smoother.step(1, Region(SQUARE, logits, 1.0))
    assert (shown.logits[8:22, 29:35] > 0).mean() > 0.95


def test_another_shape_is_taken_as_it_is() -> None:
    smoother = Smoother(1.0)
    smoother.step(1, disc(32, 32, radius=30))
    small = disc(32, 32, radius=8)
    assert np.array_equal(smoother.step(1, small).logits, small.logits)


def test_nothing_survives_reset_or_forget() -> None:
    for clear in (lambda smoother: smoother.reset(), lambda smoother: smoother.forget(1)):
        smoother = Smoother(1.0)
        smoother.step(1, disc(30, 32))
        clear(smoother)
        fresh = disc(33, 32, noise=0.5)
        assert np.array_equal(smoother.step(1, fresh).logits, fresh.logits)


def test_tracks_do_not_mix() -> None:
    smoother = Smoother(1.0)
    smoother.step(1, disc(30, 32))
    fresh = disc(33, 32, noise=0.5)
    assert np.array_equal(smoother.step(2, fresh).logits, fresh.logits)


def test_an_empty_mask_is_fine() -> None:
    smoother = Smoother(1.0)
    empty = Region(SQUARE, np.full((GRID, GRID), -8, np.float32), 1.0)
    smoother.step(1, empty)
    assert not (smoother.step(1, empty).logits > 0).any()
    assert (smoother.step(1, disc(32, 32)).logits > 0).any()

"""The label map: which tracks have pixels in it."""

from __future__ import annotations

import numpy as np

from streamer.tracks import LABEL_OBJECT, LABEL_PERSON
from streamer.vision.engines.base import Region
from streamer.vision.labels import LabelPainter, marked


def region(logit: float, box: tuple[float, float, float, float] = (8.0, 8.0, 40.0, 40.0)) -> Region:
    return Region(box, np.full((16, 16), logit, np.float32), 1.0)


def test_a_mask_wholly_under_another_one_is_none() -> None:
    painter = LabelPainter()
    painter.begin(64, 48)
    painter.paint(region(1.0), 1)
    painter.paint(region(3.0), 2)
    labels = painter.finish()
    assert marked(labels, (1, 2)) == {2}
    assert marked(labels, ()) == set()


def test_one_pixel_counts_whatever_else_is_said_of_it() -> None:
    labels = np.zeros((48, 64), np.uint8)
    labels[3, 5] = 7 | LABEL_PERSON | LABEL_OBJECT
    labels[20, 30] = LABEL_PERSON
    assert marked(labels, (6, 7, 63)) == {7}

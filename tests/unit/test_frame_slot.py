"""Which frame a slow vision takes: the one that waits, or the next one that is due any moment."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.frames import Frame
from streamer.service.frame_slot import PATIENCE, FrameSlot, Patience

GAP = 1 / 30
"""Seconds between two frames of the camera."""


class Camera:
    """Puts frames into a slot at 30 fps, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slot = FrameSlot(lambda: self.now)
        self._came = 0

    @property
    def next_at(self) -> float:
        return self._came * GAP

    @property
    def newest_at(self) -> float:
        return self.next_at - GAP

    def run_until(self, time: float) -> None:
        while self.next_at <= time:
            self.now = self.next_at
            self.slot.put(Frame(np.zeros((3, 2), np.uint8), self._came, self.now, self.now))
            self._came += 1
        self.now = time


def ages_taken(busy: float, patient: bool) -> list[float]:
    """How old the frames are that vision takes in 20 s when it is busy with each for `busy` seconds."""
    camera = Camera()
    patience = Patience(camera.slot)
    ages, taken_at = [], -1.0
    while camera.now < 20.0:
        camera.run_until(camera.now)
        if camera.newest_at == taken_at:
            camera.run_until(camera.next_at)
        elif patient:
            camera.run_until(min(camera.next_at, camera.now + patience.seconds()))
        taken_at = camera.newest_at
        ages.append(camera.now - taken_at)
        camera.run_until(camera.now + busy)
        patience.took(busy)
    return ages


@pytest.mark.parametrize("busy", [0.04, 0.05, 0.07, 0.106, 0.25])
def test_slow_vision_takes_fresher_frames_at_a_bounded_price(busy: float) -> None:
    before, after = (ages_taken(busy, patient) for patient in (False, True))
    assert np.mean(after) <= np.mean(before) + 1e-9
    assert len(after) >= len(before) / (1 + PATIENCE) - 1


def test_frames_of_an_engine_of_a_tenth_of_a_second_are_fresher_by_a_fifth_of_a_frame_time() -> None:
    before, after = (ages_taken(0.106, patient) for patient in (False, True))
    assert np.mean(before) - np.mean(after) > GAP / 5
    assert len(after) > 0.95 * len(before)


def test_vision_that_keeps_up_takes_every_frame() -> None:
    assert len(ages_taken(0.025, patient=True)) == len(ages_taken(0.025, patient=False))


def test_one_long_look_does_not_make_vision_slow() -> None:
    camera = Camera()
    camera.run_until(2.0)
    patience = Patience(camera.slot)
    for _ in range(20):
        patience.took(0.025)
    patience.took(0.08)
    camera.run_until(camera.next_at - 0.001)
    assert patience.seconds() == 0


def test_a_frame_that_is_a_little_late_is_still_waited_for() -> None:
    camera = Camera()
    camera.run_until(2.0)
    patience = Patience(camera.slot)
    for _ in range(50):
        patience.took(0.1)
    newest, due = camera.newest_at, camera.next_at
    camera.now = newest + GAP / 2
    assert patience.seconds() == 0, "not due soon"
    camera.now = due - 0.012
    assert camera.now + patience.seconds() > due + 0.01
    camera.now = due + 0.005
    assert camera.now + patience.seconds() > due + 0.01
    camera.now = due + GAP
    assert patience.seconds() == 0, "it is not coming"


def test_before_the_first_frame_nothing_is_waited_for() -> None:
    assert Patience(Camera().slot).seconds() == 0

"""Shot cuts on pictures made here."""

from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest

from streamer.vision.cuts import CutDetector

WIDTH, HEIGHT = 320, 180


@functools.cache
def scene(seed: int, width: int = 2 * WIDTH, height: int = 2 * HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8 with structure at many scales, as rooms and people have; another one for each seed."""
    random = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for cells, share in ((3, 0.5), (8, 0.3), (24, 0.2)):
        noise = random.uniform(0, 255, (cells, cells * 2, 3)).astype(np.float32)
        picture += share * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    made = np.clip(picture, 0, 255).astype(np.uint8)
    made.flags.writeable = False
    return made


def window(picture: np.ndarray, x: int = 160, y: int = 90) -> np.ndarray:
    return picture[y : y + HEIGHT, x : x + WIDTH]


def i420(bgr: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2YUV_I420)


def cuts(pictures: list[np.ndarray]) -> list[int]:
    detector = CutDetector()
    return [index for index, picture in enumerate(pictures) if detector.step(i420(picture))]


def mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return cv2.addWeighted(a, 1 - share, b, share, 0)


def test_a_cut_is_seen_on_its_frame() -> None:
    a, b = window(scene(1)), window(scene(2))
    assert cuts([a] * 10 + [b] * 10 + [a] * 10) == [10, 20]


def test_a_moving_camera_is_no_cut() -> None:
    wide = scene(3)
    pan = [window(wide, 8 * step, 90 + step) for step in range(40)]
    assert cuts(pan) == []


def test_a_zoom_is_no_cut() -> None:
    wide = scene(3)
    zoom = []
    for step in range(40):
        inset = 2 * step
        zoom.append(cv2.resize(wide[inset : 360 - inset, 2 * inset : 640 - 2 * inset], (WIDTH, HEIGHT)))
    assert cuts(zoom) == []


def test_a_person_walking_through_is_no_cut() -> None:
    room = window(scene(4))
    frames = []
    for step in range(30):
        frame = room.copy()
        cv2.ellipse(frame, (step * 11, 110), (30, 80), 0, 0, 360, (40, 60, 200), -1)
        frames.append(frame)
    assert cuts(frames) == []


def test_a_flash_is_no_cut() -> None:
    room = window(scene(5))
    bright = np.full_like(room, 250)
    assert cuts([room] * 10 + [bright] + [room] * 10) == []
    half = cv2.addWeighted(room, 0.4, bright, 0.6, 0)
    assert cuts([room] * 10 + [half, bright, room] + [room] * 10) == []


def test_a_cut_behind_a_flash_is_seen() -> None:
    a, b = window(scene(6)), window(scene(7))
    found = cuts([a] * 10 + [np.full_like(a, 250)] + [b] * 10)
    assert len(found) == 1
    assert 10 <= found[0] <= 12


def test_a_cut_to_something_brighter_is_no_flash() -> None:
    dark = (window(scene(8)) * 0.3).astype(np.uint8)
    light = np.clip(window(scene(9)).astype(np.int64) + 60, 0, 255).astype(np.uint8)
    assert cuts([dark] * 10 + [light] * 10) == [10]


def test_exposure_that_drifts_is_no_cut() -> None:
    room = window(scene(10)).astype(np.float32)
    assert cuts([np.clip(room * (0.5 + 0.02 * step), 0, 255).astype(np.uint8) for step in range(40)]) == []


def test_a_fade_through_black_ends_the_shot() -> None:
    a, b = window(scene(11)), window(scene(12))
    black = np.zeros_like(a)
    down = [mix(a, black, step / 10) for step in range(11)]
    up = [mix(black, b, step / 10) for step in range(11)]
    found = cuts([a] * 5 + down + up + [b] * 5)
    assert found
    assert all(5 <= index <= 27 for index in found)


@pytest.mark.parametrize("length", [8, 12, 20, 30])
def test_a_dissolve_is_told_about_its_middle_and_when_it_is_over(length: int) -> None:
    for seed in (13, 17, 21):
        a, b = scene(seed), scene(seed + 1)
        mixed = [mix(window(a, 160 + i), window(b, 160, 90 + i // 3), (i + 0.5) / length) for i in range(length)]
        before, after = [window(a, 140 + i) for i in range(20)], [window(b, 160, 90 + i // 3) for i in range(20)]
        began, over = cuts(before + mixed + after)
        assert 0.15 * length <= began - 20 <= 0.6 * length
        assert 0.85 * length <= over - 20 <= length + 3


def test_the_frames_of_a_dissolve_are_told_from_a_cut() -> None:
    a, b, c = (window(scene(seed)) for seed in (30, 31, 32))
    detector = CutDetector()
    pictures = [a] * 10 + [b] * 20 + [mix(b, c, (i + 0.5) / 12) for i in range(12)] + [c] * 10
    told, mixing = [], []
    for index, picture in enumerate(pictures):
        if detector.step(i420(picture)):
            told.append(index)
        if detector.dissolving:
            mixing.append(index)
    assert 33 <= mixing[0] <= 38
    assert mixing == list(range(mixing[0], mixing[-1] + 1))
    assert told == [10, mixing[0], mixing[-1] + 1]
    assert told[-1] <= 45


def test_slow_zooms_and_pans_and_a_face_that_comes_near_are_no_dissolve() -> None:
    for seed, step in ((40, 1), (41, 2), (42, 4)):
        wide = scene(seed)
        assert cuts([window(wide, 2 + step * i, 80 + i // 2) for i in range(60)]) == []
        zoom = [cv2.resize(wide[i : 360 - i, 2 * i : 640 - 2 * i], (WIDTH, HEIGHT)) for i in range(0, 100, step)]
        assert cuts(zoom) == []
        assert cuts(zoom[::-1]) == []
    room, face = window(scene(43)), scene(44, 200, 240)
    frames = []
    for i in range(50):
        frame, size = room.copy(), 20 + 2 * i
        frame[170 - size : 170, 100 : 100 + size] = cv2.resize(face, (size, size))
        frames.append(frame)
    assert cuts(frames) == []


def test_a_light_that_comes_on_slowly_is_no_dissolve() -> None:
    room = window(scene(45)).astype(np.float32)
    for start in (0.4, 1.3):
        gains = np.linspace(start, 1.0, 20)
        assert cuts([np.clip(room * gain, 0, 255).astype(np.uint8) for gain in (*gains, *[1.0] * 20)]) == []


def test_black_pictures_and_tiny_ones() -> None:
    assert cuts([np.zeros((16, 16, 3), np.uint8)] * 5) == []

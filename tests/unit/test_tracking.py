"""Tracks, when to look again, and the hint that somebody came between; on boxes and pictures made here."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamer.tracks import Box
from streamer.vision.appearance import BACK, Appearance
from streamer.vision.engines.base import Region
from streamer.vision.known import Known
from streamer.vision.matching import out_of_scene
from streamer.vision.naming import Namer
from streamer.vision.quality import FaceQuality
from streamer.vision.schedule import LOOK_SECONDS, SOON, UNSURE, LookSchedule
from streamer.vision.thumbnails import thumbnail
from streamer.vision.tracking import People

CLEAR = FaceQuality(size=120, sharpness=300, yaw=0.0, pitch=0.0)
EVERY = 15
MASK = Region((100.0, 90.0, 180.0, 300.0), np.zeros((8, 8), np.float32), 1.0)


def box(x: float, y: float = 100.0, size: float = 40.0) -> Box:
    return x, y, x + 0.8 * size, y + size


def test_of_two_tracks_on_one_place_the_one_seen_later_stays() -> None:
    people = People(6)
    first, second = people.add(box(100), 0.0), people.add(box(300), 0.0)
    assert people.doubles() == []
    second.face_xyxy, second.face_at = box(104), 0.5
    assert people.doubles() == [(first, second)]
    first.face_at = 0.7
    assert people.doubles() == [(second, first)]


def test_people_whose_turn_it_is_not_count_as_near_as_well() -> None:
    people = People(6)
    member, other = people.add(box(100), 0.0), people.add(box(140), 0.0)
    assert people.crowded()
    other.face_known = False
    assert not people.crowded(), "lost"
    other.region = MASK
    assert people.crowded(), "followed on another frame"
    other.face_xyxy = box(300)
    assert not people.crowded()
    assert member.face_known


def test_faces_go_to_tracks_one_to_one_nearest_first() -> None:
    class Seen:
        def __init__(self, box_xyxy: Box) -> None:
            self.box_xyxy = box_xyxy

    people = People(6)
    left, right = people.add(box(100), 0.0), people.add(box(125), 0.0)
    matched = people.match([Seen(box(120)), Seen(box(96)), Seen(box(110)), Seen(box(400))])
    assert {position: person.id for position, person in matched.items()} == {0: right.id, 1: left.id}


@pytest.fixture
def namer() -> Namer:
    return Namer(Known("mobilefacenet_192-test", ("ann",), np.zeros(1, np.int64), np.eye(1, 32, dtype=np.float32)))


def looks(
    schedule: LookSchedule, people: People, namer: Namer, frames: int, doubt_at: int | None = None, masked: bool = True
) -> list[int]:
    """Frames on which faces are looked for, at 30 frames a second; every look finds ann, whose mask is followed."""
    found = []
    for index in range(frames):
        if index == doubt_at:
            schedule.doubt()
        if schedule.due(people, namer, index / 30):
            found.append(index)
            schedule.looked(index / 30)
            if not len(people):
                people.add(box(100), index / 30).region = MASK if masked else None
            namer.observe(1, np.eye(1, 32, dtype=np.float32)[0], CLEAR, index / 30)
            namer.decide([1], index / 30)
            schedule.found(True)
        schedule.end_frame()
    return found


def test_faces_are_looked_for_at_once_and_then_now_and_then(namer: Namer) -> None:
    assert looks(LookSchedule(EVERY), People(6), namer, 61) == [0, 15, 30, 45, 60]


def test_while_names_are_stable_they_are_looked_for_less_often(namer: Namer) -> None:
    found = looks(LookSchedule(EVERY), People(6), namer, 140)
    assert found[:6] == [0, 15, 30, 45, 60, 75]
    assert found[6:] == [95, 115, 135]


def test_on_doubt_they_are_looked_for_at_once_but_not_on_every_frame(namer: Namer) -> None:
    assert looks(LookSchedule(EVERY), People(6), namer, 40, doubt_at=22) == [0, 15, 22, 37]
    namer.reset()
    assert looks(LookSchedule(EVERY), People(6), namer, 40, doubt_at=16)[:3] == [0, 15, 15 + SOON]


def test_a_name_that_rests_on_a_face_alone_is_looked_at_more_often(namer: Namer) -> None:
    found = looks(LookSchedule(EVERY), People(6), namer, 31, masked=False)
    assert found == list(range(0, 31, UNSURE))


def test_a_name_in_doubt_is_looked_at_more_often_for_as_long_as_the_mask_lives(namer: Namer) -> None:
    schedule, people = LookSchedule(EVERY), People(6)
    looks(schedule, people, namer, 16)
    (person,) = people
    person.face_missed = 9
    namer.doubt(person.id)
    due = []
    for index in range(16, 36):
        if schedule.due(people, namer, index / 30):
            due.append(index)
            schedule.looked(index / 30)
        schedule.end_frame()
    assert due == [20, 25, 30, 35]


def test_after_a_cut_they_are_looked_for_at_once(namer: Namer) -> None:
    schedule, people = LookSchedule(EVERY), People(6)
    looks(schedule, people, namer, 3)
    schedule.new_shot()
    assert schedule.due(people, namer, 0.1)


def test_looks_keep_to_the_clock_at_low_frame_rates(namer: Namer) -> None:
    schedule, people = LookSchedule(EVERY), People(6)
    looks(schedule, people, namer, 1)
    assert schedule.due(people, namer, LOOK_SECONDS)


def texture(seed: int) -> np.ndarray:
    """(48, 48) uint8: light and shade of a face's scale."""
    cells = np.random.default_rng(seed).uniform(0, 255, (6, 6)).astype(np.float32)
    return np.clip(cv2.resize(cells, (48, 48), interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def changes(patches: list[np.ndarray], gain: float = 1.0) -> list[int]:
    """Frames on which the face at one place has become another picture."""
    appearance, found = Appearance(), []
    for index, patch in enumerate(patches):
        picture = np.full((90, 160), 90, np.uint8)
        picture[20:68, 40:88] = np.clip(patch * gain**index, 0, 255)
        if appearance.changed(1, picture, (40.0, 20.0, 88.0, 68.0)):
            found.append(index)
    return found


def test_a_face_that_is_missed_in_another_scene_is_told_from_a_turned_head() -> None:
    room, other = (np.kron(texture(seed), np.ones((6, 8), np.uint8)) for seed in (5, 6))
    scenes = [thumbnail(cv2.cvtColor(cv2.merge([grey] * 3), cv2.COLOR_BGR2YUV_I420)) for grey in (room, other)]
    person = People(6).add(box(100), 0.0)
    assert not out_of_scene(person, scenes[0])
    person.found(box(100), 0.5, scenes[0])
    assert not out_of_scene(person, scenes[1]), "the face is there"
    person.face_missed = 1
    assert not out_of_scene(person, scenes[0]), "the head turned"
    assert out_of_scene(person, scenes[1])
    assert not out_of_scene(person, None)


def test_somebody_who_comes_between_is_noticed_within_a_few_frames_and_once() -> None:
    face, other = texture(1), texture(2)
    assert changes([face] * 20 + [other] * 20) == [20]
    slowly = [cv2.addWeighted(face, 1 - share, other, share, 0) for share in np.linspace(0, 1, 4)]
    (at,) = changes([face] * 20 + slowly + [other] * 20)
    assert 20 < at <= 20 + len(slowly)


def test_light_and_a_little_motion_change_nothing() -> None:
    face = texture(3)
    assert changes([face] * 30, gain=0.97) == []
    assert changes([np.roll(face, (index % 3, index % 4), (0, 1)) for index in range(30)]) == []


def test_faces_at_the_edge_or_too_small_are_left_aside() -> None:
    appearance, picture = Appearance(), np.zeros((90, 160), np.uint8)
    for face in ((-5.0, 10.0, 30.0, 50.0), (10.0, 10.0, 18.0, 20.0), (150.0, 10.0, 170.0, 40.0)):
        for _ in range(2 * BACK):
            assert not appearance.changed(1, picture, face)

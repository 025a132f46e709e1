"""What is kept of a track: the best faces, the comparisons, the decisions."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from streamer.tracks import Box
from streamer.vision.journal import CROP_SIDE, DECISIONS, FACES, LOOKS, TRACKS, Journal
from streamer.vision.quality import FaceQuality
from streamer.vision.story import TrackStory

PICTURE = np.random.default_rng(3).integers(0, 255, (720, 1280, 3), np.uint8)
BOX = (600.0, 200.0, 700.0, 330.0)


@dataclass(frozen=True, slots=True)
class Found:
    box_xyxy: Box
    score: float


def quality(size: float = 130, sharpness: float = 300, yaw: float = 0.0) -> FaceQuality:
    return FaceQuality(size, sharpness, yaw, 0.0)


def direction(number: int) -> np.ndarray:
    vector = np.zeros(192, np.float32)
    vector[number] = 1
    return vector


def look(
    journal: Journal,
    embedding: np.ndarray,
    *,
    track: int = 1,
    size: float = 130,
    sharpness: float = 300,
    yaw: float = 0.0,
    at: float = 0.0,
    box: Box = BOX,
    similarity: dict[str, float] | None = None,
) -> None:
    journal.looked(
        track, PICTURE, Found(box, 0.9), embedding, quality(size, sharpness, yaw), similarity or {"ann": 0.7}, at
    )


def told(journal: Journal, track: int = 1) -> TrackStory:
    story = journal.story(track)
    assert story is not None
    return story


def test_a_crop_shows_the_face_with_hair_and_shoulders() -> None:
    journal = Journal("m")
    look(journal, direction(0), at=2.5)
    (seen,) = told(journal).faces
    picture = cv2.imdecode(np.frombuffer(seen.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert max(picture.shape) <= CROP_SIDE
    x0, y0, x1, y1 = seen.face.box_xyxy
    assert 0 < x0 < x1 < picture.shape[1]
    assert 0 < y0 < y1 < picture.shape[0]
    assert (x1 - x0) / (y1 - y0) == pytest.approx(100 / 130)
    assert y1 - y0 > 0.3 * picture.shape[0]
    assert (seen.pts_seconds, seen.face.score, told(journal).model_id) == (2.5, 0.9, "m")


@pytest.mark.parametrize(
    "box",
    [
        (-40.0, -30.0, 60.0, 90.0),
        (1240.0, 650.0, 1330.0, 800.0),
        (1300.0, 10.0, 1400.0, 120.0),
        (0.0, 0.0, 1280.0, 720.0),
    ],
)
def test_faces_at_the_edge_and_beyond_are_cut_off(box: Box) -> None:
    journal = Journal("m")
    look(journal, direction(0), box=box)
    picture = cv2.imdecode(np.frombuffer(told(journal).faces[0].jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert max(picture.shape) <= CROP_SIDE


def test_the_best_and_most_different_faces_are_kept_best_first() -> None:
    journal = Journal("m")
    for number in range(20):
        look(journal, direction(number), sharpness=10 + number, at=number)
    # The same moment again and again takes one place only.
    for number in range(10):
        look(journal, direction(19), sharpness=300, at=100 + number)
    faces = told(journal).faces
    assert len(faces) == FACES
    sharpness = [seen.face.sharpness for seen in faces]
    assert sharpness == sorted(sharpness, reverse=True)
    assert sharpness[0] == 300
    assert [seen.pts_seconds for seen in faces].count(100.0) == 1
    assert len({int(np.argmax(seen.face.embedding)) for seen in faces}) == FACES


def test_it_is_bounded_and_keeps_the_newest() -> None:
    journal = Journal("m")
    last = TRACKS + 20
    for track in range(1, last):
        for number in range(3):
            look(journal, direction(number), track=track)
        look(journal, direction(0), track=1)  # a track that is still seen is not the one to go
        assert journal.story(2) is not None or track == 1, "nor one that somebody looks at"
    kept = [track for track in range(1, last) if journal.story(track) is not None]
    assert kept == [1, 2, *range(last + 2 - TRACKS, last)]
    for number in range(300):
        look(journal, direction(0), at=number, similarity={f"m{n}": n / 100 for n in range(90)})
        journal.decided(1, "ann" if number % 2 else None, "why", number)
    story = told(journal)
    assert len(story.looks) == LOOKS
    assert len(story.decisions) == DECISIONS
    assert story.looks[-1].pts_seconds == story.decisions[-1].pts_seconds == 299
    assert max(len(entry.similarity) for entry in story.looks[-20:]) <= 8
    assert "m89" in story.looks[-1].similarity


def test_decisions_are_told_in_order_with_their_reasons() -> None:
    journal = Journal("m")
    look(journal, direction(0))
    journal.decided(1, "ann", "similarity 0.71, 0.42 ahead of liz", 0.0)
    journal.decided(1, None, "a contrary face", 4.0)
    story = told(journal)
    assert story.name is None
    assert [(entry.name, entry.reason) for entry in story.decisions] == [
        ("ann", "similarity 0.71, 0.42 ahead of liz"),
        (None, "a contrary face"),
    ]


def test_faces_of_somebody_else_go_when_the_track_turns_out_to_have_jumped() -> None:
    journal = Journal("m")
    look(journal, direction(0), at=1.0)
    journal.turned(1)
    look(journal, direction(5), at=2.0)
    assert [seen.pts_seconds for seen in told(journal).faces] == [2.0]


def test_nothing_stays_of_a_removed_member() -> None:
    journal = Journal("m")
    look(journal, direction(0), similarity={"ann": 0.7, "bob": 0.1})
    journal.decided(1, "ann", "similarity 0.70", 0.0)
    look(journal, direction(1), track=2, similarity={"ann": 0.2, "bob": 0.6})
    journal.decided(2, "bob", "similarity 0.60, 0.40 ahead of ann", 0.0)
    journal.decided(2, "bob", "nearer to annabel now", 0.0)
    journal.forget_members(frozenset({"ann"}))
    first, second = told(journal, 1), told(journal, 2)
    assert (first.name, first.faces, first.decisions) == (None, (), ())
    assert first.looks[0].similarity == {"bob": 0.1}
    assert (second.name, len(second.faces)) == ("bob", 1)
    assert second.looks[0].similarity == {"bob": 0.6}
    reasons = [made.reason for made in second.decisions]
    assert reasons == ["similarity 0.60, 0.40 ahead of somebody removed", "nearer to annabel now"]


def test_nobody_is_known_of_a_track_that_was_never_seen() -> None:
    assert Journal("m").story(7) is None

"""Names that come late are written back, and only where they belong."""

from __future__ import annotations

import numpy as np

from streamer.frames import Frame
from streamer.offline.hindsight import Hindsight
from streamer.tracks import FrameResult, Track

Told = dict[int, str | None]
"""Name of each track on a frame."""


def names(frames: list[Told], fps: float = 10.0) -> list[Told]:
    """What comes out for each frame."""
    hindsight = Hindsight(64, 64, fps)
    found: list[tuple[Frame, FrameResult]] = []
    for index, told in enumerate(frames):
        i420 = np.zeros((96, 64), np.uint8)
        tracks = tuple(Track(i, name, 0.5, "tracked", (0, 0, 9, 9), None, i) for i, name in told.items())
        result = FrameResult(index, index / fps, 64, 64, "test", True, tracks, None)
        found += hindsight.step(Frame(i420, index, index / fps, 0.0), result)
    found += hindsight.finish()
    assert [frame.index for frame, _ in found] == list(range(len(frames)))
    return [{track.id: track.name for track in result.tracks} for _, result in found]


def test_a_name_holds_from_the_tracks_first_frame() -> None:
    assert names([{}, {1: None}, {1: None, 2: None}, {1: "rei", 2: None}]) == [
        {},
        {1: "rei"},
        {1: "rei", 2: None},
        {1: "rei", 2: None},
    ]


def test_a_name_that_was_lost_for_a_moment_holds_through() -> None:
    assert names([{1: "rei"}, {1: None}, {1: None}, {1: "rei"}]) == [{1: "rei"}] * 4


def test_it_reaches_back_a_second() -> None:
    told = names([{1: None}] * 30 + [{1: "rei"}])
    assert [frame[1] for frame in told].count("rei") == 11


def test_another_track_is_somebody_else() -> None:
    assert names([{1: None}, {1: None}, {}, {2: "rei"}]) == [{1: None}, {1: None}, {}, {2: "rei"}]


def test_a_name_is_never_on_two_tracks_of_one_frame() -> None:
    told = names([{1: "rei", 2: None}, {1: "rei", 2: None}, {2: None}, {2: "rei"}])
    assert told == [{1: "rei", 2: None}, {1: "rei", 2: None}, {2: "rei"}, {2: "rei"}]


def test_an_earlier_name_stays() -> None:
    assert names([{1: "ann"}, {1: None}, {1: "rei"}]) == [{1: "ann"}, {1: "rei"}, {1: "rei"}]


def test_who_turns_out_to_be_nobody_was_nobody_before() -> None:
    hindsight = Hindsight(64, 64, 10.0)
    came = []
    for index, (name, undecided) in enumerate([(None, True), (None, True), (None, False), (None, True)]):
        track = Track(1, name, 0.5, "tracked", (0, 0, 9, 9), None, 1, undecided=undecided)
        result = FrameResult(index, index / 10, 64, 64, "test", True, (track,), None)
        came += hindsight.step(Frame(np.zeros((96, 64), np.uint8), index, index / 10, 0.0), result)
    came += hindsight.finish()
    assert [result.tracks[0].undecided for _, result in came] == [False, False, False, True]


def test_who_had_a_name_stays_in_doubt() -> None:
    """Until a contrary face was seen, it may have been the member."""
    hindsight = Hindsight(64, 64, 10.0)
    came = []
    for index, (name, undecided) in enumerate([("rei", False), (None, True), (None, True), (None, False)]):
        track = Track(1, name, 0.5, "tracked", (0, 0, 9, 9), None, 1, undecided=undecided)
        result = FrameResult(index, index / 10, 64, 64, "test", True, (track,), None)
        came += hindsight.step(Frame(np.zeros((96, 64), np.uint8), index, index / 10, 0.0), result)
    came += hindsight.finish()
    assert [result.tracks[0].undecided for _, result in came] == [False, True, True, False]


def test_a_name_ends_doubt_before_it() -> None:
    hindsight = Hindsight(64, 64, 10.0)
    for index, (name, undecided) in enumerate([(None, True), ("rei", False)]):
        track = Track(1, name, 0.5, "tracked", (0, 0, 9, 9), None, 1, undecided=undecided)
        result = FrameResult(index, index / 10, 64, 64, "test", True, (track,), None)
        assert not list(hindsight.step(Frame(np.zeros((96, 64), np.uint8), index, index / 10, 0.0), result))
    assert [(r.tracks[0].name, r.tracks[0].undecided) for _, r in hindsight.finish()] == [("rei", False)] * 2


def test_large_pictures_wait_in_less_memory() -> None:
    assert Hindsight(3840, 2160, 60).frames * 3840 * 2160 * 2.5 <= 150e6
    assert Hindsight(640, 360, 25).frames == 25

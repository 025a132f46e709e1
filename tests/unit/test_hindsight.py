"""Names that come late are written back, and only where they belong."""

from __future__ import annotations

import numpy as np
import pytest

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


@pytest.mark.parametrize(
    ("told", "comes_out"),
    [
        pytest.param("? ? - ?", "- - - ?", id="who turns out to be nobody was nobody before"),
        pytest.param("rei ? ? -", "rei ? ? -", id="who had a name may have been that member until then"),
        pytest.param("? ? rei", "rei rei rei", id="a name ends the doubt before it"),
    ],
)
def test_doubt(told: str, comes_out: str) -> None:
    """Of one track: "?" may still get a name, "-" is nobody."""
    hindsight = Hindsight(64, 64, 10.0)
    found: list[tuple[Frame, FrameResult]] = []
    for index, word in enumerate(told.split()):
        name = None if word in "?-" else word
        track = Track(1, name, 0.5, "tracked", (0, 0, 9, 9), None, 1, undecided=word == "?")
        result = FrameResult(index, index / 10, 64, 64, "test", True, (track,), None)
        found += hindsight.step(Frame(np.zeros((96, 64), np.uint8), index, index / 10, 0.0), result)
    found += hindsight.finish()
    tracks = [track for _, result in found for track in result.tracks]
    assert " ".join(track.name or ("?" if track.undecided else "-") for track in tracks) == comes_out


def test_large_pictures_wait_in_less_memory() -> None:
    assert Hindsight(3840, 2160, 60).frames * 3840 * 2160 * 2.5 <= 150e6
    assert Hindsight(640, 360, 25).frames == 25

"""Whom a file shows or hides, of those whom vision tells of."""

from __future__ import annotations

from streamer.offline.cast import Cast
from streamer.tracks import FrameResult, Track


def told(*tracks: Track) -> FrameResult:
    return FrameResult(0, 0.0, 64, 48, "test", True, tracks, None)


def track(number: int, name: str | None, *, undecided: bool = False) -> Track:
    return Track(number, name, None, "tracked", (0, 0, 9, 9), None, number, undecided=undecided)


def test_who_may_be_one_of_several_members_is_hidden_with_them_while_one_is_not_in_sight() -> None:
    cast = Cast.of(["rei", "liz"], None, "hide")

    def hidden(*tracks: Track) -> list[int]:
        scene, target = cast.scene(told(*tracks))
        assert target.member is None, "whoever is in the scene is hidden"
        return [track.label for track in scene.tracks]

    new, stranger, other = track(7, None, undecided=True), track(8, None), track(9, "gaeul")
    assert hidden(track(1, "rei"), new, stranger, other) == [1, 7]
    assert hidden(track(1, "rei"), track(2, "liz"), new, stranger, other) == [1, 2]
    shown, _ = Cast.of(["rei", "liz"], None, "annotated").scene(told(track(1, "rei"), new))
    assert [track.label for track in shown.tracks] == [1], "the other styles show those who are known"

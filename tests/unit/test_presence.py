"""Who was on screen when, from a sidecar."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamer.egress.presence import presences


def sidecar(path: Path, *frames: tuple[float, list[tuple[str | None, str]]]) -> Path:
    lines = [
        {"pts": pts, "tracks": [{"name": n, "state": s, "mask": {"counts": "x"}} for n, s in who]}
        for pts, who in frames
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_intervals_start_at_the_first_frame_and_bridge_short_absences(tmp_path: Path) -> None:
    rei, yujin = ("rei", "tracked"), ("yujin", "tracked")
    frames = [(100 + n / 10, [rei]) for n in range(10)]  # 0.0 to 1.0
    frames += [(101 + n / 10, []) for n in range(3)]  # 0.3 s away: no absence
    frames += [(101.3 + n / 10, [rei, yujin, (None, "tracked")]) for n in range(7)]  # to 2.0
    frames += [(102 + n / 10, [("rei", "lost"), yujin]) for n in range(10)]
    frames += [(103.0, [rei])]
    found = presences(sidecar(tmp_path / "a.jsonl", *frames))
    assert (found.duration_seconds, found.frames) == (3.1, 31)
    assert [(p.name, p.intervals) for p in found.people] == [
        ("rei", ((0.0, 2.0), (3.0, 3.1))),
        ("yujin", ((1.3, 3.0),)),
        (None, ((1.3, 2.0),)),
    ]
    assert found.people[0].seconds == pytest.approx(2.1)


def test_a_growing_or_odd_file_is_read_as_far_as_it_makes_sense(tmp_path: Path) -> None:
    path = sidecar(tmp_path / "a.jsonl", (0.0, [("rei", "tracked")]), (0.1, [("rei", "tracked")]))
    first = presences(path)
    with path.open("a") as file:
        file.write('{}\nnonsense\n{"pts": 0.2, "tracks": [{"name": "rei"}]}\n{"pts": 0.3, "tra')
    assert presences(path).frames == 3
    assert presences(path).people[0].intervals == ((0.0, 0.3),)
    assert first.people[0].intervals == ((0.0, 0.2),)
    path.write_text("")
    assert presences(path) == type(first)(0.0, 0, ())


def test_somebody_of_whom_only_the_face_is_seen_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    track = '{"name": "rei", "state": "lost", "face": [1, 2, 3, 4]}'
    path.write_text("".join(f'{{"pts": {n / 10}, "tracks": [{track}]}}\n' for n in range(3)))
    assert presences(path).people[0].intervals == ((0.0, 0.3),)


def test_a_gap_between_frames_is_nobodys_time(tmp_path: Path) -> None:
    frames = [(0.0, [("rei", "tracked")]), (0.1, [("rei", "tracked")]), (60.0, [("rei", "tracked")])]
    (rei,) = presences(sidecar(tmp_path / "a.jsonl", *frames)).people
    assert rei.intervals == ((0.0, 0.6), (60.0, 60.5))

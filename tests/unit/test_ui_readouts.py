"""The read-outs of the live page: states in words, numbers, people, charts."""

from __future__ import annotations

import pytest

from tests.standin import stream_info
from ui import readouts


@pytest.mark.parametrize(
    ("state", "colour", "words"),
    [
        ({"phase": "live"}, "good", "Source live"),
        ({"phase": "connecting"}, "wait", "Source connecting…"),
        ({"phase": "connecting", "reason": "no publisher yet"}, "wait", "Source connecting: no publisher yet"),
        (
            {"phase": "reconnecting", "reason": "the camera froze", "retry_in_seconds": 2.2},
            "bad",
            "Source reconnecting in 2 s: the camera froze",
        ),
        ({"phase": "reconnecting", "retry_in_seconds": 0.1}, "bad", "Source reconnecting in 1 s"),
        ({"phase": "failed", "reason": "wrong password"}, "bad", "Source failed: wrong password"),
        ({"phase": "ended"}, "bad", "Source ended"),
    ],
)
def test_source_state_in_words(state: dict[str, object], colour: str, words: str) -> None:
    assert readouts.source_state(state) == (colour, words)


def test_vision_state_is_said_once() -> None:
    info = stream_info("a", {"kind": "demo"}) | {"vision": {"state": "stalled", "notice": "vision stalled"}}
    assert "Vision stalled…" in readouts.state_line(info)
    info["vision"] = {"state": "restarting", "notice": "out of memory"}
    assert "Vision restarting: out of memory" in readouts.state_line(info)
    info["vision"] = {"state": "starting", "notice": "vision starting: warming up 3/20"}
    assert "Vision starting: warming up 3/20" in readouts.state_line(info)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "Nobody is in the picture."),
        ({"size": None}, "There is no picture yet."),
        ({"vision": {"state": "stalled", "notice": "vision stalled"}}, "Vision does not see this picture."),
        ({"vision": {"state": "ready", "notice": "no shared memory for vision"}}, "Vision does not see this picture."),
        ({"source": {"kind": "file", "state": {"phase": "ended"}}}, "Nobody was in the last picture."),
    ],
)
def test_nobody_is_said_to_be_there_only_by_who_sees(change: dict[str, object], words: str) -> None:
    assert readouts.nobody(stream_info("a", {"kind": "demo"}) | change) == words


def test_a_person_is_told_with_the_similarity() -> None:
    lost = {"id": 2, "name": "rei", "similarity": 0.61, "state": "lost"}
    assert "Rei (out of sight)" in readouts.person_line(lost, "Rei")
    assert "0.61" in readouts.person_line(lost, "Rei")
    assert "out of sight" not in readouts.person_line({**lost, "face": [1, 2, 3, 4]}, "Rei")
    assert "width:0%" in readouts.person_line({"id": 1, "name": "liz", "similarity": -0.1, "state": "tracked"}, None)
    assert "unknown" in readouts.person_line({"id": 3, "name": None, "similarity": None, "state": "tracked"}, None)


def test_a_stream_without_a_frame_has_read_outs_too() -> None:
    empty = {"id": "a", "source": {"kind": "whip"}, "latency_ms": {}, "fps": {}, "dropped": {}, "recording": None}
    assert "Source connecting…" in readouts.state_line(empty)
    assert "–" in readouts.number_strip(empty)
    assert "Waiting for frames" in readouts.stage_chart(empty)
    assert "Waiting for frames" in readouts.history_chart([])


def test_stages_are_drawn_to_one_scale() -> None:
    latency = {
        "decode": {"p50": 5.0, "p95": 10.0},
        "encode": {"p50": 10.0, "p95": 20.0},
        "total": {"p50": 9, "p95": 99},
    }
    chart = readouts.stage_chart({"latency_ms": latency})
    assert "width:25.0%" in chart
    assert "left:100.0%" in chart
    assert "total" not in chart


def test_history_fills_the_newest_column() -> None:
    chart = readouts.history_chart([(-0.5, 40.0, 90.0), (0.0, 50.0, 80.0), (-500.0, 1.0, 1.0)])
    assert chart.count("<i>") == readouts.BINS
    assert "height:50%" in chart
    assert "bottom:90%" in chart


@pytest.mark.parametrize(("value", "ceiling"), [(0, 10), (10, 10), (11, 20), (49, 50), (51, 100), (1200, 2000)])
def test_axis_ends_are_calm(value: float, ceiling: float) -> None:
    assert readouts.nice_ceiling(value) == ceiling


def test_sizes_and_times_read_well() -> None:
    assert [readouts.file_size(n) for n in (0, 999, 1500, 31e6, 2.5e9)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "31.0 MB",
        "2.5 GB",
    ]
    assert [readouts.size_limit(n) for n in (25e6, 4e9, 67_108_864, 50)] == ["25 MB", "4 GB", "67.1 MB", "50 B"]
    assert [readouts.clock(n) for n in (0, 65.2, 3725)] == ["0:00", "1:05", "1:02:05"]


@pytest.mark.parametrize(
    ("recording", "title"),
    [
        ("a1_rei_20261123T101500Z", "rei, 23 November 2026, 10:15:00 UTC"),
        ("a1_all_20261103T001500Z_part2", "everybody, 3 November 2026, 00:15:00 UTC, part 2"),
        ("a1_장원영_20261103T001500Z_part2_3", "장원영, 3 November 2026, 00:15:00 UTC, part 2"),
        ("a1_rei_20261399T101500Z", "a1_rei_20261399T101500Z"),
        ("my_own_film", "my_own_film"),
        ("a1_rei_20261123T101500Z.mp4", "a1_rei_20261123T101500Z.mp4"),
    ],
)
def test_a_recording_is_called_by_whom_it_follows_and_when(recording: str, title: str) -> None:
    assert readouts.recording_title(recording) == title
    assert (readouts.recording_start(recording) is None) == (title == recording)

"""Time stamps of every kind become a clock that only rises."""

from __future__ import annotations

import random

import pytest

from streamer.ingest.source import Backoff
from streamer.ingest.timeline import Lateness, Timeline


def test_time_stamps_are_kept_from_zero_on() -> None:
    timeline = Timeline()
    assert [timeline.step(t) for t in (7.0, 7.04, 7.1, 9.1)] == pytest.approx([0, 0.04, 0.1, 2.1])


@pytest.mark.parametrize("bad", [0.5, 1.12, 5000.0, None])
def test_a_broken_time_stamp_counts_as_one_frame(bad: float | None) -> None:
    timeline = Timeline()
    for t in (1.0, 1.04, 1.08, 1.12):
        timeline.step(t)
    assert timeline.step(bad) == pytest.approx(0.16)
    after = 1.2 if bad is None else bad + 0.04
    assert timeline.step(after) == pytest.approx(0.20)


def test_a_restarted_clock_goes_on_where_it_was() -> None:
    timeline = Timeline()
    for t in (1.0, 1.04, 1.08):
        timeline.step(t)
    timeline.restart()
    assert timeline.step(1.2) == pytest.approx(0.12)
    assert timeline.step(1.24) == pytest.approx(0.16)


def test_without_time_stamps_the_stated_rate_counts() -> None:
    timeline = Timeline()
    timeline.announce(50.0)
    assert timeline.fps == 50.0
    assert [timeline.step(None) for _ in range(3)] == pytest.approx([0, 0.02, 0.04])


@pytest.mark.parametrize("nonsense", [None, 0.0, 90_000.0, -3.0])
def test_a_nonsensical_rate_is_ignored(nonsense: float | None) -> None:
    timeline = Timeline()
    timeline.announce(nonsense)
    assert timeline.fps is None
    timeline.step(None)
    assert timeline.step(None) == pytest.approx(0.04)


def test_the_rate_is_measured() -> None:
    timeline = Timeline()
    timeline.announce(25.0)
    for index in range(20):
        timeline.step(index / 15)
    assert timeline.fps == pytest.approx(15)


def test_pauses_are_shortened_where_asked() -> None:
    timeline = Timeline(max_step_seconds=0.95)
    assert [timeline.step(t) for t in (0.0, 0.04, 4.0)] == pytest.approx([0, 0.04, 0.99])


def test_the_clock_rises_whatever_comes() -> None:
    chance = random.Random(3)
    timeline = Timeline(0.95)
    last = -1.0
    for _ in range(2000):
        now = timeline.step(chance.choice([None, chance.uniform(-5, 5), chance.uniform(0, 1e9)]))
        assert 0 < now - last <= 1
        last = now


def test_lasting_lateness_is_told_from_a_burst_and_from_drift() -> None:
    lateness = Lateness()
    assert not any(lateness.step(n / 30, n / 30 * 1.0005) for n in range(30 * 7200))  # two hours of drift
    now = 7200 * 1.0005
    stalled = 3.0
    assert not any(lateness.step(7200 + n / 30, now + stalled + n / 1000) for n in range(90))  # a burst, caught up with
    lateness = Lateness()
    assert any(lateness.step(n / 30, n / 20) for n in range(400))  # decoding at 20 of 30 frames a second


def test_backoff_doubles_jitters_and_stays_bounded() -> None:
    backoff = Backoff(0.25, 5.0, random.Random(1))
    delays = [backoff.next() for _ in range(200)]
    assert 0.125 <= delays[0] <= 0.375
    assert max(delays) <= 5.0
    assert min(delays[10:]) >= 2.5
    assert len(set(delays[10:])) > 50
    backoff.reset()
    assert backoff.next() <= 0.375

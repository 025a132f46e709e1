from __future__ import annotations

import threading

from streamer.service.stats import RateMeter, StageTimes


def test_percentiles_are_nearest_rank_in_milliseconds() -> None:
    times = StageTimes()
    for n in range(1, 101):
        times.add({"decode": n / 1000})
    assert times.summary() == {"decode": {"p50": 50.0, "p95": 95.0}}


def test_one_sample_is_every_percentile() -> None:
    times = StageTimes()
    times.add({"encode": 0.0075})
    assert times.summary() == {"encode": {"p50": 7.5, "p95": 7.5}}


def test_nothing_seen_is_an_empty_summary() -> None:
    assert StageTimes().summary() == {}


def test_only_the_last_frames_count() -> None:
    times = StageTimes(window=10)
    for _ in range(10):
        times.add({"decode": 9.0})
    for _ in range(10):
        times.add({"decode": 0.001})
    assert times.summary()["decode"] == {"p50": 1.0, "p95": 1.0}


def test_stages_come_in_the_order_of_a_frame_then_others_by_name() -> None:
    times = StageTimes()
    times.add({"zoom": 1.0, "total": 1.0, "encode": 1.0, "decode": 1.0, "blur": 1.0, "identity": 1.0})
    assert list(times.summary()) == ["decode", "identity", "encode", "total", "blur", "zoom"]


def test_a_frame_may_lack_a_stage() -> None:
    times = StageTimes()
    times.add({"decode": 0.001, "identity": 0.05})
    times.add({"decode": 0.003})
    summary = times.summary()
    assert summary["identity"]["p50"] == 50.0
    assert summary["decode"]["p95"] == 3.0


def test_adding_from_a_thread_while_summing_up_is_safe() -> None:
    times = StageTimes()
    stop = threading.Event()

    def add() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            times.add({f"stage{n % 50}": 0.001})

    thread = threading.Thread(target=add)
    thread.start()
    try:
        for _ in range(200):
            times.summary()
    finally:
        stop.set()
        thread.join()
    assert len(times.summary()) == 50


def test_a_steady_stream_has_its_rate() -> None:
    meter = RateMeter()
    for n in range(90):
        meter.tick(n / 30)
    assert abs(meter.rate(89 / 30) - 30) < 0.01
    assert meter.count == 90


def test_a_slow_stream_has_its_rate_too() -> None:
    meter = RateMeter()
    for n in range(10):
        meter.tick(n * 0.5)
    assert abs(meter.rate(4.5) - 2) < 0.01


def test_a_stall_lets_the_rate_fall_and_then_end() -> None:
    meter = RateMeter()
    for n in range(60):
        meter.tick(n / 30)
    rates = [meter.rate(59 / 30 + wait) for wait in (0.0, 0.5, 1.0, 1.9, 2.5)]
    assert rates == sorted(rates, reverse=True)
    assert rates[1] < 25
    assert rates[-1] == 0.0


def test_no_event_is_no_rate_and_one_event_is_little() -> None:
    meter = RateMeter()
    assert meter.rate(0.0) == 0.0
    meter.tick(1.0)
    assert 0 < meter.rate(1.0) <= 1


def test_what_waited_and_comes_all_at_once_is_no_high_rate() -> None:
    """The frames that a camera's connection had kept back while it stalled."""
    meter = RateMeter()
    for n in range(10):
        meter.tick(60.0 + n / 1000)
    assert meter.rate(60.009) < 45


def test_events_at_the_same_instant_do_not_divide_by_zero() -> None:
    meter = RateMeter()
    for _ in range(3):
        meter.tick(5.0)
    assert meter.rate(5.0) > 0

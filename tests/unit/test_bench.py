"""The benchmark's arithmetic and its pictures: a number that is printed must be right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.bench import content
from streamer.bench.identity import summary
from streamer.bench.report import print_table
from streamer.bench.results import Sight, latency, machine, percentile, psnr, rounded, slope
from streamer.frames import planes
from streamer.ingest import mark


def sight() -> Sight:
    """A hundred frames at 20 fps whose delay rises by a millisecond a frame; one mark is unreadable."""
    return Sight([100 + n / 20 for n in range(100)], [None if n == 50 else n for n in range(100)], [4.0, 16.0])


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(n) for n in range(1, 101)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.95) == 95
    assert percentile([7.0], 0.95) == 7
    assert latency([]) == {"p50": None, "p95": None}


def test_rate_and_delay_of_a_window() -> None:
    whole = sight()
    assert whole.fps == pytest.approx(20)
    last = whole.between(104, 200)
    assert last.fps == pytest.approx(20)
    assert last.latencies == list(range(80, 100))
    assert 50 not in whole.latencies
    assert len(whole.latencies) == 99
    assert Sight([], [], []).fps == 0


def test_psnr_is_of_the_mean_error() -> None:
    assert psnr(sight().errors) == pytest.approx(10 * np.log10(255**2 / 10))
    assert psnr([]) is None


def test_slope_finds_the_growth_in_noise() -> None:
    rng = np.random.default_rng(0)
    points = [(t / 60, 100 + 2 * t / 60 + rng.normal(0, 0.1)) for t in range(600)]
    assert slope(points) == pytest.approx(2, abs=0.05)
    assert slope(points[:2]) is None


def test_numbers_are_rounded_everywhere() -> None:
    assert rounded({"a": [1.23456, {"b": 2.0}], "c": None, "d": "x"}) == {"a": [1.235, {"b": 2.0}], "c": None, "d": "x"}


def test_the_machine_is_told_as_json() -> None:
    told = json.loads(json.dumps(machine()))
    assert told["cores"] >= 1
    assert told["versions"]["numpy"] == np.__version__


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two frames of the real clip; nobody writes to it."""
    path = tmp_path_factory.mktemp("bench") / "clip.i420"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "FRAMES", 2)
        content.make_clip(path)
        yield path


def test_a_published_frame_carries_the_time_and_its_number(clip: Path) -> None:
    frames = content.open_clip(clip)
    picture = content.stamped(frames, 7)
    assert mark.read(picture[content.NUMBER_ROW :]) == 7
    written = mark.read(picture)
    assert written is not None
    assert 0 <= mark.age_ms(written) < 5000
    luma = planes(picture)[0]
    assert content.luma_error(luma, frames, 7) == 0
    worse = luma.copy()
    worse[content.MARKED_ROWS :] = np.where(
        worse[content.MARKED_ROWS :] > 100, worse[content.MARKED_ROWS :] - 2, worse[content.MARKED_ROWS :] + 2
    )
    assert content.luma_error(worse, frames, 7) == pytest.approx(4)
    assert content.luma_error(luma[:360], frames, 7) is None


def test_the_film_is_the_clip_without_loss(clip: Path, tmp_path: Path) -> None:
    content.make_film(clip, tmp_path / "clip.y4m")
    with av.open(str(tmp_path / "clip.y4m")) as container:
        shown = [frame.to_ndarray() for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == content.FPS
    assert np.array_equal(np.stack(shown), content.open_clip(clip))


def test_the_table_shows_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    delay = {"p50": 28, "p95": 39}
    memory = {"start": 120.0, "end": 121.0, "slope_per_minute": 0.01}
    flow = {
        "seconds": 20.0,
        "fps_out": [30.0],
        "glass_to_glass_ms": delay,
        "glass_to_glass_ms_first": delay,
        "glass_to_glass_ms_last": delay,
        "service_cpu_seconds_per_second": 0.21,
        "worker_cpu_seconds_per_second": 0.9,
        "service_cpu_ms_per_frame": 7.0,
        "cores_busy": {"all": 1.2, "peers": 0.5},
        "service_rss_mb": memory,
        "worker_rss_mb": memory,
        "dropped": {"source": 0, "vision": 0, "encoder": 0, "viewers": 0},
    }
    print_table(
        {
            "machine": machine(),
            "none": {**flow, "several": {"viewers": 4, **flow}, "cpu_ms_per_frame_and_further_viewer": 0.4},
            "quality": {"psnr_y_db": 39.2, "frames_compared": 60},
            "synthetic": {"delay_seconds": 0.1, **flow},
            "lite": {"named": ["eileen"], "vision_ms_p50": 40.0, "decode_overlay_encode_ms_p50": 11.0, **flow},
            "soak": {
                "seconds": 600.0,
                "viewers_joined": 90,
                "service_rss_mb": {"least": 1.0, "most": 2.0, "slope_per_minute": None},
                "worker_rss_mb": {"least": 1.0, "most": 2.0, "slope_per_minute": 0.0},
            },
            "smoothing": {
                "clip": "hall.mp4",
                "engine": "lite",
                "strength": 0.5,
                "masks": 417,
                "flicker": {"raw": 0.1758, "smoothed": 0.0755, "ratio": 0.4295},
                "overlap_with_raw": {
                    name: {"from_speed_widths_per_frame": 0.01, "masks": 46, "mean": 0.984, "p5": 0.9}
                    for name in ("all", "fastest_quarter", "fast")
                },
                "cpu_ms_per_frame": 2.5,
            },
            "engine": {
                "engine": "sam3",
                "device": "cpu",
                "objects": 2,
                "objects_found": 2.0,
                "peak_gflops": 45.0,
                "stages": {
                    "encode": {"ms_p50": 31.4, "cpu_ms_p50": 31.0, "gflop": 0.82, "share_of_peak": 0.58},
                    "smooth": {"ms_p50": 1.5, "cpu_ms_p50": 1.5, "gflop": None, "share_of_peak": None},
                },
                "propagate_ms_per_object": 12.9,
                "frame_ms_without_detect": 60.0,
                "memory_mb": {"first": 900.0, "last": 901.0, "growth_mb_per_frame": 0.0},
            },
            "startup": {"first_picture_seconds": 4.0, "first_annotated_picture_seconds": 8.0, "dashboard_seconds": 9.0},
        }
    )
    said = capsys.readouterr().out
    for expected in ("39.2", "eileen", "8.0", "0.40", "28", "soak", "hall.mp4", "0.43", "0.8 GFLOP"):
        assert expected in said


def test_the_cost_of_identity_is_what_frames_with_a_look_take_more() -> None:
    found = summary([90.0, 110.0], [40.0] * 18, 20)
    assert found["looks"] == 2
    assert found["frames_between_looks"] == 10
    assert found["cpu_ms_a_look"] == pytest.approx(60)
    assert found["identity_cpu_ms_a_frame"] == pytest.approx(6)
    assert found["share_of_frame_budget"] == pytest.approx(0.18)
    assert found["share_of_vision_cpu"] == pytest.approx(120 / 920)

"""The benchmark's own processes against a real service: what it prints must come from marks that were really read."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from streamer.bench import cli, content, live
from streamer.bench.offline import LONGER, PHOTOS, offline
from streamer.cli import app
from streamer.errors import StreamerError
from streamer.frames import i420_bytes
from streamer.vision.models import ModelStore


def test_transport_is_measured_with_real_peers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    said: list[str] = []
    bench = live.Bench(tmp_path, None, None, said.append)
    numbers = live.transport(bench, 2.0, 1)
    assert numbers["fps_out"][0] > 2
    delay = numbers["glass_to_glass_ms"]
    assert 0 < delay["p50"] <= delay["p95"] < 5000
    assert numbers["marks_unreadable"] == 0
    assert numbers["service_cpu_seconds_per_second"] > 0
    assert numbers["service_rss_mb"]["end"] > 20
    assert said
    assert not [child for child in psutil.Process().children(recursive=True) if "bench" in " ".join(child.cmdline())]


def test_a_publisher_that_is_refused_says_why(tmp_path: Path) -> None:
    bench = live.Bench(tmp_path, None, None)
    clip = tmp_path / "clip.i420"
    with clip.open("wb") as file:
        file.truncate(content.FRAMES * i420_bytes(content.WIDTH, content.HEIGHT))
    with bench.service("none") as service:
        url = f"{service.url}/api/streams/nobody/whip"
        with pytest.raises(StreamerError, match="404"), live.publishing(url, clip):
            pass


VIDEO = {
    "fps": float,
    "times_real_time": float,
    "cpu_ms_per_frame": float,
    "seen_share": float,
    "frames": int,
    "codec": str,
    "peak_memory_mb": float,
}
OFFLINE = {
    "seconds": float,
    "photo_1080p": {
        "seconds_p50": float,
        "seconds_max": float,
        "seen": int,
        "photos": int,
        "peak_memory_mb": float,
    },
    **dict.fromkeys(("video_360p", "video_720p", "video_1080p", "every_5_1080p", "render_720p"), VIDEO),
    "memory": {"peak_memory_mb": float, "peak_memory_mb_longer": float, "longer": int},
}


def types(numbers: object) -> object:
    return {key: types(value) for key, value in numbers.items()} if isinstance(numbers, dict) else type(numbers)


@pytest.mark.models
def test_every_offline_command_is_measured_on_work_that_it_really_did(tmp_path: Path, model_store: ModelStore) -> None:
    said: list[str] = []
    folder = tmp_path / "bench"
    folder.mkdir()
    # Shorter than the command line allows: here what is told counts, not how fast it was.
    numbers = offline(live.Bench(folder, model_store.root.parent, None, said.append), 0.4)
    cli._deliver({"offline": numbers}, tmp_path / "out.json")
    report = json.loads((tmp_path / "out.json").read_text())
    assert set(report) == {"machine", "offline"}
    told = report["offline"]
    assert types(told) == OFFLINE
    assert told["photo_1080p"]["seen"] == told["photo_1080p"]["photos"] == PHOTOS
    for name in ("video_360p", "video_720p", "video_1080p", "every_5_1080p", "render_720p"):
        assert told[name]["frames"] == 10
        assert told[name]["seen_share"] == 1.0
        assert told[name]["fps"] > 0
        assert told[name]["peak_memory_mb"] > 50
    assert told["memory"]["longer"] == LONGER
    assert any("rendering again" in line for line in said)
    assert not [child for child in psutil.Process().children(recursive=True) if "streamer" in " ".join(child.cmdline())]


@pytest.mark.models
def test_what_the_lite_engine_costs_is_measured_with_its_arithmetic(model_store: ModelStore, tmp_path: Path) -> None:
    arguments = ["--data-dir", str(model_store.root.parent), "--engine", "lite", "bench", "engine"]
    done = CliRunner().invoke(app, [*arguments, "--objects", "1", "--frames", "3", "--json", str(tmp_path / "o.json")])
    assert done.exit_code == 0, done.exception or done.output
    stages = json.loads((tmp_path / "o.json").read_text())["engine"]["stages"]
    assert stages["propagate"]["gflop"] > 0.5, "one pass of the pose network at least"
    assert stages["propagate"]["cpu_ms_p50"] > 0
    assert stages["detect"]["gflop"] > 0.05


def test_an_engine_without_an_offline_benchmark_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--data-dir", str(tmp_path), "--engine", "sam3", "bench", "offline"])
    assert done.exit_code == 1
    assert "no offline benchmark for engine 'sam3'" in str(done.exception or done.output)

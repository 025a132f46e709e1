"""The benchmark's own processes against a real service: what it prints must come from marks that were really read."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from streamer.bench import content, live
from streamer.errors import StreamerError
from streamer.frames import i420_bytes


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

"""Long and restless: one stream, viewers who come and go all the time, and the memory meanwhile."""

from __future__ import annotations

import random
import time
from typing import Any

from streamer.bench.content import MEMBER
from streamer.bench.live import MEGABYTE, WARM_UP_SECONDS, Bench, published
from streamer.bench.results import slope
from streamer.bench.rig import Usage, Viewer

MOST_VIEWERS = 3
STAY_SECONDS = (2.0, 9.0)
"""A viewer leaves after a time in between."""
SETTLE_SHARE = 0.25
"""Of the run: memory still grows to its working size, and is not part of the slope."""


def soak(bench: Bench, seconds: float, engine: str) -> dict[str, Any]:
    """Run for `seconds`; growth of memory is that of the settled part."""
    chance = random.Random(1)
    usages: list[Usage] = []
    leaving: list[tuple[float, Viewer]] = []
    joined = frames = 0
    wanted = {"member": MEMBER} if engine == "lite" else {}
    with published(bench, engine, {}, **wanted) as stage:
        url = f"{stage.service.url}/api/streams/{stage.stream}/whep"
        time.sleep(WARM_UP_SECONDS)
        end = time.monotonic() + seconds
        try:
            while (now := time.monotonic()) < end:
                bench.say(f"soak: {end - now:.0f} s to go, {joined} viewers so far")
                stage.check()
                usages.append(stage.service.usage())
                for at, viewer in [pair for pair in leaving if pair[0] <= now]:
                    leaving.remove((at, viewer))
                    frames += len(viewer.sight().seen_at)
                if len(leaving) < MOST_VIEWERS:
                    joined += 1
                    viewer = Viewer(url, bench.folder, joined)
                    leaving.append((now + chance.uniform(*STAY_SECONDS), viewer))
                    viewer.wait_until_watching()
                time.sleep(0.5)
        finally:
            for _, viewer in leaving:
                viewer.child.close()
        info = stage.service.info(stage.stream)
    settled = [u for u in usages if u.at >= usages[0].at + SETTLE_SHARE * seconds]
    return {
        "engine": engine,
        "seconds": usages[-1].at - usages[0].at,
        "viewers_joined": joined,
        "frames_seen": frames,
        "service_rss_mb": _memory([(u.at, u.service_bytes) for u in settled]),
        "worker_rss_mb": _memory([(u.at, u.worker_bytes) for u in settled]),
        "dropped": info["dropped"],
    }


def _memory(points: list[tuple[float, int]]) -> dict[str, float | None]:
    megabytes = [(at / 60, size / MEGABYTE) for at, size in points]
    sizes = [size for _, size in megabytes] or [0.0]
    return {"least": min(sizes), "most": max(sizes), "slope_per_minute": slope(megabytes)}

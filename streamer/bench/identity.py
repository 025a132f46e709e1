"""What identity costs while names are stable: looks for faces, comparisons, and what they cost of a frame."""

from __future__ import annotations

import time
from typing import Any

import cv2
import numpy as np

from streamer.bench import content
from streamer.bench.live import Bench
from streamer.errors import PhotoRefused
from streamer.frames import Frame
from streamer.service.settings import Settings
from streamer.tracks import Target
from streamer.vision.known import Known
from streamer.vision.loading import build_models

SETTLE_SECONDS = 2.0
"""Of the clip, before the measurement: the name is found and proves itself."""
BUDGET_SHARE = 0.15
"""Goal: identity takes no more than this of the time of a frame."""


def identity(bench: Bench, settings: Settings, seconds: float) -> dict[str, Any]:
    """CPU time of the processor on frames with a look for faces and without, in the process's own CPU seconds.

    The difference is the cost of identity; wall time would count the machine's other work as well.
    """
    bench.say("identity: preparing the clip")
    path = bench.folder / "identity.i420"
    content.make_clip(path)
    clip = content.open_clip(path)
    models = build_models(settings.vision, settings.data_folder)
    assert models.faces is not None
    faces = models.faces.read_photo(cv2.cvtColor(content.photo(), cv2.COLOR_RGB2BGR))
    if not faces:
        raise PhotoRefused("the face pack finds no face on the benchmark's photo; try another vision.pack")
    processor = models.processor()
    processor.set_target(Target(member=content.MEMBER))
    processor.set_known(
        Known(models.faces.model_id, (content.MEMBER,), np.zeros(1, np.int64), faces[0].embedding[None])
    )
    settle, count = round(SETTLE_SECONDS * content.FPS), round(seconds * content.FPS)
    spent: dict[bool, list[float]] = {True: [], False: []}
    named = 0
    for number in range(settle + count):
        frame = Frame(np.array(clip[number % content.FRAMES]), number, number / content.FPS, time.monotonic())
        began = time.process_time()
        result = processor.step(frame)
        took = time.process_time() - began
        if number >= settle:
            spent[result.identified].append(1000 * took)
            named += any(track.name == content.MEMBER for track in result.tracks)
        if number % content.FPS == 0:
            bench.say(f"identity: second {number // content.FPS} of {(settle + count) // content.FPS}")
    processor.close()
    return summary(spent[True], spent[False], named) | {
        "model": models.faces.model_id,
        "engine": settings.vision.engine,
    }


def summary(with_look: list[float], without: list[float], named: int) -> dict[str, Any]:
    """The figures from CPU milliseconds of frames with a look for faces and of those without."""
    frames = len(with_look) + len(without)
    usual = float(np.mean(without)) if without else 0.0
    cost = sum(took - usual for took in with_look) / max(frames, 1)
    total = sum(with_look) + sum(without)
    return {
        "frames": frames,
        "named_frames": named,
        "looks": len(with_look),
        "frames_between_looks": frames / len(with_look) if with_look else None,
        "cpu_ms_a_look": float(np.mean(with_look)) - usual if with_look else None,
        "cpu_ms_a_frame": total / max(frames, 1),
        "identity_cpu_ms_a_frame": cost,
        "share_of_frame_budget": cost / (1000 / content.FPS),
        "share_of_vision_cpu": cost * frames / total if total else None,
    }

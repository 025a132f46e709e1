"""Runs the live path's processor over a data set, every frame, as fast as it can."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamer.errors import PhotoRefused
from streamer.evaluation.dataset import Dataset
from streamer.evaluation.scoring import ClipScore, score_photo
from streamer.frames import MIN_SIDE, Frame
from streamer.ingest.files import read_frames
from streamer.service.settings import Settings
from streamer.vision import enrolment, photos
from streamer.vision.known import Known, PhotoFace
from streamer.vision.loading import Models, build_models
from streamer.vision.photo_reading import read_encoded

Tell = Callable[[str, int, int], None]
"""What is being done, how far, out of how much."""


def evaluate(dataset: Dataset, settings: Settings, tell: Tell = lambda what, done, total: None) -> dict[str, Any]:
    """Measure names and masks on `dataset`; the contract's JSON.

    Raises:
        ModelMissing, VisionUnavailable: the models cannot be had.
        SourceUnusable: a clip cannot be read.
    """
    models = build_models(settings.vision, settings.data_folder)
    known, enrolled, refused = enrol(dataset.gallery, models, tell)
    photo_scores = _photos(dataset, models, known, tell)
    clips = _clips(dataset, models, known, settings, tell)
    frames = sum(clip["frames"] for clip in clips)
    recalls = [shot for clip in clips for shot in clip["shots"]]
    weight = sum(shot["to"] - shot["from"] + 1 for shot in recalls)
    right = sum(shot["recall"] * (shot["to"] - shot["from"] + 1) for shot in recalls)
    return {
        "dataset": str(dataset.folder),
        "engine": settings.vision.engine,
        "model": known.model_id,
        "gallery": {"members": len(known.names), "photos": enrolled, "refused": refused},
        "photos": {
            "true": sum(len(score["true"]) for score in photo_scores),
            "false": sum(len(score["false"]) for score in photo_scores),
            "missed": sum(len(score["missed"]) for score in photo_scores),
            "each": photo_scores,
        },
        "clips": {
            "frames": frames,
            "recall": round(right / weight, 4) if weight else None,
            "wrong_name_frames": sum(clip["wrong_name_frames"] for clip in clips),
            "name_outlives_shot_frames": max((clip["name_outlives_shot_frames"] for clip in clips), default=0),
            "id_switches": sum(clip["id_switches"] for clip in clips),
            "each": clips,
        },
        "peak_memory_mb": round(_peak_bytes() / 2**20),
    }


def enrol(gallery: Mapping[str, tuple[Path, ...]], models: Models, tell: Tell) -> tuple[Known, int, list[str]]:
    """The gallery's photos, judged as enrolment judges them: known faces, how many were kept, why others were not."""
    assert models.faces is not None
    names = tuple(gallery)
    owners: list[int] = []
    faces: list[PhotoFace] = []
    refused: list[str] = []
    total = sum(len(paths) for paths in gallery.values())
    for owner, name in enumerate(names):
        for path in gallery[name]:
            tell("enrolling", len(owners) + len(refused), total)
            try:
                data = path.read_bytes()
                decoded = photos.decode(data, path.name)
                reading = read_encoded(models.faces, photos.encode_bmp(decoded.bgr))
                kept = enrolment.judge(
                    data,
                    decoded,
                    reading,
                    name=name,
                    file=path.name,
                    source="dataset",
                    pick=None,
                    known=Known.nobody(reading.model_id),
                )
            except PhotoRefused as exc:
                refused.append(f"{name}: {exc}")
                continue
            owners.append(owner)
            faces.append(kept.face)
    embeddings = np.stack([face.embedding for face in faces]) if faces else np.zeros((0, 0), np.float32)
    return Known(models.faces.model_id, names, np.array(owners, np.int64), embeddings), len(owners), refused


def photo_frame(bgr: np.ndarray) -> Frame:
    """A photo (H, W, 3) uint8 as a frame; odd sides lose a pixel. Raises `PhotoRefused` under 16 pixels."""
    height, width = (side - side % 2 for side in bgr.shape[:2])
    if min(height, width) < MIN_SIDE:
        raise PhotoRefused(f"a picture of {width}x{height} pixels is too small; at least {MIN_SIDE} a side")
    i420 = cv2.cvtColor(np.ascontiguousarray(bgr[:height, :width]), cv2.COLOR_BGR2YUV_I420)
    return Frame(i420, 0, 0.0, time.monotonic())


def _photos(dataset: Dataset, models: Models, known: Known, tell: Tell) -> list[dict[str, Any]]:
    scores = []
    for done, (path, expected) in enumerate(dataset.photos.items()):
        tell("photos", done, len(dataset.photos))
        processor = models.processor(still=True)
        processor.set_known(known)
        result = processor.step(photo_frame(photos.decode(path.read_bytes(), path.name).bgr))
        processor.close()
        scores.append(asdict(score_photo(path.name, expected, result)))
    return scores


def _clips(dataset: Dataset, models: Models, known: Known, settings: Settings, tell: Tell) -> list[dict[str, Any]]:
    reports = []
    max_size = (settings.video.max_width, settings.video.max_height)
    for path, shots in dataset.clips.items():
        total = max((shot.last + 1 for shot in shots), default=0)
        processor = models.processor()
        processor.set_known(known)
        score = ClipScore(path.name, shots)
        busy = 0.0
        for frame in read_frames(path, max_size):
            began = time.perf_counter()
            result = processor.step(frame)
            busy += time.perf_counter() - began
            score.step(frame, result)
            if frame.index % 10 == 0:
                tell(path.name, frame.index, max(total, frame.index + 1))
        processor.close()
        reports.append(score.report(busy))
    return reports


def _peak_bytes() -> int:
    """Peak resident memory of this process: kilobytes on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

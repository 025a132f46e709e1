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

from streamer.errors import ConfigError, PhotoRefused
from streamer.evaluation.calibration import ListeningNamer, Recording, calibrate
from streamer.evaluation.dataset import Dataset
from streamer.evaluation.scoring import ClipScore, score_photo
from streamer.frames import MIN_SIDE, Frame
from streamer.ingest.files import count_pictures, read_frames
from streamer.service.settings import Settings
from streamer.vision import enrolment, photos
from streamer.vision.known import Known, PhotoFace
from streamer.vision.loading import Models, build_models
from streamer.vision.photo_reading import read_encoded
from streamer.vision.processor import FrameProcessor

Tell = Callable[[str, int, int], None]
"""What is being done, how far, out of how much."""


def evaluate(
    dataset: Dataset,
    settings: Settings,
    tell: Tell = lambda what, done, total: None,
    false_name_rate: float | None = None,
) -> dict[str, Any]:
    """Measure names and masks on `dataset`; the contract's JSON.

    `false_name_rate`: find the margin for this rate as well, 0..1; the curve is told under "calibration".

    Raises:
        ModelMissing, VisionUnavailable: the models cannot be had.
        SourceUnusable: a clip cannot be read.
        ConfigError: the data set does not hold what it says it holds.
    """
    _check_clips(dataset, tell)
    models = build_models(settings.vision, settings.data_folder)
    known, enrolled, refused = enrol(dataset.gallery, models, tell)
    run = _Run(models, known, settings, tell)
    photo_scores = run.photos(dataset)
    clips = run.clips(dataset)
    frames = sum(clip["frames"] for clip in clips)
    recalls = [shot for clip in clips for shot in clip["shots"]]
    weight = sum(shot["to"] - shot["from"] + 1 for shot in recalls)
    right = sum(shot["recall"] * (shot["to"] - shot["from"] + 1) for shot in recalls)
    report: dict[str, Any] = {
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
            "seconds_to_first_name": max(
                (clip["seconds_to_first_name"] for clip in clips if clip["seconds_to_first_name"] is not None),
                default=None,
            ),
            "id_switches": sum(clip["id_switches"] for clip in clips),
            "mask_flicker": _mean([(clip["mask_flicker"], clip["frames"]) for clip in clips]),
            "fps": round(frames / run.busy_seconds, 2) if run.busy_seconds else None,
            "each": clips,
        },
        "peak_memory_mb": round(_peak_bytes() / 2**20),
    }
    if false_name_rate is not None:
        report["calibration"] = calibrate(run.recordings, known, false_name_rate, tell).report()
    return report


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
            except (PhotoRefused, OSError) as exc:
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


def _check_clips(dataset: Dataset, tell: Tell) -> None:
    """Before the first minute is spent: every clip can be read and has the frames that are spoken of."""
    for done, (path, shots) in enumerate(dataset.clips.items()):
        tell("reading clips", done, len(dataset.clips))
        frames = count_pictures(path)
        last = max((shot.last for shot in shots), default=-1)
        if last >= frames:
            raise ConfigError(
                f"clips.json: a shot of {path.name} ends with frame {last}, but the clip has {frames} frames "
                f"(0 to {frames - 1}); correct the ranges"
            )


class _Run:
    """Photos and clips through the processor, with what naming was told kept for calibration."""

    def __init__(self, models: Models, known: Known, settings: Settings, tell: Tell) -> None:
        self._models, self._known, self._settings, self._tell = models, known, settings, tell
        self.recordings: list[Recording] = []
        self.busy_seconds = 0.0
        """That the clips took."""

    def _processor(self, still: bool = False) -> tuple[FrameProcessor, ListeningNamer]:
        margin = self._settings.vision.naming_margin
        namer = ListeningNamer(Known.nobody(self._known.model_id), still=still, margin=margin)
        processor = self._models.processor(still=still, namer=namer)
        processor.set_known(self._known)
        self.recordings.append(namer.recording)
        return processor, namer

    def photos(self, dataset: Dataset) -> list[dict[str, Any]]:
        """The score of each photo."""
        scores = []
        for done, (path, expected) in enumerate(dataset.photos.items()):
            self._tell("photos", done, len(dataset.photos))
            processor, namer = self._processor(still=True)
            try:
                frame = photo_frame(photos.decode(path.read_bytes(), path.name).bgr)
            except (PhotoRefused, OSError) as exc:
                raise ConfigError(f"the photo {path} of the data set cannot be used: {exc}") from exc
            result = processor.step(frame)
            processor.close()
            namer.end_frame(expected)
            scores.append(asdict(score_photo(path.name, expected, result)))
        return scores

    def clips(self, dataset: Dataset) -> list[dict[str, Any]]:
        """The report of each clip."""
        reports = []
        max_size = (self._settings.video.max_width, self._settings.video.max_height)
        for path, shots in dataset.clips.items():
            total = max((shot.last + 1 for shot in shots), default=0)
            processor, namer = self._processor()
            score = ClipScore(path.name, shots)
            busy = 0.0
            for frame in read_frames(path, max_size):
                began = time.perf_counter()
                result = processor.step(frame)
                busy += time.perf_counter() - began
                score.step(frame, result)
                shot = score.shot_at(frame.index)
                namer.end_frame(None if shot is None else shot.members)
                if frame.index % 10 == 0:
                    self._tell(path.name, frame.index, max(total, frame.index + 1))
            processor.close()
            self.busy_seconds += busy
            reports.append(score.report(busy))
        return reports


def _mean(weighted: list[tuple[float | None, int]]) -> float | None:
    """The mean of those that there are, by weight."""
    known = [(value, weight) for value, weight in weighted if value is not None]
    total = sum(weight for _, weight in known)
    return round(sum(value * weight for value, weight in known) / total, 4) if total else None


def _peak_bytes() -> int:
    """Peak resident memory of this process: kilobytes on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

"""From settings to a measured engine, with a progress bar."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from streamer.bench.engine import Subject, run
from streamer.errors import ConfigError, VisionUnavailable
from streamer.service.settings import Settings


def measure(settings: Settings, objects: int, frames: int, random_weights: bool) -> dict[str, Any]:
    """What `streamer bench engine` reports, of the engine of `settings`.

    Raises:
        ConfigError: the options do not go together.
        ModelMissing, VisionUnavailable: models or the device are not there.
    """
    if random_weights and settings.vision.engine != "sam3":
        raise ConfigError(f"--random-weights is of the SAM family; add --engine sam3 (now {settings.vision.engine})")
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("loading", total=None)

        def say(line: str) -> None:
            progress.update(bar, description=line)

        subject = _subject(settings, random_weights, say)
        say("frames")
        return run(subject, objects, frames, lambda done, total: progress.update(bar, completed=done, total=total))


def _subject(settings: Settings, random_weights: bool, say: Any) -> Subject:
    if settings.vision.engine != "sam3":
        from streamer.bench.engine_subjects import subject

        return subject(settings, say)
    try:
        import torch

        from streamer.bench import engine_sam3
        from streamer.vision.engines.sam3.loading import best_dtype
        from streamer.vision.engines.sam3.options import Sam3Options
    except ImportError as exc:
        raise VisionUnavailable(f"engine sam3 needs torch and transformers: pip install -e '.[sam3]' ({exc})") from exc
    vision, chosen = settings.vision, settings.vision.sam3
    if vision.device == "cpu":
        torch.set_num_threads(vision.threads)
    on_gpu = vision.device == "cuda"
    options = Sam3Options(
        checkpoint=chosen.checkpoint,
        device=vision.device,
        dtype=best_dtype(vision.device) if chosen.dtype == "auto" else chosen.dtype,
        image_size=chosen.image_size,
        compile=chosen.compile and on_gpu,
        channels_last=on_gpu,
        max_objects=chosen.max_objects,
        # Random weights are sure of nothing: every query counts, as in a crowd.
        score_threshold=0.0 if random_weights else chosen.score_threshold,
    )
    folder = None
    if not random_weights:
        from streamer.vision.checkpoints import CheckpointStore

        folder = CheckpointStore(settings.data_folder).ensure(chosen.checkpoint, chosen.backend)
    return engine_sam3.subject(options, folder=folder, tell=say)

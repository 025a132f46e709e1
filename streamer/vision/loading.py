"""Models, loaded once for all streams of a worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import VisionUnavailable
from streamer.vision.checkpoints import CheckpointStore
from streamer.vision.engines.base import MaskEngine, Picture
from streamer.vision.engines.synthetic import SyntheticEngine
from streamer.vision.models import ModelStore, Progress
from streamer.vision.naming import Namer
from streamer.vision.processor import FrameProcessor
from streamer.vision.prompts import phrases
from streamer.vision.smoothing import Smoother

if TYPE_CHECKING:
    from streamer.service.settings import VisionSettings
    from streamer.vision.engines.lite import LiteModels
    from streamer.vision.engines.sam3.engine import Sam3Models
    from streamer.vision.faces import FaceReader


@dataclass(frozen=True, slots=True)
class Models:
    """What a worker loads once and its streams share. Not thread-safe: one worker, one thread."""

    settings: VisionSettings
    faces: FaceReader | None
    """None: the engine needs no models."""
    lite: LiteModels | None
    sam3: Sam3Models | None = None

    def engine(self) -> MaskEngine:
        """A fresh engine for one stream."""
        if self.sam3 is not None:
            return self.sam3.engine()
        if self.lite is None:
            return SyntheticEngine(self.settings.synthetic_delay_seconds)
        from streamer.vision.engines.lite import LiteEngine

        return LiteEngine(self.lite)

    def processor(
        self,
        *,
        still: bool = False,
        first_track_id: int = 1,
        namer: Namer | None = None,
        smoother: Smoother | None = None,
    ) -> FrameProcessor:
        """A fresh processor for one stream; `still`: for photos, each a frame of its own.

        `first_track_id`: where ids go on when a stream outlives a worker: an id never means two people.
        """
        return FrameProcessor(
            self.engine(),
            self.faces,
            self.settings,
            still=still,
            first_track_id=first_track_id,
            namer=namer,
            smoother=smoother,
        )

    @property
    def encodes_together(self) -> bool:
        """Whether pictures of several streams cost less together (`encode`)."""
        return self.sam3 is not None

    def encode(self, processors: Sequence[FrameProcessor], pictures: Sequence[Picture]) -> None:
        """Make each picture the current one of its processor's engine, in one batch where that costs less."""
        if self.sam3 is not None:
            self.sam3.encode([processor.engine for processor in processors], pictures)
            return
        for processor, picture in zip(processors, pictures, strict=True):
            processor.engine.encode(picture)

    def check_phrase(self, prompt: str) -> None:
        """Raises `PromptUnsupported` where the engine cannot answer the object prompt."""
        engine = self.engine()
        for phrase in phrases(prompt):
            engine.check_phrase(phrase)


def build_models(vision: VisionSettings, data_folder: Path, on_progress: Progress | None = None) -> Models:
    """Load what `vision.engine` needs, fetching the face pack where it is absent.

    Raises:
        ModelMissing: a model is absent and cannot be fetched, or is damaged.
        VisionUnavailable: the device is not to be had, or the engine is `none`, which sees nothing.
    """
    if vision.engine == "none":
        raise VisionUnavailable("vision.engine is none: frames pass through; set it to lite to find people")
    if vision.engine == "synthetic":
        return Models(vision, None, None)
    # Before the face pack is fetched: what cannot work is said at once.
    sam3 = _load_sam3(vision, data_folder, on_progress) if vision.engine == "sam3" else None
    from streamer.vision.faces import FaceReader

    store = ModelStore(data_folder)
    folder = store.ensure(vision.pack, on_progress)
    reader = FaceReader(
        folder,
        store.model_id(vision.pack),
        detector_size=(vision.detector_width, vision.detector_height),
        threads=vision.threads,
        device=vision.device,
    )
    if sam3 is not None:
        return Models(vision, reader, None, sam3)
    from streamer.vision.engines.lite import LiteModels

    weights = {name: store.weight(name) for name in LiteModels.FILES}
    return Models(vision, reader, LiteModels.load(weights, vision.threads, vision.device))


def _load_sam3(vision: VisionSettings, data_folder: Path, on_progress: Progress | None) -> Sam3Models:
    needs = "engine sam3 needs torch and transformers: pip install -e '.[sam3]'"
    try:
        import torch
        import transformers  # noqa: F401

        from streamer.vision.engines.sam3.engine import Sam3Models
        from streamer.vision.engines.sam3.loading import best_dtype, check_device, load_network
        from streamer.vision.engines.sam3.network import Network
        from streamer.vision.engines.sam3.options import Sam3Options
        from streamer.vision.engines.sam3.warming import prepare
    except ImportError as exc:
        raise VisionUnavailable(f"{needs} ({exc})") from exc
    chosen = vision.sam3
    check_device(vision.device)
    folder = CheckpointStore(data_folder).ensure(chosen.checkpoint, chosen.backend)
    options = Sam3Options(
        checkpoint=chosen.checkpoint,
        backend=chosen.backend,
        device=vision.device,
        dtype=best_dtype(vision.device) if chosen.dtype == "auto" else chosen.dtype,
        image_size=chosen.image_size,
        # On the CPU it would take longer to compile than most streams last.
        compile=chosen.compile and vision.device == "cuda",
        max_objects=chosen.max_objects,
        channels_last=vision.device == "cuda",
        score_threshold=chosen.score_threshold,
        part_refresh_frames=chosen.part_refresh_frames,
    )
    if vision.device == "cpu":
        torch.set_num_threads(vision.threads)
    models = Sam3Models(load_network(folder, options))
    if isinstance(models.network, Network) and vision.device == "cuda":
        prepare(models.network, models.headroom, on_progress or (lambda line: None))
    return models

"""Models, loaded once for all streams of a worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.errors import VisionUnavailable
from streamer.vision.engines.base import MaskEngine
from streamer.vision.engines.synthetic import SyntheticEngine
from streamer.vision.models import ModelStore, Progress
from streamer.vision.naming import Namer
from streamer.vision.processor import FrameProcessor
from streamer.vision.prompts import phrases

if TYPE_CHECKING:
    from streamer.service.settings import VisionSettings
    from streamer.vision.engines.lite import LiteModels
    from streamer.vision.faces import FaceReader


@dataclass(frozen=True, slots=True)
class Models:
    """What a worker loads once and its streams share. Not thread-safe: one worker, one thread."""

    settings: VisionSettings
    faces: FaceReader | None
    """None: the engine needs no models."""
    lite: LiteModels | None

    def engine(self) -> MaskEngine:
        """A fresh engine for one stream."""
        if self.lite is None:
            return SyntheticEngine(self.settings.synthetic_delay_seconds)
        from streamer.vision.engines.lite import LiteEngine

        return LiteEngine(self.lite)

    def processor(self, *, still: bool = False, first_track_id: int = 1, namer: Namer | None = None) -> FrameProcessor:
        """A fresh processor for one stream; `still`: for photos, each a frame of its own.

        `first_track_id`: where ids go on when a stream outlives a worker: an id never means two people.
        """
        return FrameProcessor(
            self.engine(), self.faces, self.settings, still=still, first_track_id=first_track_id, namer=namer
        )

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
    from streamer.vision.engines.lite import LiteModels
    from streamer.vision.faces import FaceReader

    store = ModelStore(data_folder)
    folder = store.ensure(vision.pack, on_progress)
    weights = {name: store.weight(name) for name in LiteModels.FILES}
    reader = FaceReader(
        folder,
        store.model_id(vision.pack),
        detector_size=(vision.detector_width, vision.detector_height),
        threads=vision.threads,
        device=vision.device,
    )
    return Models(vision, reader, LiteModels.load(weights, vision.threads, vision.device))

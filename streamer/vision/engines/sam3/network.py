"""The loaded model: pictures to features, concepts to instances. Shared by all streams of a worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from streamer.errors import PromptUnsupported
from streamer.vision.engines.sam3.features import Features
from streamer.vision.engines.sam3.loading import resized
from streamer.vision.engines.sam3.options import Sam3Options
from streamer.vision.engines.sam3.postprocess import keep_distinct
from streamer.vision.engines.sam3.tracker import Tracker

Family = Literal["sam3", "sam2", "edgetam"]

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
TEXT_TOKENS = 32
"""Longest concept, with its start and end; the text encoder has positions for no more."""
IGNORED = -10
"""Label of a box prompt that is padding."""
MAX_CONCEPTS = 64
"""Text embeddings kept; the oldest goes."""


@dataclass(frozen=True, slots=True)
class Found:
    """Instances of one concept on one picture."""

    scores: np.ndarray
    """(N,) float32, 0..1, best first."""
    logits: torch.Tensor
    """(N, h, w) mask logits on a grid over the whole picture, on the model's device."""
    masks: np.ndarray
    """(N, h, w) bool: where the logits are above 0."""


class Tokenizer(Protocol):
    """What `CLIPTokenizer` is used for."""

    def __call__(self, text: str, **options: Any) -> Any: ...


class Network:
    """One checkpoint in memory, through transformers. Not thread-safe: one worker, one thread."""

    def __init__(self, model: Any, tokenizer: Tokenizer | None, options: Sam3Options) -> None:
        """`model`: `Sam3VideoModel`, or a `Sam2VideoModel` or `EdgeTamVideoModel`, which know no concepts."""
        self.options = options
        self.dtype = DTYPES[options.dtype]
        self.device = torch.device(options.device)
        self.family: Family = "sam3" if hasattr(model, "detector_model") else _family(model)
        self._tokenizer = tokenizer
        self._text: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.install(model)

    def install(self, model: Any) -> None:
        """Use `model` from now on (the same weights for another input size); older features and trackers are void."""
        self.model = model.eval().requires_grad_(False).to(memory_format=self.memory_format)
        self.compiled = False
        """Whether the networks run compiled. After a step down they do not: compiling takes minutes."""
        self.image_size = int(self.tracker_model.image_size)
        self.mean, self.deviation = _normalisation(self.family, self.device)

    def compile(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Compile the networks that run on every frame, each on its first call with a new kind of shape."""
        for module in self._hot():
            # Symbols from the start where the length changes from frame to frame; elsewhere once a size changes.
            dynamic = True if module is self.tracker_model.memory_attention else None
            module.compile(fullgraph=True, dynamic=dynamic, backend=backend)
        self.compiled = True

    def uncompile(self) -> None:
        """Run the networks as they are again."""
        for module in self._hot():
            module._compiled_call_impl = None
        self.compiled = False

    def _hot(self) -> list[Any]:
        """The modules that run on every frame and that capture whole."""
        tracker = self.tracker_model
        encoder = self.model.detector_model.vision_encoder if self.family == "sam3" else self.model.vision_encoder
        names = ("memory_attention", "memory_encoder", "spatial_perceiver", "mask_decoder")
        return [encoder, *(getattr(tracker, name) for name in names if getattr(tracker, name, None) is not None)]

    def resize(self, image_size: int) -> None:
        """Go on at another input size, with the same weights.

        Raises:
            ConfigError: the size does not fit this checkpoint.
        """
        self.install(resized(self.model, image_size))

    @property
    def resizable(self) -> bool:
        """Whether the same weights work at other input sizes."""
        return self.family == "sam3"

    @property
    def tracker_model(self) -> Any:
        return self.model.tracker_model if self.family == "sam3" else self.model

    def tracker(self, frame: int = -1) -> Tracker:
        """A fresh tracker for one stream, that counts its frames on from `frame`."""
        return Tracker(self.tracker_model, dtype=self.dtype, batch_objects=self.options.batch_objects, frame=frame)

    def pixels(self, bgr: np.ndarray) -> torch.Tensor:
        """(1, 3, S, S) of an (H, W, 3) uint8 BGR picture, in the model's dtype."""
        pixels = pixels_of(bgr, self.image_size, self.device, self.mean, self.deviation)
        return pixels.to(self.dtype).contiguous(memory_format=self.memory_format)

    @property
    def memory_format(self) -> torch.memory_format:
        return torch.channels_last if self.options.channels_last else torch.contiguous_format

    @torch.inference_mode()
    def encode(self, pictures: Sequence[np.ndarray]) -> list[Features]:
        """Features of each (H, W, 3) uint8 BGR picture; all go through the image encoder in one batch."""
        batch = torch.cat([self.pixels(bgr) for bgr in pictures])
        vision = None
        if self.family == "sam3":
            vision = self.model.detector_model.get_vision_features(pixel_values=batch)
            maps, positions = self.model.get_vision_features_for_tracker(vision)
        else:
            seen = self.model.get_image_features(batch, return_dict=True)
            maps, positions = seen.fpn_hidden_states, seen.fpn_position_encoding
        return [
            Features(
                # Of a batch each picture owns its part: one stream must not keep the others' alive.
                [_own(level, row, len(pictures), 1) for level in maps],
                [_own(position, 0, len(pictures), 1) for position in positions],  # the same for every picture
                None if vision is None else _one(vision, row, len(pictures)),
                (int(bgr.shape[0]), int(bgr.shape[1])),
            )
            for row, bgr in enumerate(pictures)
        ]

    @torch.inference_mode()
    def find(self, features: Features, concepts: Sequence[str]) -> dict[str, Found]:
        """Instances of each concept, duplicates removed; all concepts in one batch.

        Raises:
            PromptUnsupported: this checkpoint knows no concepts, or a concept is too long.
        """
        texts = [self._embedding(concept) for concept in concepts]
        count = len(concepts)
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        out = self.model.detector_model(
            vision_embeds=_repeated(features.detector, count),
            text_embeds=BaseModelOutputWithPooling(pooler_output=torch.cat([text for text, _ in texts])),
            attention_mask=torch.cat([mask for _, mask in texts]),
            # The detector was trained with one geometry token, boxes or not; transformers leaves it out unless there
            # is a box. A box that counts for nothing brings it back: without it scores and masks are not Meta's.
            input_boxes=torch.zeros(count, 1, 4, dtype=self.dtype, device=self.device),
            input_boxes_labels=torch.full((count, 1), IGNORED, device=self.device),
        )
        scores = (out.pred_logits.float().sigmoid() * out.presence_logits.float().sigmoid()).cpu().numpy()
        most_overlap = float(self.model.config.det_nms_thresh)
        found = {}
        for row, concept in enumerate(concepts):
            sure = np.flatnonzero(scores[row] > self.options.score_threshold)
            logits = out.pred_masks[row][torch.from_numpy(sure).to(self.device)].float()
            masks = (logits > 0).cpu().numpy()
            kept = keep_distinct(masks, scores[row][sure], most_overlap)
            found[concept] = Found(scores[row][sure][kept], logits[kept], masks[kept])
        return found

    def check_concept(self, concept: str) -> None:
        """Raises `PromptUnsupported` where `find` would, without a picture."""
        self._tokens(concept)

    def _tokens(self, concept: str) -> Any:
        if self.family != "sam3" or self._tokenizer is None:
            raise PromptUnsupported(
                f"a {self.family} checkpoint follows masks and knows no concept such as {concept!r}: "
                "set vision.sam3.checkpoint to facebook/sam3 for object prompts"
            )
        tokens = self._tokenizer(concept, return_tensors="pt", padding="max_length", max_length=TEXT_TOKENS)
        length = int(tokens.input_ids.shape[1])
        if length > TEXT_TOKENS:
            raise PromptUnsupported(
                f"the object prompt {concept!r} is {length - 2} tokens long: SAM 3 reads {TEXT_TOKENS - 2}; use a noun "
                'phrase such as "red shirt"'
            )
        return tokens

    def _embedding(self, concept: str) -> tuple[torch.Tensor, torch.Tensor]:
        if concept not in self._text:
            tokens = self._tokens(concept).to(self.device)
            while len(self._text) >= MAX_CONCEPTS:
                del self._text[next(iter(self._text))]
            text = self.model.detector_model.get_text_features(**tokens, return_dict=True).pooler_output
            self._text[concept] = (text, tokens.attention_mask)
        return self._text[concept]


def pixels_of(
    bgr: np.ndarray, size: int, device: torch.device, mean: torch.Tensor, deviation: torch.Tensor
) -> torch.Tensor:
    """(1, 3, size, size) float32 normalised RGB of an (H, W, 3) uint8 BGR picture; the aspect is not kept, as in
    training."""
    raw = torch.from_numpy(np.ascontiguousarray(bgr))
    if device.type == "cuda":
        # Pageable memory would make the copy wait for everything that the GPU still has to do.
        raw = raw.pin_memory().to(device, non_blocking=True)
    planes = raw.permute(2, 0, 1).flip(0)[None].float()
    resized = F.interpolate(planes, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return (resized / 255 - mean) / deviation


def _family(model: Any) -> Family:
    return "edgetam" if hasattr(model, "spatial_perceiver") else "sam2"


def _normalisation(family: Family, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 3, 1, 1) mean and standard deviation that the family was trained with."""
    mean = (0.5, 0.5, 0.5) if family == "sam3" else (0.485, 0.456, 0.406)
    deviation = (0.5, 0.5, 0.5) if family == "sam3" else (0.229, 0.224, 0.225)
    shape = (1, 3, 1, 1)
    return torch.tensor(mean, device=device).view(shape), torch.tensor(deviation, device=device).view(shape)


def _own(batched: torch.Tensor, row: int, count: int, axis: int) -> torch.Tensor:
    if count == 1:
        return batched
    part = batched.narrow(axis, row, 1)
    # With the strides of a picture that was encoded alone: others would have the compiled networks compiled again.
    return part.clone(memory_format=torch.contiguous_format if part.dim() == 3 else torch.preserve_format)


def _one(vision: Any, row: int, count: int) -> Any:
    """One picture's part of a batched `Sam3VisionEncoderOutput`."""
    if count == 1:
        return vision
    return type(vision)(
        last_hidden_state=_own(vision.last_hidden_state, row, count, 0),
        fpn_hidden_states=tuple(_own(level, row, count, 0) for level in vision.fpn_hidden_states),
        fpn_position_encoding=tuple(_own(level, 0, count, 0) for level in vision.fpn_position_encoding),
    )


def _repeated(vision: Any, count: int) -> Any:
    """The picture's features, once for each concept, without copies."""
    if count == 1:
        return vision
    return type(vision)(
        last_hidden_state=vision.last_hidden_state,
        fpn_hidden_states=tuple(level.expand(count, -1, -1, -1) for level in vision.fpn_hidden_states),
        fpn_position_encoding=tuple(level.expand(count, -1, -1, -1) for level in vision.fpn_position_encoding),
    )

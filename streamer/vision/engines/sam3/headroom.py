"""What is given up when the card's memory is full: input size first, then objects. The stream goes on and says so."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from streamer.errors import VisionUnavailable
from streamer.vision.engines.sam3.meta import MetaNetwork
from streamer.vision.engines.sam3.network import Network
from streamer.vision.engines.sam3.options import IMAGE_SIZES

log = logging.getLogger(__name__)

Result = TypeVar("Result")


class Headroom:
    """Runs work on the device; where memory is short, frees, steps down and tells. One per loaded model."""

    def __init__(self, network: Network | MetaNetwork, sizes: tuple[int, ...] = IMAGE_SIZES) -> None:
        """`sizes`: input sizes to step down through, pixels."""
        self._network = network
        self._sizes = sorted(sizes, reverse=True)
        self.object_limit = network.options.max_objects
        """People and parts that a stream may follow now."""
        self.generation = 0
        """Rises when features and memories of before cannot be used with the model any more."""
        self.given_up: list[str] = []
        """Every step down so far, in words, newest last."""

    def run(self, work: Callable[[], Result]) -> Result:
        """The result of `work`. Raises `OutOfHeadroom` after a step down: the caller starts the frame again.

        Raises:
            OutOfHeadroom: memory was short, something was given up, `work` has to be done anew.
            VisionUnavailable: memory was short and nothing is left to give up.
        """
        try:
            return work()
        except torch.OutOfMemoryError as exc:
            reason = str(exc).partition(".")[0]
        # Outside of the handler: the exception's frames hold the tensors that are in the way.
        self._step_down(reason)
        raise OutOfHeadroom

    def _step_down(self, reason: str) -> None:
        smaller = [size for size in self._sizes if size < self._network.image_size]
        if smaller and self._network.resizable:
            before, compiled = self._network.image_size, self._network.compiled
            self._network.resize(smaller[0])
            self.generation += 1
            said = f"input size {before} -> {smaller[0]}"
            if compiled:
                said += f", without torch.compile until a start with vision.sam3.image_size {smaller[0]}"
        elif self.object_limit > 1:
            before, self.object_limit = self.object_limit, max(self.object_limit // 2, 1)
            said = f"objects followed at once {before} -> {self.object_limit}"
        else:
            raise VisionUnavailable(
                f"the memory of {self._network.device} is full ({reason}) with one object at input size "
                f"{self._network.image_size}: free memory on it, or run fewer streams"
            )
        self.free()
        self.given_up.append(said)
        log.warning("memory of %s is full: gave up %s (%s)", self._network.device, said, reason)

    @staticmethod
    def free() -> None:
        """Give unused memory back to the device."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class OutOfHeadroom(Exception):
    """Something was given up for memory; the interrupted work has to be done anew. Never leaves this package."""

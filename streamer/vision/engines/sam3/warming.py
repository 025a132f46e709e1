"""Compiling the networks, and running every shape that a stream will ask for before one is called ready.

The image encoder, memory attention, the memory encoder and the mask decoder are captured whole (`fullgraph`); the
concept detector does not capture and runs as it is. Lengths of memory and numbers of objects and pictures are symbols
in what is compiled, one and several apart, so that no length brings a new compilation; the warm-up goes through all of
them all the same, with one object and with several, because each may choose other kernels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from streamer.errors import VisionUnavailable
from streamer.vision.engines.sam3.headroom import Headroom, OutOfHeadroom
from streamer.vision.engines.sam3.network import Network

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
Backend = str | Callable[..., Any]
"""A backend of `torch.compile`: its name, or what makes a graph a function."""

PICTURES = (1, 2, 3)
"""Streams whose pictures are encoded together: one, two, and any further number."""
MAX_STEPS_DOWN = 8
RECOMPILE_LIMIT = 64
"""Of one function; beyond it a fullgraph call fails. One and several objects, seeded in two ways, stay far below."""


def prepare(
    network: Network, headroom: Headroom, tell: Tell = lambda line: None, *, backend: Backend = "inductor"
) -> None:
    """Compile `network`, where its options say so, and warm it up; steps down where the device's memory is short.

    Without a working compiler it goes on uncompiled and says so.

    Raises:
        VisionUnavailable: not even the smallest step fits.
    """
    for _ in range(MAX_STEPS_DOWN):
        if network.options.compile:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILE_LIMIT)
            network.compile(backend)
        try:
            _warmed(network, headroom, tell)
            return
        except OutOfHeadroom:
            tell(f"too little memory: {headroom.given_up[-1]}")
    raise VisionUnavailable(f"the memory of {network.device} is full at every step down: free memory on it")


def _warmed(network: Network, headroom: Headroom, tell: Tell) -> None:
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    try:
        headroom.run(lambda: warm_up(network, tell))
        return
    except (TorchDynamoException, InductorError) as exc:
        if not network.compiled:
            raise
        # The first line names who raised, the second says what.
        reason = " ".join(str(exc).split("\n")[:2]).strip() or type(exc).__name__
    network.uncompile()
    log.warning("torch.compile failed (%s): going on without; set vision.sam3.compile to false to start sooner", reason)
    headroom.run(lambda: warm_up(network, tell))


def warm_up(network: Network, tell: Tell = lambda line: None) -> None:
    """Run every shape once, on noise; `tell` hears "warming up 3/20"."""
    lengths = network.tracker_model.config.max_object_pointers_in_encoder
    total = len(PICTURES) + lengths + 1
    for done, _ in enumerate(_steps(network, lengths)):
        tell(f"warming up {done + 1}/{total}")
    Headroom.free()


def _steps(network: Network, lengths: int) -> Iterator[None]:
    random = np.random.default_rng(0)
    side = network.image_size

    def picture() -> np.ndarray:
        return random.integers(0, 255, (side, side, 3), dtype=np.uint8)

    with torch.inference_mode():
        for count in PICTURES:
            network.encode([picture() for _ in range(count)])
            yield
        if network.family == "sam3":
            (features,) = network.encode([picture()])
            network.find(features, ["person"])
            network.find(features, ["person", "shirt"])
        yield
        tracker = network.tracker()
        half = torch.zeros(side, side, device=network.device)
        half[side // 4 : side // 2, side // 4 : side // 2] = 1
        box = (side / 4, side / 4, side / 2, side / 2)
        for step in range(lengths):
            (features,) = network.encode([picture()])
            tracker.begin(features)
            if step == 0:
                tracker.seed("alone", mask=half)
                tracker.seed("first", mask=half)
                tracker.seed("second", box=box)
            tracker.track(["alone"])
            tracker.track(["first", "second"])
            if step >= lengths - 3:
                for key in tracker.objects():  # four conditioning frames: the longest memory there is
                    tracker.promote(key)
            yield
        tracker.close()

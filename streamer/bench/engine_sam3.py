"""The SAM family for `streamer bench engine`: a checkpoint, or the same architecture with random weights. torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from streamer.bench.engine import Stopwatch, Subject, process_bytes
from streamer.bench.engine_subjects import best_gflops
from streamer.errors import ConfigError
from streamer.vision.engines.sam3.engine import Sam3Engine
from streamer.vision.engines.sam3.headroom import Headroom
from streamer.vision.engines.sam3.loading import check_device, in_dtype, load_network
from streamer.vision.engines.sam3.network import DTYPES, TEXT_TOKENS, Network
from streamer.vision.engines.sam3.options import Sam3Options
from streamer.vision.engines.sam3.tracker import Tracked, Tracker
from streamer.vision.engines.sam3.warming import prepare

PEAK_SIDES = {"cpu": 1024, "cuda": 8192}


class _Timed(Tracker):
    """Times the parts of tracking, and can make memories long."""

    watch: Stopwatch

    def _attend(self, *args: Any) -> torch.Tensor:
        result: torch.Tensor = self.watch.time("attend", lambda: super(_Timed, self)._attend(*args))
        return result

    def _decode(self, *args: Any) -> dict[str, torch.Tensor]:
        result: dict[str, torch.Tensor] = self.watch.time("decode", lambda: super(_Timed, self)._decode(*args))
        return result

    def _remember(self, *args: Any, **kwargs: Any) -> Tracked:
        result: Tracked = self.watch.time("remember", lambda: super(_Timed, self)._remember(*args, **kwargs))
        return result

    def fill(self) -> None:
        """As if every object had been tracked for ever: its newest memory on each frame that is read."""
        config = self._model.config
        for outputs in self.memory.output_dict_per_obj.values():
            tracked = outputs["non_cond_frame_outputs"]
            newest = dict(tracked[max(tracked)])
            for back in range(config.max_object_pointers_in_encoder - 1):
                copy = {name: tensor.clone() for name, tensor in newest.items()}
                if back >= config.num_maskmem - 1:
                    copy.pop("maskmem_features")
                    copy.pop("maskmem_pos_enc")
                tracked[self.frame - back] = copy


class _AnyTokens:
    """Stands in for a tokenizer where weights are random: every concept is the same tokens."""

    def __call__(self, text: str, **options: Any) -> Any:
        from transformers import BatchEncoding

        ids = torch.zeros(1, TEXT_TOKENS, dtype=torch.long)
        return BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def random_network(family: str, options: Sam3Options) -> Network:
    """The architecture of `sam3`, `sam2` (transformers' default: Hiera tiny) or `edgetam` at full size, with random
    weights."""
    import transformers

    names = {"sam3": "Sam3Video", "sam2": "Sam2Video", "edgetam": "EdgeTamVideo"}
    if family not in names:
        raise ConfigError(f"--random-weights knows {', '.join(names)}, not {family!r}")
    torch.manual_seed(0)
    config = getattr(transformers, f"{names[family]}Config")()
    model = getattr(transformers, f"{names[family]}Model")(config)
    return network_of(model, family, options)


def network_of(model: Any, family: str, options: Sam3Options) -> Network:
    """A model with random weights as a network. Its objects count as there, so that the work of a real one is done."""
    tracker = model.tracker_model if family == "sam3" else model
    with torch.no_grad():
        tracker.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4.0)
    model = in_dtype(model.eval(), DTYPES[options.dtype]).to(options.device)
    network = Network(model, _AnyTokens() if family == "sam3" else None, options)
    if options.image_size is not None and options.image_size != network.image_size:
        if not network.resizable:
            raise ConfigError(f"{family} works at {network.image_size} pixels only: leave --size out")
        network.resize(options.image_size)
    return network


def subject(
    options: Sam3Options,
    *,
    folder: Path | None,
    tell: Callable[[str], None],
    network: Network | None = None,
) -> Subject:
    """`folder`: of a checkpoint; None: random weights of the family that `options.checkpoint` names.

    Raises:
        VisionUnavailable: the device is not there. ConfigError, ModelMissing: see `load_network`.
    """
    check_device(options.device)
    tell("loading" if folder is not None else "making random weights")
    if network is None:
        loaded = random_network(options.checkpoint, options) if folder is None else load_network(folder, options)
        if not isinstance(loaded, Network):
            raise ConfigError("bench engine measures backend transformers")
        network = loaded
    watch = Stopwatch(torch.cuda.synchronize if options.device == "cuda" else lambda: None)
    trackers: list[_Timed] = []
    chosen = network

    def tracker(frame: int = -1) -> Tracker:
        made = _Timed(chosen.tracker_model, dtype=chosen.dtype, batch_objects=options.batch_objects, frame=frame + 16)
        made.watch = watch
        trackers.append(made)
        return made

    headroom = Headroom(network)
    network.tracker = tracker  # type: ignore[method-assign]
    engine = Sam3Engine(network, headroom)

    def fill() -> None:
        with torch.inference_mode():
            trackers[-1].fill()

    def count(work: Callable[[], object]) -> float:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            watch.meter = lambda: float(counter.get_total_flops()) / 1e9
            try:
                work()
                return watch.meter()
            finally:
                watch.meter = None

    def compile_and_warm() -> None:
        if options.compile:
            prepare(chosen, headroom, tell)

    parameters = sum(parameter.numel() for parameter in network.model.parameters())
    return Subject(
        engine=engine,
        watch=watch,
        peak=lambda: peak_torch(options),
        memory=_allocated if options.device == "cuda" else process_bytes,
        count=count,
        facts={
            "engine": network.family,
            "weights": "random" if folder is None else str(options.checkpoint),
            "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
            "dtype": options.dtype,
            "image_size": network.image_size,
            "parameters_million": parameters / 1e6,
            "compile": options.compile,
            "threads": torch.get_num_threads(),
        },
        fill=fill,
        prepare=compile_and_warm,
    )


def _allocated() -> int:
    return int(torch.cuda.memory_allocated())


def peak_torch(options: Sam3Options) -> float:
    """GFLOP/s of a large product in the dtype of `options` on its device."""
    side = PEAK_SIDES[options.device]
    a = torch.randn(side, side, device=options.device).to(DTYPES[options.dtype])
    sync = torch.cuda.synchronize if options.device == "cuda" else (lambda: None)
    with torch.inference_mode():
        return best_gflops(lambda: a @ a, side, sync)

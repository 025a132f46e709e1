"""A checkpoint into memory: family, size, dtype, device. The only file that builds models."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from streamer.errors import ConfigError, ModelMissing, VisionUnavailable
from streamer.vision.checkpoints import META_WEIGHTS

if TYPE_CHECKING:
    from streamer.vision.engines.sam3.meta import MetaNetwork
    from streamer.vision.engines.sam3.network import Network
    from streamer.vision.engines.sam3.options import Dtype, Sam3Options

CLASSES = {
    "sam3_video": "Sam3VideoModel",
    "sam3": "Sam3VideoModel",
    "sam2_video": "Sam2VideoModel",
    "sam2": "Sam2VideoModel",
    "edgetam_video": "EdgeTamVideoModel",
    "edgetam": "EdgeTamVideoModel",
}
"""transformers' classes by the `model_type` of a checkpoint; image and video models share their weights."""


def check_device(device: Literal["cpu", "cuda"]) -> None:
    """Raises `VisionUnavailable` where a GPU is asked for and torch has none. Never a silent CPU."""
    if device == "cpu" or torch.cuda.is_available():
        return
    built = "without CUDA" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
    raise VisionUnavailable(
        f"vision.device is cuda, but torch {torch.__version__} (built {built}) finds no GPU: check nvidia-smi and the "
        "driver, install a torch that fits it, or set vision.device to cpu"
    )


def best_dtype(device: Literal["cpu", "cuda"]) -> Dtype:
    """What `dtype: auto` means: bfloat16 on a GPU that has it, float16 on an older one, float32 on the CPU."""
    if device == "cpu":
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def load_network(folder: Path, options: Sam3Options) -> Network | MetaNetwork:
    """The checkpoint of a folder, ready on `options.device`.

    Raises:
        VisionUnavailable: the device is not there.
        ConfigError: the checkpoint is of no family that is known here, or not made for the backend or the input size.
        ModelMissing: files are absent or damaged.
    """
    check_device(options.device)
    if options.backend == "meta":
        if options.device != "cuda":
            raise ConfigError(
                "backend meta needs vision.device cuda: the package asks for CUDA itself; use backend transformers"
            )
        return load_meta(folder, options)
    from streamer.vision.engines.sam3.network import DTYPES, Network

    model, family = _pretrained(folder)
    model = in_dtype(model, DTYPES[options.dtype]).to(options.device)
    tokenizer = None
    if family.startswith("sam3"):
        from transformers import CLIPTokenizer

        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as exc:
            raise ModelMissing(f"the tokenizer in {folder} cannot be read ({_first_line(exc)}): pull it again") from exc
    network = Network(model, tokenizer, options)
    if options.image_size is not None and options.image_size != network.image_size:
        if not network.resizable:
            raise ConfigError(
                f"a {network.family} checkpoint works at {network.image_size} pixels only: set vision.sam3.image_size "
                "to null"
            )
        network.resize(options.image_size)
    return network


def in_dtype(model: Any, dtype: torch.dtype) -> Any:
    """`model` with its weights in `dtype`; tables that were computed (rotary positions) stay in float32."""
    kept = set(model.state_dict())
    tables = {name: buffer for name, buffer in model.named_buffers() if name not in kept}
    model = model.to(dtype)
    for name, table in tables.items():
        _set_buffer(model, name, table)
    return model


def _pretrained(folder: Path) -> tuple[Any, str]:
    """A whole model in float32 on the CPU, and its `model_type`."""
    import transformers
    from safetensors import SafetensorError

    try:
        family = str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type"))
    except (OSError, ValueError, AttributeError) as exc:
        raise ModelMissing(f"{folder / 'config.json'} cannot be read ({_first_line(exc)}): pull it again") from exc
    if family not in CLASSES:
        raise ConfigError(f"the checkpoint in {folder} is a {family!r}: engine sam3 knows {', '.join(sorted(CLASSES))}")
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call,unused-ignore]
    try:
        model, told = getattr(transformers, CLASSES[family]).from_pretrained(
            folder, local_files_only=True, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, SafetensorError, RuntimeError, ValueError) as exc:
        raise ModelMissing(f"the weights in {folder} cannot be read ({_first_line(exc)}): pull them again") from exc
    absent = sorted(told["missing_keys"])
    if absent:  # transformers fills them with noise and goes on
        raise ModelMissing(f"the weights in {folder} are not whole: {len(absent)} are missing, such as {absent[0]}")
    return model, family


def load_meta(folder: Path, options: Sam3Options) -> MetaNetwork:
    """Meta's own detector and tracker with its memory selection, as its own video model has them.

    Raises:
        ConfigError, VisionUnavailable, ModelMissing: as `load_network`.
    """
    if options.image_size not in (None, 1008):
        raise ConfigError(f"backend meta works at 1008 pixels only, not at {options.image_size}")
    try:
        from sam3.model_builder import build_sam3_video_model
    except ImportError as exc:
        raise VisionUnavailable(f"backend meta needs Meta's package ({exc}): pip install -e '.[sam3]'") from exc
    from streamer.vision.engines.sam3.meta import MetaNetwork

    weights = folder / META_WEIGHTS
    try:
        with bpe_vocabulary(folder) as vocabulary:
            model = build_sam3_video_model(
                checkpoint_path=str(weights), load_from_HF=False, bpe_path=str(vocabulary), device=options.device
            )
    except (OSError, RuntimeError, pickle.UnpicklingError) as exc:
        if isinstance(exc, torch.OutOfMemoryError):
            raise VisionUnavailable(f"the memory of {options.device} is full while {weights} is loaded") from exc
        raise ModelMissing(f"{weights} cannot be read ({_first_line(exc)}): pull it again") from exc
    model.requires_grad_(False)
    return MetaNetwork(model.detector, model.tracker, options)


@contextmanager
def bpe_vocabulary(folder: Path) -> Iterator[Path]:
    """Byte-pair merges as Meta's tokenizer reads them (gzip), made of the checkpoint's own: the package ships none.

    Raises:
        ModelMissing: the folder holds none.
    """
    merges, tokenizer = folder / "merges.txt", folder / "tokenizer.json"
    try:
        if merges.is_file():
            lines = merges.read_text(encoding="utf-8").rstrip("\n").split("\n")
        else:
            pairs = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["merges"]
            lines = ["#version: 0.2", *(pair if isinstance(pair, str) else " ".join(pair) for pair in pairs)]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelMissing(f"no vocabulary in {folder} (merges.txt, tokenizer.json): pull it again") from exc
    with tempfile.TemporaryDirectory(prefix="bpe-") as temporary:
        path = Path(temporary) / "bpe.txt.gz"
        path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
        yield path


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:200]


def resized(model: Any, image_size: int) -> Any:
    """The same weights (not copied) as a SAM 3 model for another input size: only what depends on the size is new.

    Raises:
        ConfigError: the size does not fit the network's windows.
    """
    from transformers.initialization import no_init_weights

    check_size(model.config, image_size)
    parameter = next(model.parameters())
    config = copy.deepcopy(model.config)
    config.image_size = image_size
    config.low_res_mask_size = 4 * image_size // _vit(config).patch_size
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)  # the rotary tables are made in it
    try:
        with no_init_weights():
            made = type(model)(config)
    finally:
        torch.set_default_dtype(before)
    made.load_state_dict(model.state_dict(), assign=True)
    for name, buffer in made.named_buffers():
        _set_buffer(made, name, buffer.to(parameter.device))
    return made.eval().requires_grad_(False)


def check_size(config: Any, image_size: int) -> None:
    """Raises `ConfigError` where a SAM 3 network cannot take this input size."""
    vit = _vit(config)
    step = int(vit.patch_size) * int(vit.window_size)
    if image_size < step or image_size % step:
        raise ConfigError(f"image size {image_size} does not fit this checkpoint: use a multiple of {step}")


def _vit(config: Any) -> Any:
    return config.detector_config.vision_config.backbone_config


def _set_buffer(model: Any, name: str, value: torch.Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    model.get_submodule(path)._buffers[leaf] = value

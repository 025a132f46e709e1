"""A checkpoint into memory: family, size, dtype, device. The only file that builds models."""

from __future__ import annotations

import copy
from typing import Any

import torch

from streamer.errors import ConfigError


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

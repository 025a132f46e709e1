"""Object prompts: what a user may type as "object", taken apart, and the answers put together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from streamer.errors import PromptUnsupported
from streamer.vision.engines.base import Region

MAX_LENGTH = 120
"""Characters of a whole prompt."""
MAX_PHRASES = 8
_SEPARATORS = re.compile(r"\s*(?:[,;+&/\n]|\band\b)\s*", re.IGNORECASE)
_ARTICLES = re.compile(r"^(?:the|a|an|his|her|their|its|my)\s+", re.IGNORECASE)


def phrases(prompt: str) -> tuple[str, ...]:
    """The phrases of an object prompt: "her shirt, Hair and shoes" is ("shirt", "hair", "shoes"); each once, in order.

    Raises:
        PromptUnsupported: it names nothing, is too long, or has too many phrases.
    """
    if len(prompt) > MAX_LENGTH:
        raise PromptUnsupported(f"the object prompt is {len(prompt)} characters long: the limit is {MAX_LENGTH}")
    found: dict[str, None] = {}
    for part in _SEPARATORS.split(prompt):
        phrase = _ARTICLES.sub("", " ".join(part.split()).lower())
        if phrase:
            found[phrase] = None
    if not found:
        raise PromptUnsupported(
            f'the object prompt {prompt!r} names nothing: name a part, such as "shirt" or "hair", or leave it out: '
            "then it is the whole person"
        )
    if len(found) > MAX_PHRASES:
        raise PromptUnsupported(f"the object prompt has {len(found)} phrases: the limit is {MAX_PHRASES}")
    return tuple(found)


def union(regions: Sequence[Region]) -> Region | None:
    """Regions on one grid, joined; None for none."""
    if not regions:
        return None
    logits = np.maximum.reduce([region.logits for region in regions])
    return replace(regions[0], logits=logits)

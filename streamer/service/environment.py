"""The environment's share of the settings: which variables there are, which one was meant, and what came from which.

pydantic passes over a variable that it does not know, and a misspelt STREAMER_TOKEN would leave a service open.
"""

from __future__ import annotations

import difflib
import json
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from streamer.errors import ConfigError

PREFIX = "STREAMER_"
OTHERS = ("STREAMER_API", "STREAMER_ICE_SERVERS", "STREAMER_SCREENSHOTS")
"""What the dashboard and its tests read: no settings of the service."""

_LINK = re.compile(r"STREAMER_(PORT|NAME|PORT_\d+.*|SERVICE_(HOST|PORT.*)|ENV_.*)")
"""What Docker and Kubernetes set for a container or a service that is called "streamer"."""


def check(settings: type[BaseModel], environment: Mapping[str, str]) -> None:
    """Look at every variable that begins with STREAMER_, in any case. No value is shown: it may be a secret.

    Raises:
        ConfigError: it is no setting and nothing else of this program, or it should hold JSON and does not.
    """
    known = variables(settings)
    for name in sorted(environment):
        upper = name.upper()
        if not upper.startswith(PREFIX) or name in OTHERS:
            continue
        if upper not in known:
            raise ConfigError(f"environment variable {name}: there is no such setting{_meant(upper, known)}")
        if _wants_json(known[upper]) and not _is_json(environment[name]):
            example = _example(known[upper])
            raise ConfigError(f"environment variable {name}: its value is not JSON; write it like this: '{example}'")


def variables(settings: type[BaseModel], prefix: str = PREFIX) -> dict[str, Any]:
    """Every variable that is a setting or a section, in capitals, with the type of what it holds."""
    found: dict[str, Any] = {}
    for key, field in settings.model_fields.items():
        name = prefix + key.upper()
        found[name] = field.annotation
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= variables(field.annotation, f"{name}__")
    return found


def origin(location: Sequence[str | int], environment: Mapping[str, str]) -> str | None:
    """The variable that the value at `location` ("video", "bit_rate") came from; None: not from the environment."""
    named = {name.upper(): name for name in environment}
    for length in range(len(location), 0, -1):
        name = named.get(PREFIX + "__".join(str(part) for part in location[:length]).upper())
        if name is not None and (length == len(location) or _holds(environment[name], location[length:])):
            return name
    return None


def _holds(text: str, location: Sequence[str | int]) -> bool:
    """Whether the JSON has something there. What lies deeper than its containers are (of a union, say) counts."""
    value = json.loads(text)
    for part in location:
        if isinstance(value, dict) and isinstance(part, str):
            if part not in value:
                return False
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
    return True


def _wants_json(annotation: Any) -> bool:
    section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return section or typing.get_origin(annotation) is list


def _example(annotation: Any) -> str:
    if typing.get_origin(annotation) is not list:
        return '{"KEY": VALUE}'
    (entry,) = typing.get_args(annotation)
    return f"[{_example(entry)}, …]" if _wants_json(entry) else '["…", "…"]'


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _meant(name: str, known: Mapping[str, Any]) -> str:
    """What to do about a variable in capitals that is not known: the rest of a sentence."""
    # Underlines are what is most often wrong: they are compared last of all.
    spelt = {re.sub("_+", "_", other.removeprefix(PREFIX)): other for other in (*OTHERS, *known)}
    near = difflib.get_close_matches(re.sub("_+", "_", name.removeprefix(PREFIX)).strip("_"), spelt, n=1)
    guess = f" (did you mean {spelt[near[0]]}?)" if near else "; see configs/default.yaml for every key"
    if _LINK.fullmatch(name):
        return (
            f"{guess}; if Docker or Kubernetes set it for something called 'streamer', unset it, "
            "call that otherwise, or set enableServiceLinks: false"
        )
    return f"{guess}; correct or unset it"

"""What a finished output was made of, so that `--resume` leaves it only where it is what is asked for.

The sidecar's first line says it, for it holds names anyhow; the video, which goes to other people, holds nothing but a
digest of that. So the two go wherever they are moved, there is no third file, and a video that another command put in
the place of the first is told from it.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import av

from streamer.errors import SourceUnusable
from streamer.offline import lines
from streamer.offline.resume import Names
from streamer.tracks import PRIVATE_STYLES

if TYPE_CHECKING:
    from streamer.offline.video import VideoOrder

_SAMPLE_BYTES = 1 << 20
"""Of a clip's beginning and of its end: enough to tell two files of one length apart."""
_SAYS = "made of "
_TAG = "comment"


def options(order: VideoOrder, engine: str) -> dict[str, Any]:
    """What was asked for, as JSON has it."""
    return {
        "members": list(order.cast.members),
        "object": order.cast.object,
        "style": order.look.style,
        "fancam": order.look.fancam,
        "transparent": order.look.transparent,
        "every": order.every,
        "from": order.from_seconds,
        "to": order.to_seconds,
        "engine": engine,
    }


def of(order: VideoOrder, engine: str) -> dict[str, Any]:
    """The record of an output: the clip, by what is in it and not by where it lies, and the options.

    Raises:
        SourceUnusable: the clip cannot be read.
    """
    try:
        with order.clip.open("rb") as file:
            head = file.read(_SAMPLE_BYTES)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _SAMPLE_BYTES))
            content = hashlib.sha256(head + file.read()).hexdigest()[:32]
    except OSError as exc:
        raise SourceUnusable(f"cannot read {order.clip}: {exc.strerror or exc}; check the path") from exc
    name = order.clip.name.encode("utf-8", "replace").decode()  # a name that is not UTF-8 is still a file's
    return {"clip": name, "bytes": size, "content": content, **options(order, engine)}


def seeks_everybody(record: Any) -> bool:
    """Of a record, or what stands in its place: all people were looked for, whether they have a face or not."""
    return isinstance(record, dict) and record.get("style") in PRIVATE_STYLES


def followed(record: Any) -> str | None:
    """Of the same: the only member whose masks were sought on every picture; None: everybody's were."""
    if not isinstance(record, dict) or seeks_everybody(record):
        return None
    members = record.get("members")
    return str(members[0]) if isinstance(members, list) and len(members) == 1 else None


def comment(record: dict[str, Any]) -> str:
    """What the video says of it."""
    return _SAYS + hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]


def find(names: Names) -> dict[str, Any] | None:
    """The record of a finished output; None: it has none, or the video is not the one that the sidecar is of.

    Raises:
        SourceUnusable: the sidecar cannot be read.
    """
    assert names.sidecar is not None
    with lines.Sidecar(names.sidecar) as sidecar:
        record = next(iter(sidecar), {}).get(lines.MADE_OF)
    if not isinstance(record, dict):
        return None
    try:
        with av.open(str(names.video)) as container:
            tags = {key.lower(): value for key, value in container.metadata.items()}
    except (av.error.FFmpegError, OSError):
        return None
    return record if tags.get(_TAG) == comment(record) else None


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs, in words; empty: nothing that matters."""
    told = []
    if (before.get("bytes"), before.get("content")) != (now["bytes"], now["content"]):
        told.append(f"it was made of another file, {before.get('clip')}")
    aside = ("clip", "bytes", "content")
    told += [
        f"{key} was {before.get(key)!r} and is {now[key]!r} now"
        for key in now
        if key not in aside and before.get(key) != now[key]
    ]
    return ", ".join(told)

"""From what was asked for to the command line that does it: the same `streamer` that a person would type."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamer.jobs.job import Job

STARTER = (sys.executable, "-P", "-m", "streamer.jobs.background")
"""What is started: priority, module and arguments follow. -P: the folder of the service's start lends it no modules."""

SIDECAR = "results.jsonl"


@dataclass(frozen=True, slots=True)
class Paths:
    """Files of one job, absolute."""

    source: Path
    """The photo, the folder of photos, or the clip."""
    sidecar: Path | None
    """Of the clip, for a render."""
    work: Path
    """Where the results go."""


def arguments(job: Job, paths: Paths, data_dir: Path, config: Path, engine: str) -> list[str]:
    """Everything behind the program's name.

    Values are tied to their options ("--member=NAME"): a name that looks like an option stays a name.
    """
    options = [f"--data-dir={data_dir}", f"--config={config}", f"--engine={engine}"]
    spec = job.spec
    if job.kind == "image":
        own = [str(paths.source), *_given(spec, "member", "object", "prompt", "box"), f"--out={paths.work}"]
        # Each was sent as a photo: one that is none is refused by name, where a folder's other files are passed over.
        own += ["--all-files"] if len(job.inputs) > 1 else []
    elif job.kind == "video":
        own = [str(paths.source), *_given(spec, "member", "object", "every", "from", "to", "style", "fancam")]
        own += [f"--out={paths.work / video_name(spec)}", f"--sidecar={paths.work / SIDECAR}"]
        own += ["--transparent"] if spec.get("transparent") else []
        own += ["--resume"] if job.resume else []
    else:
        own = [str(paths.source), str(paths.sidecar), *_given(spec, "member", "style", "fancam")]
        own += ["--transparent"] if spec.get("transparent") else []
        own += [f"--out={paths.work / video_name(spec)}"]
    return [*options, job.kind, *own, "--progress-json"]


def video_name(spec: dict[str, Any]) -> str:
    """The name of a job's video; one with an alpha channel is WebM, which browsers play."""
    return "video.webm" if spec.get("transparent") else "video.mp4"


def _given(spec: dict[str, Any], *keys: str) -> list[str]:
    found = []
    for key in keys:
        value = spec.get(key)
        if key == "member":
            found += [f"--member={name}" for name in value or []]
        elif value is not None:
            found.append(f"--{key}={_text(value)}")
    return found


def _text(value: Any) -> str:
    return (
        ",".join(_text(part) for part in value)
        if isinstance(value, Sequence) and not isinstance(value, str)
        else (f"{value:g}" if isinstance(value, float) else str(value))
    )

"""From what a client asked for to a source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamer.errors import SourceUnusable
from streamer.ingest.demo import DemoSource
from streamer.ingest.files import FileSource
from streamer.ingest.rtsp import RtspSource
from streamer.ingest.source import Source
from streamer.ingest.whip import WhipSource
from streamer.service.settings import Settings


def make_source(wanted: Mapping[str, Any], settings: Settings) -> Source:
    """The source that `{"kind": "rtsp" | "file" | "demo" | "whip", …}` describes; not started.

    Blocks while a file is probed. Raises `SourceUnusable` where it cannot give video as described.
    """
    max_size = (settings.video.max_width, settings.video.max_height)
    match wanted.get("kind"):
        case "demo":
            return DemoSource(max_size=max_size)
        case "whip":
            return WhipSource(settings)
        case "rtsp":
            url = wanted.get("url")
            if not url:
                raise SourceUnusable("an rtsp source needs a url, such as rtsp://user:password@camera/stream")
            return RtspSource(str(url), max_size, transport=wanted.get("transport") or "tcp")
        case "file":
            path = wanted.get("path")
            if not path:
                raise SourceUnusable("a file source needs the path of a video on the service's machine")
            source = FileSource(Path(str(path)), bool(wanted.get("loop")), max_size)
            source.check()
            return source
        case kind:
            raise SourceUnusable(f"there is no source of kind {kind!r}; use rtsp, file, demo or whip")

"""The components with media in them: the browser exchanges it with the service itself, never through Streamlit.

All are mounted with a fixed key: without one, Streamlit would mount them anew, and reconnect, when their data change.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import streamlit as st

from ui.client import Json, Service

_HERE = Path(__file__).parent


def play(service: Service, stream_id: str | None, empty: str) -> None:
    """The player of a stream; without one, a panel that says `empty`."""
    data = {"url": None, "empty": empty} if stream_id is None else {**_link(service, stream_id, "whep"), "empty": empty}
    _component("player")(key="player", data=data)


def publish(service: Service, stream_id: str, *, autostart: bool) -> None:
    """Sends the browser's camera into a `whip` stream; with `autostart` it asks for the camera at once."""
    _component("publisher")(key="publisher", data={**_link(service, stream_id, "whip"), "autostart": autostart})


def show_recording(service: Service, recording_id: str, timeline: Json | None) -> None:
    """A recording's video with who is in it when, and buttons to download it and its results."""
    url = f"/api/recordings/{quote(recording_id, safe='')}"
    downloads = [("Download video", url, f"{recording_id}.mp4")]
    if timeline is not None:
        downloads.append(("Download results", f"{url}/sidecar", f"{recording_id}.jsonl"))
    show_film(service, url, downloads, timeline)


def show_film(
    service: Service,
    url: str,
    downloads: Sequence[tuple[str, str, str]] = (),
    timeline: Json | None = None,
    before: tuple[str, float] | None = None,
    *,
    alpha: bool = False,
) -> None:
    """A video of the service.

    Args:
        url: its path at the service.
        downloads: label, path and file name of each button.
        timeline: who is in it when, as the API says; a click on the chart jumps there.
        before: path of the video that it was made from, and the seconds in it at which this one begins.
        alpha: it has an alpha channel, which is shown on a pattern.
    """
    data = {
        "url": service.base + url,
        "token": service.token,
        "timeline": timeline,
        "downloads": [{"label": label, "url": service.base + path, "name": name} for label, path, name in downloads],
        "before": None if before is None else {"url": service.base + before[0], "offset": before[1]},
        "alpha": alpha,
    }
    _component("recording")(key="recording-player", data=data)


def show_pictures(service: Service, pictures: Sequence[tuple[str, str, str]], key: str) -> None:
    """Pictures beside each other. Title, path at the service and file name of each; "cutout" has an alpha channel."""
    shown = [
        {"title": title, "url": service.base + path, "name": name, "alpha": "cutout" in name}
        for title, path, name in pictures
    ]
    _component("pictures")(key=key, data={"pictures": shown, "token": service.token})


def offer_file(service: Service, label: str, url: str, key: str) -> None:
    """A button that downloads a file, however large, that the service sends as an attachment. `url`: its path there."""
    data = {"label": label, "url": service.base + url, "token": service.token}
    _component("download")(key=key, data=data)


def submit(
    service: Service,
    key: str,
    fields: Mapping[str, Sequence[str]],
    limits: Json,
    *,
    label: str,
    invitation: str,
    explanation: str,
    accept: str,
    each: int | None = None,
    multiple: bool = False,
    drawable: bool = False,
    missing: str | None = None,
) -> str | None:
    """Lets the browser send files to the service as a new job; the job's id in the run after it was made.

    Args:
        fields: the job's other fields.
        limits: of the service: files, and bytes of all together. What is more is refused before it is sent.
        each: bytes that one file may have, where that is less.
        label: of the button.
        invitation, explanation: what the drop zone says while no file is chosen.
        accept: as of an HTML file input.
        drawable: a box may be drawn on a single photo.
        missing: why it cannot be sent yet.
    """
    data = {
        "url": f"{service.base}/api/jobs",
        "token": service.token,
        "fields": {name: list(values) for name, values in fields.items()},
        "label": label,
        "invitation": invitation,
        "explanation": explanation,
        "accept": accept,
        "multiple": multiple,
        "drawable": drawable,
        "missing": missing,
        "maxFileBytes": each or limits["job_bytes"],
        "maxBytes": limits["job_bytes"],
        "maxFiles": limits["job_files"],
    }
    made = _component("submit")(key=key, data=data, on_job_change=_nothing)
    job = getattr(made, "job", None)
    return str(job) if job else None


def _nothing() -> None:
    """A trigger needs a callback to be known."""


def ice_servers() -> list[dict[str, Any]]:
    """STUN and TURN servers of the browser, from STREAMER_ICE_SERVERS (a JSON list of RTCIceServer); none if unset."""
    try:
        servers = json.loads(os.environ.get("STREAMER_ICE_SERVERS") or "[]")
    except ValueError:
        return []
    return [server for server in servers if isinstance(server, dict)] if isinstance(servers, list) else []


def _link(service: Service, stream_id: str, protocol: str) -> dict[str, Any]:
    return {
        "url": f"{service.base}/api/streams/{stream_id}/{protocol}",
        "token": service.token,
        "iceServers": ice_servers(),
    }


@cache
def _component(name: str) -> Any:
    # Once in a process: a second definition of the same name would be a warning at every rerun.
    text = {kind: (_HERE / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    session = (_HERE / "session.js").read_text(encoding="utf-8")
    return st.components.v2.component(
        f"streamer_{name}", html=text["html"], css=text["css"], js=session + "\n" + text["js"]
    )

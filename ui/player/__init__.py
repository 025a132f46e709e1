"""The components with media in them: the browser exchanges it with the service itself, never through Streamlit.

All are mounted with a fixed key: without one, Streamlit would mount them anew, and reconnect, when their data change.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import streamlit as st

from ui.client import Service

_HERE = Path(__file__).parent


def play(service: Service, stream_id: str | None, empty: str) -> None:
    """The player of a stream; without one, a panel that says `empty`."""
    data = {"url": None, "empty": empty} if stream_id is None else {**_link(service, stream_id, "whep"), "empty": empty}
    _component("player")(key="player", data=data)


def publish(service: Service, stream_id: str, *, autostart: bool) -> None:
    """Sends the browser's camera into a `whip` stream; with `autostart` it asks for the camera at once."""
    _component("publisher")(key="publisher", data={**_link(service, stream_id, "whip"), "autostart": autostart})


def show_recording(service: Service, recording_id: str) -> None:
    """A recording's video with buttons to download it and its results."""
    url = f"{service.base}/api/recordings/{quote(recording_id, safe='')}"
    _component("recording")(key="recording-player", data={"url": url, "name": recording_id, "token": service.token})


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

"""Recordings on the service's disk: play, download, delete."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import streamlit as st

from ui import readouts
from ui.client import Service, ServiceError
from ui.connection import offline, remember, service, show_trouble
from ui.player import show_recording

Json = dict[str, Any]


def main() -> None:
    api = service()
    try:
        recordings = sorted(api.recordings(), key=when, reverse=True)
    except ServiceError as error:
        offline(error)
    st.subheader("Recordings")
    show_trouble()
    if not recordings:
        st.info("Nothing is recorded yet. Press Record on the live page.", icon=":material/videocam:")
        return
    ids = [str(recording["id"]) for recording in recordings]
    if st.session_state.get("recording") not in ids:
        st.session_state["recording"] = ids[0]
    by_id = dict(zip(ids, recordings, strict=True))
    left, right = st.columns([7, 4], gap="medium")
    with right:
        chosen = st.radio(
            "Recordings",
            ids,
            key="recording",
            captions=[_caption(recording) for recording in recordings],
            label_visibility="collapsed",
        )
    with left:
        show_recording(api, chosen)
        if st.button("Delete", icon=":material/delete:", key="delete"):
            _confirm(api, chosen, by_id[chosen])


def when(recording: Json) -> str:
    """UTC start of a recording, from its id: `<stream>_<member>_20261122T101500Z`, with a part's number behind it."""
    return next((part for part in str(recording["id"]).split("_") if _start(part)), "")


def _start(part: str) -> datetime | None:
    try:
        return datetime.strptime(part[:16], "%Y%m%dT%H%M%SZ")
    except ValueError:
        return None


def _caption(recording: Json) -> str:
    start = _start(when(recording))
    facts = [f"{start:%d %B %Y, %H:%M:%S} UTC"] if start else []
    if recording.get("bytes") is not None:
        facts.append(readouts.file_size(recording["bytes"]))
    return " · ".join(facts)


@st.dialog("Delete recording")
def _confirm(api: Service, recording_id: str, recording: Json) -> None:
    st.write(f"Delete {_caption(recording) or 'this recording'} with its results? This cannot be undone.")
    st.code(recording_id, language=None)
    with st.container(horizontal=True):
        if st.button("Delete for good", type="primary", key="delete-sure", on_click=_delete, args=(api, recording_id)):
            st.rerun()
        if st.button("Keep", key="delete-not"):
            st.rerun()


def _delete(api: Service, recording_id: str) -> None:
    try:
        api.remove_recording(recording_id)
    except ServiceError as error:
        remember(error)


main()

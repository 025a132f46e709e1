"""Recordings on the service's disk: play, see who was on screen when, draw anew, download, delete."""

from __future__ import annotations

from urllib.parse import quote

import streamlit as st

from ui import jobs, readouts
from ui.client import Json, Service, ServiceError
from ui.connection import offline, plain, remember, service, show_trouble
from ui.player import show_recording

_QUEUED = "re-rendered"


def main() -> None:
    api = service()
    try:
        recordings = sorted(api.recordings(), key=_age)
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
        if queued := st.session_state.pop(_QUEUED, None):
            dot = "<span class='sr-state'><i class='sr-dot good'></i>Being drawn.</span>"
            link = f"<a href='videos?job={quote(queued)}' target='_self'>See it under Videos.</a>"
            st.html(f"<div class='sr-line'>{dot}{link}</div>")
        chosen = st.radio(
            "Recordings",
            ids,
            key="recording",
            format_func=lambda recording_id: plain(readouts.recording_title(recording_id)),
            captions=[_caption(recording) for recording in recordings],
            label_visibility="collapsed",
        )
    with left:
        timeline = _timeline(api, by_id[chosen])
        show_recording(api, chosen, timeline)
        if timeline is not None and not timeline["people"]:
            st.caption("Nobody was seen in this recording.")
        if by_id[chosen].get("running"):
            st.caption("Being recorded now: it can be drawn in another style or deleted once it has ended.")
            return
        with st.container(horizontal=True):
            if timeline is not None and st.button("Draw in another style", icon=":material/palette:", key="render"):
                _render(api, chosen)
            if st.button("Delete", icon=":material/delete:", key="delete"):
                _confirm(api, chosen, by_id[chosen])


def _age(recording: Json) -> float:
    """Sorts newest first, those without a date last."""
    start = readouts.recording_start(str(recording["id"]))
    return -start.timestamp() if start else 0.0


def _caption(recording: Json) -> str:
    recording_id = str(recording["id"])
    facts = [f"stream {recording_id.partition('_')[0]}"] if readouts.recording_start(recording_id) else []
    if recording.get("bytes") is not None:
        facts.append(readouts.file_size(recording["bytes"]))
    if recording.get("running"):
        facts.append("being recorded")
    return " · ".join(facts)


def _timeline(api: Service, recording: Json) -> Json | None:
    """Who was on screen when; None where the recording has no results beside it."""
    if not recording.get("sidecar_url") and not recording.get("timeline_url"):
        return None
    try:
        return api.recording_timeline(str(recording["id"]))
    except ServiceError:
        return None


@st.dialog("Draw in another style")
def _render(api: Service, recording_id: str) -> None:
    st.write("A new video is made from the recording and its results, without searching again.")
    style = st.selectbox("Style", list(jobs.STYLES), format_func=jobs.STYLES.__getitem__, index=2, key="render-style")
    fancam = st.selectbox("Fancam", list(jobs.FANCAMS), format_func=jobs.FANCAMS.__getitem__, key="render-fancam")
    st.caption(
        "A recording holds the picture as viewers saw it, and the style is drawn over that. Record with style None to "
        "have the clean picture."
    )
    spec: Json = {"kind": "render", "recording": recording_id, "style": style}
    if fancam:
        spec["fancam"] = fancam
    if st.button("Render", type="primary", key="render-sure", on_click=_create, args=(api, spec)):
        st.rerun()


def _create(api: Service, spec: Json) -> None:
    try:
        st.session_state[_QUEUED] = str(api.create_job(spec)["id"])
    except ServiceError as error:
        remember(error)


@st.dialog("Delete recording")
def _confirm(api: Service, recording_id: str, recording: Json) -> None:
    title = plain(readouts.recording_title(recording_id))
    st.write(f"Delete **{title}** ({plain(_caption(recording))}) with its results? This cannot be undone.")
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

"""The people in a stream now: who they are said to be, why, and a person's word on it. Part of the live page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import streamlit as st

from ui import readouts, story
from ui.client import Service, ServiceError
from ui.connection import plain, sentence

Json = dict[str, Any]

SAID_SECONDS = 12.0
"""How long the answer to a person's word stays."""
BUTTON_WIDTH = 160
"""Pixels; the same for all, so that the lines stand in columns."""
_ASKED, _SAID = "asked", "said"


def rows(api: Service, info: Json, members: Sequence[Json]) -> None:
    """A line for each person in the picture, with what can be said about them. Called inside a fragment."""
    stream_id = str(info["id"])
    tracks = sorted(info.get("tracks") or [], key=lambda track: (track.get("name") is None, track.get("id", 0)))
    # First, and in a box that is always there: people come and go, and what is being chosen in the panel stays put.
    with st.container(key="why-place"):
        asked = st.session_state.get(_ASKED)
        if asked is not None and asked[0] == stream_id:
            _panel(api, stream_id, asked[1], members)
    st.html("<div class='sr-title'>People now</div>")
    with st.container(key="people", gap="xsmall"):
        if not tracks:
            st.html(f"<div class='sr-empty'>{readouts.nobody(info)}</div>")
        for track in tracks:
            with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"person-{track['id']}"):
                shown = shown_name(track.get("name"), members)
                st.html(readouts.person_line(track, shown), width="stretch")
                _buttons(api, stream_id, track, shown)


def _buttons(api: Service, stream_id: str, track: Json, shown: str | None) -> None:
    number, name = int(track["id"]), track.get("name")
    if name:
        st.button(
            f"Not {plain(str(shown))}",
            key=f"not-{number}",
            icon=":material/thumb_down:",
            width=BUTTON_WIDTH,
            on_click=_not,
            args=(api, stream_id, number, name),
        )
    else:
        st.button(
            "This is…",
            key=f"this-{number}",
            icon=":material/person_add:",
            width=BUTTON_WIDTH,
            on_click=_ask,
            args=(stream_id, number),
        )
    st.button("Why?", key=f"why-{number}", icon=":material/help:", on_click=_ask, args=(stream_id, number))


def _panel(api: Service, stream_id: str, number: int, members: Sequence[Json]) -> None:
    """Why this name? It stays open after the person left: what was seen is kept for a while."""
    with st.container(border=True, key="why"):
        try:
            told = api.story(stream_id, number)
        except ServiceError as error:
            st.warning(plain(sentence(error)), icon=":material/help:")
            st.button("Close", key="why-close", icon=":material/close:", on_click=_close)
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            heading = story.who(shown_name(told.get("name"), members), number)
            st.markdown(f"**Why this name? {plain(heading)}**", width="stretch")
            st.button("Close", key="why-close", icon=":material/close:", on_click=_close)
        left, right = st.columns([1, 1], gap="medium")
        with left:
            st.html(story.crops(told))
            _word(api, stream_id, told, members)
        with right:
            st.html(story.similarity_chart(told))
            st.html(story.decisions(told))


def _word(api: Service, stream_id: str, told: Json, members: Sequence[Json]) -> None:
    """ "This is X" and "not X"."""
    number, name = int(told["track"]), told.get("name")
    names = [str(member["name"]) for member in members]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "This is",
            names,
            index=None,
            key=f"who-{number}",
            format_func=lambda one: label(one, members),
            placeholder="Name",
            accept_new_options=True,
            width="stretch",
        )
        st.button(
            "Save faces",
            key=f"save-{number}",
            type="primary",
            icon=":material/person_add:",
            disabled=not told.get("faces"),
            on_click=_this,
            args=(api, stream_id, number, names),
        )
        if name:
            st.button(
                f"Not {plain(str(shown_name(name, members)))}",
                key=f"panel-not-{number}",
                icon=":material/thumb_down:",
                on_click=_not,
                args=(api, stream_id, number, name),
            )
    said = st.session_state.get(_SAID)
    if said is not None and time.monotonic() - said[2] < SAID_SECONDS:
        show, icon = (st.success, ":material/check:") if said[0] else (st.warning, ":material/error:")
        show(plain(said[1]), icon=icon)


def label(name: str, members: Sequence[Json]) -> str:
    """How the pickers call a member: the group, then the name as shown."""
    group = next((member.get("group") for member in members if member["name"] == name), None)
    shown = shown_name(name, members) or name
    return f"{group} · {shown}" if group else shown


def shown_name(name: str | None, members: Sequence[Json]) -> str | None:
    """The display name of a member."""
    return next((str(member.get("display_name") or name) for member in members if member["name"] == name), name)


def _ask(stream_id: str, number: int) -> None:
    st.session_state[_ASKED] = (stream_id, number)
    st.session_state.pop(_SAID, None)


def _close() -> None:
    st.session_state.pop(_ASKED, None)


def _this(api: Service, stream_id: str, number: int, known: list[str]) -> None:
    name = str(st.session_state.get(f"who-{number}") or "").strip()
    if not name:
        _say(False, "Choose who this is first.")
        return
    # Case does not count in the service's names.
    is_new = name.casefold() not in {other.casefold() for other in known}
    try:
        report = api.this_is(stream_id, number, name, create=is_new)
    except ServiceError as error:
        _say(False, sentence(error))
        return
    kept = len(report.get("kept") or [])
    refused = [str(entry["reason"]) for entry in report.get("refused") or []]
    more = f" Not kept: {refused[0]}." if refused else ""
    _say(True, f"{kept} {'face' if kept == 1 else 'faces'} added to {report.get('member', name)}.{more}")


def _not(api: Service, stream_id: str, number: int, name: str) -> None:
    st.session_state[_ASKED] = (stream_id, number)
    try:
        api.is_not(stream_id, number, name)
    except ServiceError as error:
        _say(False, sentence(error))
        return
    _say(True, f"Noted: this is not {name}. Such a face bears that name no more.")


def _say(good: bool, text: str) -> None:
    st.session_state[_SAID] = (good, text, time.monotonic())

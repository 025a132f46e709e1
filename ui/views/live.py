"""The live page: the picture at the left, what to follow in it at the right, numbers below."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import streamlit as st

from ui import people, readouts
from ui.client import Service, ServiceError
from ui.connection import offline, plain, remember, sentence, service, show_trouble
from ui.player import play, publish

Json = dict[str, Any]

EVERYBODY = ""
# No group is called so: a group's name has no control characters.
EVERY_GROUP, NO_GROUP = "", "\n"
WHOLE = "whole person"
MISSING = "missing"
# Object prompts that every engine answers. (A comment: Streamlit would print a string that stands alone in a page.)
SUGGESTIONS = ("face", "hair", "shirt", "trousers", "shoes", "hands")
STYLES = {
    "annotated": ("Annotated", "Tint, outline, name and similarity."),
    "overlay": ("Overlay", "Tint alone."),
    "cutout": ("Cutout", "The background is dimmed."),
    "hide": ("Hide", "Who you follow is blurred."),
    "only": ("Only", "Everybody else is blurred."),
    "none": ("None", "The clean picture."),
}
KINDS = {"demo": "Demo", "whip": "Webcam", "rtsp": "Network camera", "file": "Video file"}


def main() -> None:
    api = service()
    try:
        streams, members = api.streams(), in_groups(api.members())
    except ServiceError as error:
        offline(error)
    info = _chosen(streams)
    st.session_state["shown"] = _shown(info) if info else None
    left, right = st.columns([7, 3], gap="medium")
    with left:
        _say_missing(info["id"] if info else None)
        play(api, info["id"] if info else None, empty="Nothing is playing. Start a stream.")
        if info:
            _numbers(info["id"], members)
    with right:
        show_trouble()
        if info is None:
            st.subheader("Start a stream")
            _source_form(api)
        else:
            _stream_row(api, streams, info)
            if _kind(info) == "whip":
                with st.container(border=True):
                    publish(api, info["id"], autostart=st.session_state.get("publish") == info["id"])
            _follow(api, info, members)
            _recording(api, info)


def _chosen(streams: list[Json]) -> Json | None:
    """The stream that ?stream= names, else the first, which is said; the address follows."""
    wanted = st.query_params.get("stream")
    info = next((stream for stream in streams if stream["id"] == wanted), streams[0] if streams else None)
    shown = info["id"] if info else None
    if wanted and wanted != shown:
        instead = f": this is {stream_name(info)}." if info else ", nor any other."
        line = f"There is no stream {wanted[:40]} (it ended, or never was){instead}"
        st.session_state[MISSING] = (shown, line)
    if shown is None:
        st.query_params.pop("stream", None)
    elif wanted != shown:
        st.query_params["stream"] = shown
    return info


def _say_missing(shown: str | None) -> None:
    """That the address named another stream than this one, until yet another one is chosen."""
    instead, line = st.session_state.get(MISSING, (None, None))
    if line and instead == shown:
        st.info(plain(line), icon=":material/info:")
    else:
        st.session_state.pop(MISSING, None)


# Streams


def _stream_row(api: Service, streams: list[Json], info: Json) -> None:
    names = {stream["id"]: stream_name(stream) for stream in streams}
    _show("stream", info["id"])
    st.selectbox("Stream", list(names), format_func=names.__getitem__, key="stream", on_change=_choose)
    with st.container(horizontal=True):
        if st.button("New stream", icon=":material/add:"):
            _source_dialog(api)
        st.button("Stop stream", icon=":material/stop:", on_click=_stop, args=(api, info["id"]))


def stream_name(info: Json) -> str:
    """What a list of streams calls one: its kind, and its address or path where that tells more."""
    source = info.get("source") or {}
    kind = KINDS.get(str(source.get("kind")), str(source.get("kind")))
    place = str(source.get("url") or source.get("path") or "")
    if source.get("kind") == "file":
        place = place.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{kind}: {place}" if place else f"{kind} ({info['id']})"


def _kind(info: Json) -> str:
    return str((info.get("source") or {}).get("kind"))


def _choose() -> None:
    st.query_params["stream"] = st.session_state["stream"]


def _stop(api: Service, stream_id: str) -> None:
    try:
        api.remove_stream(stream_id)
    except ServiceError as error:
        remember(error)
    else:
        st.query_params.pop("stream", None)  # whoever stops it knows that it is gone


@st.dialog("New stream")
def _source_dialog(api: Service) -> None:
    _source_form(api)


def _source_form(api: Service) -> None:
    kind = st.pills(
        "Source",
        list(KINDS),
        format_func=KINDS.__getitem__,
        default="demo",
        required=True,
        key="source-kind",
        wrap=True,
    )
    source: Json = {"kind": kind}
    missing = None
    if kind == "demo":
        st.caption("A short film made of photos that come with the installation. No camera needed.")
    elif kind == "whip":
        st.caption("The camera of this browser. It asks you for permission.")
    elif kind == "rtsp":
        source["url"] = st.text_input("Address", placeholder="rtsp://user:password@192.168.1.20/live", key="source-url")
        source["url"] = source["url"].strip()
        missing = None if source["url"] else "Enter the camera's RTSP address first."
        if st.checkbox("Media over UDP", key="source-udp", help="TCP, the default, gets through more networks."):
            source["transport"] = "udp"
    else:
        source["path"] = st.text_input("Path", placeholder="/videos/concert.mp4", key="source-path")
        source["path"] = source["path"].strip()
        st.caption("On the machine that the service runs on.")
        source["loop"] = st.checkbox("Start over at the end", value=True, key="source-loop")
        missing = None if source["path"] else "Enter the path of a video file first."
    if st.button("Start", type="primary", icon=":material/play_arrow:", width="stretch", key="source-start"):
        if missing:
            st.error(missing)
        else:
            _start(api, source)


def _start(api: Service, source: Json) -> None:
    try:
        info = api.create_stream(source)
    except ServiceError as error:
        st.error(plain(sentence(error)), icon=":material/error:")
        return
    st.query_params["stream"] = info["id"]
    if source["kind"] == "whip":
        # The click that made the stream also asks for the camera; opening its page another time does not.
        st.session_state["publish"] = info["id"]
    st.rerun()


# What to follow. The service holds the choice: each run shows what it says, so a refused change falls back by itself.


def in_groups(members: list[Json]) -> list[Json]:
    """Members by group, those without one last."""
    return sorted(
        members,
        key=lambda one: (one.get("group") is None, str(one.get("group")).casefold(), str(one["name"]).casefold()),
    )


def _follow(api: Service, info: Json, members: list[Json]) -> None:
    member, prompt, style = info.get("member"), info.get("object"), info.get("style") or "annotated"
    args = (api, info["id"])
    names = [EVERYBODY, *_of_group(members)]
    if member and member not in names:
        names.append(member)  # of another group; or removed meanwhile, but the stream still asks for it
    _show("member", member or EVERYBODY)
    st.selectbox(
        "Follow",
        names,
        format_func=lambda name: people.label(name, members) if name else "everybody",
        key="member",
        on_change=_set_member,
        args=args,
    )
    if not members:
        st.caption("Nobody is enrolled yet: add people on the Members page, then follow one by name.")
    parts = [WHOLE, *SUGGESTIONS]
    if prompt and prompt not in parts:
        parts.append(prompt)
    _show("object", prompt or WHOLE)
    # One widget for suggestions and free text: two that set each other undo each other's changes on a slow machine.
    st.selectbox("Object", parts, key="object", accept_new_options=True, on_change=_set_object, args=args)
    st.caption("Choose a part of the person, or type one.")
    _show("style", style)
    st.pills(
        "Style",
        list(STYLES),
        format_func=lambda name: STYLES[name][0],
        key="style",
        required=True,
        wrap=True,
        on_change=_set_style,
        args=args,
    )
    st.caption(STYLES[style][1])


def _of_group(members: list[Json]) -> list[str]:
    """Names to choose from: of the chosen group, where there are groups."""
    groups = list(dict.fromkeys(str(member["group"]) for member in members if member.get("group")))
    chosen = EVERY_GROUP
    if groups:
        options = [EVERY_GROUP, *groups]
        if any(not member.get("group") for member in members):
            options.append(NO_GROUP)
        if st.session_state.get("group", EVERY_GROUP) not in options:
            st.session_state["group"] = EVERY_GROUP
        names = {EVERY_GROUP: "every group", NO_GROUP: "without a group"}
        chosen = st.selectbox("Group", options, format_func=lambda one: names.get(one, one), key="group")
    return [
        str(member["name"])
        for member in members
        if chosen == EVERY_GROUP or (member.get("group") or NO_GROUP) == chosen
    ]


def _show(key: str, value: str | None) -> None:
    """Gives a widget the service's value, where it has another.

    Only there: each value given travels to the browser, and one that arrives after the next click undoes that click.
    """
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def _set_member(api: Service, stream_id: str) -> None:
    _change(api, stream_id, member=st.session_state["member"] or None)


def _set_object(api: Service, stream_id: str) -> None:
    prompt = (st.session_state["object"] or "").strip()
    _change(api, stream_id, object=None if prompt in ("", WHOLE) else prompt)


def _set_style(api: Service, stream_id: str) -> None:
    _change(api, stream_id, style=st.session_state["style"])


def _change(api: Service, stream_id: str, **choice: str | None) -> None:
    try:
        api.update_stream(stream_id, **choice)
    except ServiceError as error:
        remember(error)


def _recording(api: Service, info: Json) -> None:
    recording = readouts.is_recording(info)
    label, icon = (
        ("Stop recording", ":material/stop_circle:") if recording else ("Record", ":material/fiber_manual_record:")
    )
    st.button(
        label,
        icon=icon,
        type="primary" if recording else "secondary",
        width="stretch",
        key="record",
        disabled=readouts.is_over(info) and not recording,
        on_click=_toggle_recording,
        args=(api, info["id"], recording),
    )


def _toggle_recording(api: Service, stream_id: str, recording: bool) -> None:
    try:
        (api.stop_recording if recording else api.start_recording)(stream_id)
    except ServiceError as error:
        remember(error)


# Numbers


@st.fragment(run_every=1.0)
def _numbers(stream_id: str, members: list[Json]) -> None:
    """Once a second, without the rest of the page; the whole page runs again only where its controls would be stale."""
    try:
        info = service().stream(stream_id)
    except ServiceError as error:
        if error.status == 404:
            st.rerun()
        st.warning(plain(f"{sentence(error)} Trying again."), icon=":material/cloud_off:")
        return
    if _shown(info) != st.session_state.get("shown"):
        st.rerun()  # another tab, the command line or a full disk changed what the controls show
    st.html(readouts.state_line(info))
    ended = (info.get("recording") or {}).get("ended_reason")
    if ended:
        st.warning(plain(f"The recording ended: {ended}"), icon=":material/warning:")
    st.html(readouts.number_strip(info))
    people.rows(service(), info, members)
    stages, delay = st.columns(2, gap="medium")
    with stages:
        st.html(readouts.stage_chart(info))
    with delay:
        st.html(readouts.history_chart(_history(info)))


def _shown(info: Json) -> tuple[object, ...]:
    """What the controls of a stream depend on."""
    choices = info.get("member"), info.get("object"), info.get("style")
    return info["id"], *choices, readouts.is_recording(info), readouts.is_over(info)


def _history(info: Json) -> list[tuple[float, float, float]]:
    """(seconds ago <= 0, p50, p95) of the last two minutes on this page."""
    key = f"history-{info['id']}"
    points: deque[tuple[float, float, float]] = st.session_state.setdefault(
        key, deque(maxlen=int(readouts.HISTORY_SECONDS) + 8)
    )
    now, total = time.monotonic(), (info.get("latency_ms") or {}).get("total") or {}
    if total.get("p50") is not None:
        points.append((now, float(total["p50"]), float(total.get("p95") or total["p50"])))
    return [(at - now, p50, p95) for at, p50, p95 in points if now - at <= readouts.HISTORY_SECONDS]


main()

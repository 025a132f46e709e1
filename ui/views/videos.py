"""Video files: follow members through one, watch before and after, draw it anew in another style."""

from __future__ import annotations

from typing import Any

import streamlit as st

from ui import jobs, readouts
from ui.client import Json, Service, ServiceError
from ui.connection import offline, plain, remember, service, show_trouble
from ui.player import show_film, submit

ACCEPT = "video/*,.mkv,.ts,.mts,.m2ts,.avi,.flv"
VIDEOS = ("video.mp4", "video.webm", "video.mov")


def main() -> None:
    api = service()
    try:
        members = [str(member["name"]) for member in api.members()]
        recordings = [str(r["id"]) for r in api.recordings() if not r.get("running")]
        every = api.jobs()
        limits = api.limits()
    except ServiceError as error:
        offline(error)
    job = jobs.chosen([job for job in every if job["kind"] != "image"])
    left, right = st.columns([7, 4], gap="large")
    with right:
        st.subheader("New video")
        show_trouble()
        _form(api, members, recordings, limits)
        st.subheader("Jobs")
        jobs.listing(("video", "render"), "No video was worked on yet.")
    with left:
        st.subheader("Videos")
        if job is None:
            st.info(
                "Choose a member and a video file, or a recording. The service works on it in the background; "
                "the result is shown here beside the original.",
                icon=":material/movie:",
            )
        elif job["state"] == "done":
            _result(api, job, every)
        else:
            jobs.waiting(job, "This job was cancelled, and its files are gone.")


# A new one


def _form(api: Service, members: list[str], recordings: list[str], limits: Json) -> None:
    with st.container(border=True):
        if not members:
            st.info("Enrol somebody first, on the page Members.", icon=":material/person_add:")
            return
        chosen = st.multiselect("Members", members, default=members[:1], key="video-members")
        part = st.selectbox("Object", [jobs.WHOLE, *jobs.SUGGESTIONS], key="video-object", accept_new_options=True)
        style = st.selectbox("Style", list(jobs.STYLES), format_func=jobs.STYLES.__getitem__, key="video-style")
        fields: dict[str, Any] = {"kind": "video", "member": chosen, "style": style}
        if part and part != jobs.WHOLE:
            fields["object"] = part
        with st.expander("More options"):
            fields |= _more()
        missing = None if chosen else "Choose a member"
        source = st.segmented_control(
            "From", ["Upload", "Recording"], default="Upload", key="video-source", disabled=not recordings
        )
        if source == "Recording" and recordings:
            _from_recording(api, fields, recordings, missing)
            return
        made = submit(
            api,
            "video-submit",
            {key: [str(v) for v in (value if isinstance(value, list) else [value])] for key, value in fields.items()},
            limits,
            label="Start",
            invitation="Choose a video, or drop it here",
            explanation=f"Any file that FFmpeg reads, up to {readouts.size_limit(limits['job_bytes'])}",
            accept=ACCEPT,
            missing=missing,
        )
        if made:
            jobs.choose(made)
            st.rerun()


def _more() -> dict[str, Any]:
    """The options that most videos do without; only those that say something."""
    fields: dict[str, Any] = {}
    fancam = st.selectbox(
        "Fancam",
        list(jobs.FANCAMS),
        format_func=jobs.FANCAMS.__getitem__,
        key="video-fancam",
        help="A crop of this format that follows the member.",
    )
    if fancam:
        fields["fancam"] = fancam
    if st.toggle("Transparent background", key="video-transparent", help="WebM with an alpha channel, for editing."):
        fields |= {"transparent": "true", "style": "cutout"}
    every = st.number_input(
        "Look at every Nth frame",
        1,
        60,
        1,
        key="video-every",
        help="Faster with 2 or more: names and masks are sought on every Nth frame and carried along between.",
    )
    if every > 1:
        fields["every"] = int(every)
    start, end = st.columns(2)
    first = start.number_input("From second", min_value=0.0, value=None, key="video-from", placeholder="start")
    last = end.number_input("To second", min_value=0.0, value=None, key="video-to", placeholder="end")
    if first:
        fields["from"] = first
    if last:
        fields["to"] = last
    return fields


def _from_recording(api: Service, fields: dict[str, Any], recordings: list[str], missing: str | None) -> None:
    recording = st.selectbox("Recording", recordings, format_func=readouts.recording_title, key="video-recording")
    st.caption("A recording holds the picture as viewers saw it; the style is drawn over that.")
    if st.button(
        "Start", type="primary", width="stretch", disabled=missing is not None, help=missing, key="video-start"
    ):
        spec = {key: value == "true" if key == "transparent" else value for key, value in fields.items()}
        _create(api, {**spec, "recording": recording})
        st.rerun()


def _create(api: Service, spec: Json) -> None:
    try:
        jobs.choose(str(api.create_job(spec)["id"]))
    except ServiceError as error:
        remember(error)


# The result


def _result(api: Service, job: Json, every: list[Json]) -> None:
    files = {str(file["name"]): file for file in job["files"]}
    video = next((files[name] for name in VIDEOS if name in files), None)
    if video is None:
        st.warning("This job left no video.", icon=":material/warning:")
        return
    original = jobs.original(job, every)
    stem = next((str(given["name"]).rsplit(".", 1)[0] for given in (original or job)["inputs"]), str(job["id"]))
    downloads = [("Download video", str(video["url"]), f"{stem}_{_kind(job)}.{str(video['name']).rsplit('.', 1)[1]}")]
    if "results.jsonl" in files:
        downloads.append(("Download results", str(files["results.jsonl"]["url"]), f"{stem}.jsonl"))
    transparent = bool(job["spec"].get("transparent"))
    before = None if transparent else _before(original or job, job)
    st.markdown(f"**{plain(jobs.title(job, every))}** · {plain(jobs.about(job))}")
    show_film(api, str(video["url"]), downloads, _timeline(api, original or job), before, alpha=transparent)
    _words(job)
    if "results.jsonl" in files or job["kind"] == "render":
        _again(api, original or job)


def _kind(job: Json) -> str:
    spec = job["spec"]
    return "transparent" if spec.get("transparent") else str(spec.get("style") or "annotated")


def _before(source: Json, job: Json) -> tuple[str, float] | None:
    """Where the original plays, and at which of its seconds the result begins."""
    url = next((given.get("url") for given in source.get("inputs") or []), None)
    return (str(url), float(source["spec"].get("from") or 0.0)) if url else None


def _timeline(api: Service, job: Json) -> Json | None:
    url = job.get("timeline_url")
    if url is None and job["spec"].get("recording"):
        url = (job["inputs"][0].get("url") or "") + "/timeline"
    try:
        return api.read(str(url)) if url else None
    except ServiceError:
        return None


def _words(job: Json) -> None:
    """What the command said of its result that a user should know."""
    result = job.get("result") or {}
    never = [str(name) for name in result.get("never_seen") or []]
    if never:
        st.warning(f"Never seen in this video: {plain(', '.join(never))}.", icon=":material/visibility_off:")
    for note in result.get("notes") or []:
        st.caption(plain(str(note)))


def _again(api: Service, source: Json) -> None:
    """Another style of the same results."""
    with st.form("again", border=True):
        st.markdown("**Draw it in another style** without searching again")
        left, middle, right = st.columns([3, 2, 1], vertical_alignment="bottom")
        style = left.selectbox("Style", list(jobs.STYLES), format_func=jobs.STYLES.__getitem__, key="again-style")
        fancam = middle.selectbox(
            "Fancam", list(jobs.FANCAMS), format_func=jobs.FANCAMS.__getitem__, key="again-fancam"
        )
        sent = right.form_submit_button("Render", width="stretch")
    if sent:
        spec: Json = {"kind": "render", "style": style}
        spec |= {"fancam": fancam} if fancam else {}
        spec |= {"recording": source["spec"]["recording"]} if source["kind"] == "render" else {"job": source["id"]}
        _create(api, spec)
        st.rerun()


main()

"""What the pages of photos and videos share: the list of jobs with its buttons, and a job's state in words.

The service does the work; a page only looks. It may be closed and opened again meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

from ui import readouts
from ui.client import Json, Service, ServiceError, without_call
from ui.connection import plain, remember, service

EVERY_SECONDS = 1.0
SHOWN = 20
ACTIVE = ("queued", "running")
WHOLE = "whole person"
# Object prompts that every engine answers.
SUGGESTIONS = ("face", "hair", "shirt", "trousers", "shoes", "hands")
STYLES = {
    "annotated": "Annotated: tint, outline, name",
    "overlay": "Overlay: tint alone",
    "cutout": "Cutout: the background is dimmed",
    "hide": "Hide: the member is blurred",
    "only": "Only: everybody else is blurred",
    "none": "None: the clean picture",
}
FANCAMS = {"": "Whole picture", "9:16": "9:16 upright", "4:5": "4:5", "1:1": "1:1 square", "16:9": "16:9"}


def chosen(jobs: Sequence[Json]) -> Json | None:
    """The job that ?job= names, else the newest that was not cancelled; the address follows."""
    by_id = {str(job["id"]): job for job in jobs}
    if not jobs:
        st.query_params.pop("job", None)
        return None
    newest = next((job for job in jobs if job["state"] != "cancelled"), jobs[0])
    job = by_id.get(str(st.query_params.get("job")), newest)
    choose(str(job["id"]))
    return job


def choose(job_id: str) -> None:
    """Show that job; the address keeps it over a reload."""
    if st.query_params.get("job") != job_id:
        st.query_params["job"] = job_id


def original(job: Json, every: Sequence[Json]) -> Json | None:
    """The video job whose results a render drew anew, while it is there."""
    wanted = job["spec"].get("job")
    return next((other for other in every if other["id"] == wanted), None) if wanted else None


def title(job: Json, every: Sequence[Json] = ()) -> str:
    """What a list of jobs calls one: what it was made from, of a render the video that is found in `every`."""
    source = original(job, every)
    if source is None and "job" in job["spec"]:
        return "A deleted video"
    names = [str(given["name"]) for given in (source or job).get("inputs") or []]
    if "recording" in (source or job)["spec"] and names:
        return readouts.recording_title(names[0])
    if len(names) > 1:
        return f"{len(names)} photos"
    return names[0] if names else str(job["id"])


def about(job: Json) -> str:
    """Whom and what it is about."""
    spec = job["spec"]
    parts = [", ".join(spec.get("member") or []), spec.get("object"), spec.get("style")]
    parts += [
        f"fancam {spec['fancam']}" if spec.get("fancam") else None,
        "transparent" if spec.get("transparent") else None,
    ]
    parts += ["re-render" if job["kind"] == "render" else None]
    return " · ".join(part for part in parts if part)


def state(job: Json) -> tuple[str, str]:
    """(good|wait|bad|empty, words) of a job's state."""
    progress = job.get("progress") or {}
    if job.get("cancelling"):
        return "wait", "Being cancelled"
    match job["state"]:
        case "running":
            return "wait", _running(progress)
        case "queued":
            return "", "Waits for its turn"
        case "done":
            return "good", "Done"
        case "cancelled":
            return "", "Cancelled"
        case other:
            return "bad", f"{str(other).capitalize()}: {without_call(job.get('reason') or 'no reason was said')}"


def _running(progress: Json) -> str:
    done, total, fps, eta = (progress.get(key) for key in ("done", "total", "fps", "eta_seconds"))
    stage = str(progress.get("stage") or "starting")
    parts = [stage[0].upper() + stage[1:]]
    if done:
        parts.append(f"{done} of {total}" if total else str(done))
    if fps:
        parts.append(f"{fps:.1f} a second")
    if eta is not None and done:
        parts.append(f"{readouts.clock(eta)} left")
    return " · ".join(parts)


def state_line(job: Json) -> str:
    """A coloured dot and words."""
    colour, words = state(job)
    return f"<div class='sr-line'><span class='sr-state'><i class='sr-dot {colour}'></i>{escape(words)}</span></div>"


def share(job: Json) -> float | None:
    """How much of a running job is done, 0..1; None where nobody can say."""
    progress = job.get("progress") or {}
    done, total = progress.get("done"), progress.get("total")
    return min(1.0, done / total) if done is not None and total else None


def listing(kinds: Sequence[str], empty: str) -> None:
    """The list of jobs of these kinds, kept up to date; when one ends the whole page looks again."""
    _listing(tuple(kinds), empty)


@st.fragment(run_every=EVERY_SECONDS)
def _listing(kinds: tuple[str, ...], empty: str) -> None:
    api = service()
    try:
        jobs = [job for job in api.jobs() if job["kind"] in kinds]
    except ServiceError:
        st.caption("The service does not answer.")
        return
    states = {str(job["id"]): str(job["state"]) for job in jobs}
    key = f"states-of-{'-'.join(kinds)}"  # a page's own: going to another is no change
    before = st.session_state.get(key)
    st.session_state[key] = states
    if before is not None and before != states:
        st.rerun()
    if not jobs:
        st.html(f"<div class='sr-empty'>{escape(empty)}</div>")
    for job in jobs[:SHOWN]:
        _row(api, job, jobs)
    if len(jobs) > SHOWN:
        st.caption(f"And {len(jobs) - SHOWN} earlier ones.")


def _row(api: Service, job: Json, every: Sequence[Json]) -> None:
    job_id = str(job["id"])
    shown = st.query_params.get("job") == job_id
    with st.container(border=True, key=f"job-{job_id}"):
        left, right = st.columns([1, 3], gap="small", vertical_alignment="top")
        with left:
            poster = job.get("poster_url")
            data = picture(api, str(poster)) if poster else None
            if data is not None:
                st.image(data, width="stretch")
            else:
                st.html("<div class='sr-thumb'></div>")
        with right:
            st.html(f"{_head(job, every)}{state_line(job)}{_bar(job)}")
            _buttons(api, job, shown)


def _head(job: Json, every: Sequence[Json]) -> str:
    return f"<div class='sr-title'>{escape(title(job, every))}</div><div class='sr-more'>{escape(about(job))}</div>"


def _bar(job: Json) -> str:
    if job["state"] != "running":
        return ""
    # Nobody can say how far it is while models load: the bar is there, and empty.
    percent = 100 * (share(job) or 0.0)
    return f"<div class='sr-progress'><i style='width:{percent:.1f}%'></i></div>"


def _buttons(api: Service, job: Json, shown: bool) -> None:
    job_id = str(job["id"])
    with st.container(horizontal=True, gap="small"):
        if st.button("Shown" if shown else "Show", key=f"show-{job_id}", disabled=shown):
            choose(job_id)
            st.rerun()
        if job["state"] in ACTIVE:
            _button(api.cancel_job, "Cancel", "cancel", job_id, disabled=bool(job.get("cancelling")))
        if job["state"] in ("interrupted", "failed"):
            words = "Resume" if job["state"] == "interrupted" else "Try again"
            _button(api.resume_job, words, "resume", job_id)
        if job["state"] not in ACTIVE:
            _button(api.remove_job, "Delete", "delete", job_id)


def _button(action: Callable[[str], object], label: str, verb: str, job_id: str, *, disabled: bool = False) -> None:
    def act() -> None:
        try:
            action(job_id)
        except ServiceError as error:
            remember(error)

    if st.button(label, key=f"{verb}-{job_id}", on_click=act, disabled=disabled):
        st.rerun()


def picture(api: Service, path: str) -> bytes | None:
    """A small picture of the service; None where there is none."""
    try:
        return _picture(api.base, path)
    except ServiceError:
        return None


@st.cache_data(max_entries=200, ttl=60, show_spinner=False)
def _picture(base: str, path: str) -> bytes:
    # A browser cannot send a token for an image, so the page fetches it. The address belongs to the key.
    return service().picture(path)


def waiting(job: Json, nothing: str) -> None:
    """What stands in the place of a job's result until there is one."""
    colour, words = state(job)
    if job["state"] == "running":
        _follow(str(job["id"]))
    elif job["state"] == "queued":
        st.info("This job waits for its turn. The page may be closed meanwhile.", icon=":material/hourglass_top:")
    elif job["state"] == "cancelled":
        st.info(nothing, icon=":material/block:")
    elif colour == "bad":
        st.error(plain(words), icon=":material/error:")


@st.fragment(run_every=EVERY_SECONDS)
def _follow(job_id: str) -> None:
    try:
        every = service().jobs()
    except ServiceError:
        return
    job = next((job for job in every if job["id"] == job_id), None)
    if job is None:
        return
    with st.container(border=True):
        st.html(f"{_head(job, every)}{state_line(job)}{_bar(job)}")
        st.caption("The page may be closed meanwhile: the service goes on, and leaves live streams their time.")

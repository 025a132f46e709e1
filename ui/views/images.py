"""Photos: a member in one or many, as three pictures side by side."""

from __future__ import annotations

from pathlib import PurePosixPath

import streamlit as st

from ui import jobs, readouts
from ui.client import Json, Service, ServiceError
from ui.connection import offline, plain, service, show_trouble
from ui.player import offer_file, show_pictures, submit

PICTURES = {"annotated.png": "Annotated", "overlay.png": "Overlay", "cutout.png": "Cutout"}
PROMPTS = {"box": "By the face", "text": "By words"}
ACCEPT = "image/*,.heic,.heif,.avif,.tif,.tiff"


def main() -> None:
    api = service()
    try:
        members = [str(member["name"]) for member in api.members()]
        mine = [job for job in api.jobs() if job["kind"] == "image"]
        limits = api.limits()
    except ServiceError as error:
        offline(error)
    job = jobs.chosen(mine)
    left, right = st.columns([7, 4], gap="large")
    with right:
        st.subheader("New photos")
        show_trouble()
        _form(api, members, limits)
        st.subheader("Earlier")
        jobs.listing(("image",), "No photos were searched yet.")
    with left:
        st.subheader("Images")
        if job is None:
            st.info(
                "Choose a member and one photo or more. Each is shown three times: annotated, tinted, and cut out.",
                icon=":material/image_search:",
            )
        elif job["state"] == "done":
            _results(api, job)
        else:
            jobs.waiting(job, "This job was cancelled, and its files are gone.")


def _form(api: Service, members: list[str], limits: Json) -> None:
    with st.container(border=True):
        if not members:
            st.info("Enrol somebody first, on the page Members.", icon=":material/person_add:")
            return
        member = st.selectbox("Member", members, key="image-member")
        part = st.selectbox("Object", [jobs.WHOLE, *jobs.SUGGESTIONS], key="image-object", accept_new_options=True)
        prompt = st.segmented_control(
            "Find the person",
            list(PROMPTS),
            format_func=PROMPTS.__getitem__,
            default="box",
            key="image-prompt",
            help="The face says who it is. The mask starts from the face, or from the words under Object.",
        )
        fields = {"kind": ["image"], "member": [member], "prompt": [prompt or "box"]}
        if part and part != jobs.WHOLE:
            fields["object"] = [part]
        made = submit(
            api,
            "image-submit",
            fields,
            limits,
            label="Find in photos",
            invitation="Choose photos, or drop them here",
            explanation=f"JPEG, PNG, WebP, TIFF or HEIC, up to {readouts.size_limit(limits['job_photo_bytes'])} each",
            each=int(limits["job_photo_bytes"]),
            accept=ACCEPT,
            multiple=True,
            drawable=prompt != "text",
        )
        if made:
            jobs.choose(made)
            st.rerun()


def _results(api: Service, job: Json) -> None:
    by_folder: dict[str, list[Json]] = {}
    for file in job["files"]:
        path = PurePosixPath(str(file["name"]))
        if path.name in PICTURES:
            by_folder.setdefault(str(path.parent), []).append(file)
    photos = list((job.get("result") or {}).get("photos") or [])
    if len(by_folder) > 1 and job.get("zip_url"):
        size = readouts.file_size(sum(file["bytes"] for files in by_folder.values() for file in files))
        offer_file(api, f"Download all as a zip ({size})", str(job["zip_url"]), key=f"zip-{job['id']}")
    for photo in photos:
        folder = next((str(PurePosixPath(str(o)).parent) for o in photo.get("outputs") or []), None)
        _photo(api, job, photo, by_folder.get(folder or "", []), folder or "")
    if not photos:
        for folder, files in by_folder.items():
            _photo(api, job, {"file": jobs.title(job)}, files, folder)


def _photo(api: Service, job: Json, photo: Json, files: list[Json], folder: str) -> None:
    name = str(photo.get("file"))
    st.markdown(f"**{plain(name)}** · {plain(_found(job, photo))}")
    if not files:
        return
    stem = PurePosixPath(name).stem
    order = list(PICTURES)
    by_name = sorted(files, key=lambda file: order.index(PurePosixPath(str(file["name"])).name))
    shown = []
    for file in by_name:
        kind = PurePosixPath(str(file["name"])).name
        shown.append((PICTURES[kind], str(file["url"]), f"{stem}_{kind}"))
    show_pictures(api, shown, key=f"pictures-{job['id']}-{folder}")


def _found(job: Json, photo: Json) -> str:
    who = ", ".join(job["spec"].get("member") or [])
    if photo.get("refused"):
        return str(photo["refused"]).removeprefix(f"{photo.get('file')}: ")
    if photo.get("seen") is False:
        return f"{who} was not seen"
    if photo.get("similarity") is not None:
        return f"{who}, similarity {float(photo['similarity']):.2f}"
    return who


main()

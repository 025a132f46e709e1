"""Members: who can be followed by name. Add by photos, see what was kept and why not, remove."""

from __future__ import annotations

from typing import Any

import streamlit as st

from ui.client import Photo, Service, ServiceError
from ui.connection import offline, remember, sentence, service, show_trouble

Json = dict[str, Any]

IMAGE_TYPES = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "avif", "heic")
COLUMNS = 4
PHOTOS_SHOWN = 4
_RESULTS = "enrolled"


def main() -> None:
    api = service()
    try:
        members = api.members()
    except ServiceError as error:
        offline(error)
    left, right = st.columns([7, 4], gap="large")
    with left:
        st.subheader("Members")
        show_trouble()
        _list(api, members)
    with right:
        st.subheader("Add by photos")
        _form(api, [str(member["name"]) for member in members])
        _results()


# The list


def _list(api: Service, members: list[Json]) -> None:
    if not members:
        st.info(
            "Nobody is enrolled yet. Add a person with two or three photos that show the face clearly; "
            "then the live page can follow that person by name.",
            icon=":material/person_add:",
        )
        return
    for start in range(0, len(members), COLUMNS):
        for place, member in zip(st.columns(COLUMNS), members[start : start + COLUMNS], strict=False):
            with place, st.container(border=True):
                _card(api, member)


def _card(api: Service, member: Json) -> None:
    name, photos = str(member["name"]), list(member.get("photos") or [])
    pictures = _pictures(api, photos[:PHOTOS_SHOWN])
    if pictures:
        st.image(pictures[0], width="stretch", alt=name)
        if len(pictures) > 1:
            with st.container(horizontal=True, gap="xsmall"):
                for picture in pictures[1:]:
                    st.image(picture, width=44, alt=name)
    else:
        st.caption("No photo yet")
    st.markdown(f"**{_plain(name)}**")
    st.caption(f"{len(photos)} photo{'' if len(photos) == 1 else 's'}")
    if st.button("Remove", icon=":material/delete:", key=f"remove-{name}", width="stretch"):
        _confirm(api, name, len(photos))


def _pictures(api: Service, photos: list[Json]) -> list[bytes]:
    pictures = []
    for photo in photos:
        try:
            pictures.append(_picture(api.base, str(photo["thumbnail"])))
        except (ServiceError, KeyError):
            continue  # removed meanwhile: the next run shows the list as it is then
    return pictures


@st.cache_data(max_entries=500, ttl=3600, show_spinner=False)
def _picture(_base: str, path: str) -> bytes:
    """The browser has no token of its own for images, so that the page fetches them."""
    return service().picture(path)


@st.dialog("Remove member")
def _confirm(api: Service, name: str, photos: int) -> None:
    st.write(f"Remove **{_plain(name)}** with {photos} photo{'' if photos == 1 else 's'}? This cannot be undone.")
    with st.container(horizontal=True):
        if st.button("Remove for good", type="primary", key="remove-sure", on_click=_remove, args=(api, name)):
            st.rerun()
        if st.button("Keep", key="remove-not"):
            st.rerun()


def _remove(api: Service, name: str) -> None:
    st.session_state.pop(_RESULTS, None)
    try:
        api.remove_member(name)
    except ServiceError as error:
        remember(error)


# Adding


def _form(api: Service, known: list[str]) -> None:
    with st.form("add", clear_on_submit=True, border=True):
        name = st.text_input("Name", max_chars=100, placeholder="wonyoung").strip()
        uploads = st.file_uploader("Photos", type=list(IMAGE_TYPES), accept_multiple_files=True)
        st.caption("One person a photo, the face large and sharp. The name of a member adds to its photos.")
        sent = st.form_submit_button("Add", type="primary", icon=":material/person_add:", width="stretch")
    if not sent:
        return
    if not name or not uploads:
        st.error("Enter a name and choose at least one photo.", icon=":material/error:")
        return
    photos = [Photo(upload.name, upload.getvalue(), upload.type or "application/octet-stream") for upload in uploads]
    st.session_state.pop(_RESULTS, None)
    with st.spinner(f"Looking for faces in {len(photos)} photo{'' if len(photos) == 1 else 's'}…"):
        try:
            answer = _enrol(api, name, photos, new=name not in known)
        except ServiceError as error:
            st.error(sentence(error), icon=":material/error:")
            return
    st.session_state[_RESULTS] = (name, answer)
    st.rerun()


def _enrol(api: Service, name: str, photos: list[Photo], *, new: bool) -> Json:
    """Adds the member where it is new; one without a single kept photo is not left behind."""
    if new:
        api.add_member(name)
    try:
        answer = api.add_photos(name, photos)
    except ServiceError:
        if new:
            api.remove_member(name)
        raise
    if new and not any(result["kept"] for result in photo_results(answer)):
        api.remove_member(name)
    return answer


def photo_results(answer: Json) -> list[Json]:
    """Of each photo: file, kept, reason."""
    return [
        {"file": str(entry.get("file")), "kept": bool(entry.get("kept")), "reason": str(entry.get("reason") or "")}
        for entry in answer.get("photos") or []
    ]


def _results() -> None:
    if _RESULTS not in st.session_state:
        return
    name, answer = st.session_state[_RESULTS]
    results = photo_results(answer)
    kept = sum(result["kept"] for result in results)
    if kept == len(results):
        st.success(f"{name}: all {kept} kept." if kept > 1 else f"{name}: photo kept.", icon=":material/check:")
    elif kept:
        st.warning(f"{name}: {kept} of {len(results)} kept.", icon=":material/warning:")
    else:
        st.error(f"{name}: no photo could be used.", icon=":material/error:")
    for result in results:
        if not result["kept"]:
            st.markdown(f"- {_plain(result['file'])}: {_plain(result['reason'])}")
    for line in answer.get("warnings") or []:
        st.warning(_plain(str(line)), icon=":material/warning:")


def _plain(text: str) -> str:
    """Markdown's own characters as they are."""
    return "".join("\\" + c if c in r"\`*_{}[]<>()#+-!|~$:" else c for c in text)


main()

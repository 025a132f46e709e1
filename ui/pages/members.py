"""Members: who can be followed by name. Add by photos, see what was kept and why not, remove."""

from __future__ import annotations

from html import escape
from typing import Any

import streamlit as st

from ui.client import Photo, Service, ServiceError
from ui.connection import offline, plain, remember, sentence, service, show_trouble

Json = dict[str, Any]

MAX_PHOTO_MB = 25
# The form field `face` of the API, in words.
FACES = {"": "the only person", "1": "1st from the left", "2": "2nd from the left", "3": "3rd from the left"}
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
    st.markdown(f"**{plain(name)}**")
    st.caption(f"{count(len(photos))}")
    if st.button("Remove", icon=":material/delete:", key=f"remove-{name}", width="stretch"):
        _confirm(api, name, len(photos))


def _pictures(api: Service, photos: list[Json]) -> list[bytes]:
    pictures = []
    for photo in photos:
        try:
            pictures.append(_picture(api.base, str(photo["thumbnail_url"])))
        except (ServiceError, KeyError):
            continue  # removed meanwhile: the next run shows the list as it is then
    return pictures


@st.cache_data(max_entries=500, ttl=30, show_spinner=False)
def _picture(base: str, path: str) -> bytes:
    # A browser cannot send a token for an image, so the page fetches it. Kept for seconds: what is deleted is gone.
    # The address is an argument because it belongs to the key.
    return service().picture(path)


@st.dialog("Remove member")
def _confirm(api: Service, name: str, photos: int) -> None:
    st.write(f"Remove **{plain(name)}** with {count(photos)}? This cannot be undone.")
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
        name = st.text_input("Name", max_chars=64, placeholder="wonyoung").strip()
        uploads = st.file_uploader("Photos", accept_multiple_files=True, max_upload_size=MAX_PHOTO_MB)
        st.caption(
            "Three or more, the face large and sharp. Photos under the name of a member are added to that member."
        )
        face = st.selectbox("Who in a photo", list(FACES), format_func=FACES.__getitem__)
        sent = st.form_submit_button("Add", type="primary", icon=":material/person_add:", width="stretch")
    if not sent:
        return
    st.session_state.pop(_RESULTS, None)
    if not name or not uploads:
        st.error("Enter a name and choose at least one photo.", icon=":material/error:")
        return
    photos = [Photo(upload.name, upload.getvalue(), upload.type or "application/octet-stream") for upload in uploads]
    with st.spinner(f"Looking for faces in {count(len(photos))}…"):
        try:
            # Case does not count in the service's names.
            taken = name.casefold() in {other.casefold() for other in known}
            answer = (api.add_photos if taken else api.add_member)(name, photos, face or None)
        except ServiceError as error:
            refused = error.problem.get("refused")
            if not refused:
                st.error(plain(sentence(error)), icon=":material/error:")
                return
            answer = {"kept": [], "refused": refused}
    st.session_state[_RESULTS] = (name, answer)
    st.rerun()


def _results() -> None:
    if _RESULTS not in st.session_state:
        return
    name, answer = st.session_state[_RESULTS]
    kept, refused = answer.get("kept") or [], answer.get("refused") or []
    who = plain(name)
    if not refused:
        st.success(f"{who}: {count(len(kept))} kept.", icon=":material/check:")
    elif kept:
        st.warning(f"{who}: {len(kept)} of {count(len(kept) + len(refused))} kept.", icon=":material/warning:")
    else:
        st.error(f"{who}: no photo could be used.", icon=":material/error:")
    rows = [_row(entry, "refused", entry.get("reason")) for entry in refused]
    rows += [
        _row(entry, "kept", "was there already" if entry.get("duplicate") else entry.get("remark")) for entry in kept
    ]
    head = "<tr><th>Photo</th><th>Result</th><th>Why</th></tr>"
    st.html(f"<table class='sr-people'>{head}{''.join(rows)}</table>")


def _row(entry: Json, result: str, why: str | None) -> str:
    file = str(entry.get("file"))
    why = (why or "").removeprefix(f"{file}: ")
    cells = "".join(f"<td>{escape(text)}</td>" for text in (file, result, why))
    return f"<tr class='{result}'>{cells}</tr>"


def count(photos: int) -> str:
    """1 photo, 2 photos."""
    return f"{photos} photo" if photos == 1 else f"{photos} photos"


main()

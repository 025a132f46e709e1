"""Members: who can be followed by name, group by group. Add by photos or from an archive, correct, export, remove."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import streamlit as st

from ui import readouts
from ui.client import Photo, Service, ServiceError
from ui.connection import offline, plain, remember, sentence, service, show_trouble

Json = dict[str, Any]

# Of an archive here, whatever the service takes: Streamlit holds uploads in memory.
MAX_ARCHIVE_BYTES = 500_000_000
# The form field `face` of the API, in words.
FACES = {"": "the only one", "1": "1st from the left", "2": "2nd from the left", "3": "3rd from the left"}
COLUMNS = 4
PHOTOS_SHOWN = 4
NO_GROUP = ""
FORM_BYTES = 64 * 1024  # what surrounds the photos in a form, at most
_RESULTS = "enrolled"


def main() -> None:
    api = service()
    try:
        members = api.members()
        limits = api.limits()
    except ServiceError as error:
        offline(error)
    left, right = st.columns([7, 4], gap="large")
    with left:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader("Members", width="stretch")
            if members:
                _export(api, NO_GROUP)
        show_trouble()
        _list(api, members)
    with right:
        _add(api, members, limits)
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
    groups = by_group(members)
    for group, people in groups.items():
        with st.container(horizontal=True, vertical_alignment="center", key=f"group-{group}"):
            title = group or ("Without a group" if len(groups) > 1 else "Everybody")
            st.markdown(f"**{plain(title)}** · {len(people)}", width="stretch")
            if group:
                _export(api, group)
        for start in range(0, len(people), COLUMNS):
            for place, member in zip(st.columns(COLUMNS), people[start : start + COLUMNS], strict=False):
                with place, st.container(border=True):
                    _card(api, member)


def by_group(members: list[Json]) -> dict[str, list[Json]]:
    """Members of each group by the group's name; those without one last, under NO_GROUP."""
    groups: dict[str, list[Json]] = {}
    for member in members:
        groups.setdefault(str(member.get("group") or NO_GROUP), []).append(member)
    return {name: groups[name] for name in sorted(groups, key=lambda name: (name == NO_GROUP, name.casefold()))}


def _export(api: Service, group: str) -> None:
    """A download of a group, or of everybody, that is made when it is asked for."""

    def packed() -> bytes:
        try:
            return api.export_members(group or None)
        except ServiceError as error:
            return sentence(error).encode()  # a download cannot show an error: the file says it

    st.download_button(
        f"Export {group}" if group else "Export everybody",
        packed,
        file_name=f"{group or 'members'}.zip",
        mime="application/zip",
        icon=":material/download:",
        key=f"export-{group}",
        on_click="ignore",
    )


def _card(api: Service, member: Json) -> None:
    name, photos = str(member["name"]), list(member.get("photos") or [])
    pictures = _pictures(api, [str(photo.get("thumbnail_url")) for photo in photos[:PHOTOS_SHOWN]])
    if pictures:
        st.image(pictures[0], width="stretch", alt=name)
        if len(pictures) > 1:
            with st.container(horizontal=True, gap="xsmall"):
                for picture in pictures[1:]:
                    st.image(picture, width=44, alt=name)
    else:
        st.caption("No photo yet")
    shown = str(member.get("display_name") or name)
    other = shown.casefold() != name.casefold()  # "Ben · ben" would say nothing
    st.markdown(f"**{plain(shown)}**" + (f" · {plain(name)}" if other else ""))
    rejected = list(member.get("rejected") or [])
    st.caption(count(len(photos)) + (f" · {len(rejected)} rejected" if rejected else ""))
    remarks = said_of(member)
    if remarks:
        with st.popover(f"{len(remarks)} to check", icon=":material/warning:", width="stretch", key=f"check-{name}"):
            for remark in remarks:
                st.markdown(plain(remark))
    with st.container(horizontal=True, gap="xsmall"):
        if st.button("Edit", icon=":material/edit:", key=f"edit-{name}", width="stretch"):
            _edit(api, member)
        if st.button("Remove", icon=":material/delete:", key=f"remove-{name}", width="stretch"):
            _confirm(api, name, len(photos))


def said_of(member: Json) -> list[str]:
    """What there is to check about a member: what was noticed among all of them, and remarks on single photos."""
    notices = [str(notice) for notice in member.get("notices") or []]
    for photo in member.get("photos") or []:
        file, remark = str(photo.get("file")), photo.get("remark")
        if remark and not any(f"'{file}'" in notice for notice in notices):
            notices.append(f"the photo '{file}': {remark}")
    return notices


def _pictures(api: Service, paths: list[str]) -> list[bytes]:
    pictures = []
    for path in paths:
        try:
            pictures.append(_picture(api.base, path))
        except ServiceError:
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
    _try(lambda: api.remove_member(name))


def _try(change: Callable[[], object]) -> None:
    try:
        change()
    except ServiceError as error:
        remember(error)


# One member


@st.dialog("Edit member", width="large")
def _edit(api: Service, member: Json) -> None:
    name = str(member["name"])
    with st.form("about", border=False):
        st.text_input("Shown as", member.get("display_name") or name, max_chars=100, key="edit-display_name")
        st.text_input("Group", member.get("group") or "", max_chars=100, key="edit-group", placeholder="IVE")
        st.text_area("Note of consent", member.get("consent") or "", max_chars=1000, key="edit-consent", height=80)
        if st.form_submit_button("Save", type="primary", icon=":material/check:", on_click=_save, args=(api, name)):
            st.rerun()
    photos, rejected = list(member.get("photos") or []), list(member.get("rejected") or [])
    if photos:
        st.markdown("**Photos**")
        _strip(api, [(str(photo["thumbnail_url"]), str(photo.get("source", ""))) for photo in photos], "photo")
    if rejected:
        st.markdown(f"**Not {plain(name)}**")
        st.caption("Rejected faces: whoever looks more like one of them than like the photos is not named so.")
        _strip(api, [(str(face["crop_url"]), str(face.get("source", ""))) for face in rejected], "rejected")


def _save(api: Service, name: str) -> None:
    about = {key: str(st.session_state[f"edit-{key}"]).strip() or None for key in ("display_name", "group", "consent")}
    _try(lambda: api.change_member(name, **about))


def _strip(api: Service, pictures: list[tuple[str, str]], kind: str) -> None:
    """Pictures that can be deleted one by one."""
    for start in range(0, len(pictures), 6):
        for place, (path, source) in zip(st.columns(6), pictures[start : start + 6], strict=False):
            with place:
                for picture in _pictures(api, [path]):
                    st.image(picture, width="stretch")
                st.caption(plain(source))
                # The last part of the address is the picture's name, the one before it names the photo.
                address = path.rpartition("/")[0]
                if st.button(
                    "Delete",
                    key=f"{kind}-{address}",
                    icon=":material/delete:",
                    width="stretch",
                    on_click=_delete,
                    args=(api, address),
                ):
                    st.rerun()


def _delete(api: Service, address: str) -> None:
    _try(lambda: api.remove(address))


# Adding


def _add(api: Service, members: list[Json], limits: Json) -> None:
    photos, archive = st.tabs(["Add by photos", "Import an archive"])
    with photos:
        _form(api, [str(member["name"]) for member in members], limits)
    with archive:
        _import(api, limits)


def _uploadable(wanted: int) -> int:
    """What the uploader says that it takes, in its "MB": Streamlit's server refuses more than its own limit unread.

    They are MiB there, a little more than the service's MB: the page looks at the bytes itself.
    """
    return min(-(-wanted // 10**6), int(st.get_option("server.maxUploadSize")))


def too_much(sizes: list[tuple[str, int]], limits: Json) -> str | None:
    """Why the service would not take photos of these names and bytes at once, in one line; None where it would."""
    if len(sizes) > limits["photos"]:
        return f"These are {len(sizes)} photos, and {limits['photos']} are taken at once: add the rest afterwards."
    large = next(((name, size) for name, size in sizes if size > limits["photo_bytes"]), None)
    if large is not None:
        has, takes = (readouts.size_limit(size) for size in (large[1], limits["photo_bytes"]))
        return f"{large[0]} has {has}, and the service takes {takes}: choose a smaller photo."
    total, most = sum(size for _, size in sizes), limits["photos_bytes"] - FORM_BYTES
    if total > most:
        has, takes = readouts.size_limit(total), readouts.size_limit(most)
        return f"These {len(sizes)} photos have {has} together, and the service takes {takes}: add fewer at once."
    return None


def _form(api: Service, known: list[str], limits: Json) -> None:
    with st.form("add", clear_on_submit=True, border=True):
        name = st.text_input("Name", max_chars=64, placeholder="wonyoung").strip()
        group = st.text_input("Group (of a new member)", max_chars=100, placeholder="IVE").strip()
        uploads = st.file_uploader(
            "Photos", accept_multiple_files=True, max_upload_size=_uploadable(limits["photo_bytes"])
        )
        st.caption(
            "Three or more, the face large and sharp. Photos under the name of a member are added to that member. "
            f"All together up to {readouts.size_limit(limits['photos_bytes'])}."
        )
        face = st.selectbox("Which person in the photos", list(FACES), format_func=FACES.__getitem__)
        sent = st.form_submit_button("Add", type="primary", icon=":material/person_add:", width="stretch")
    if not sent:
        return
    st.session_state.pop(_RESULTS, None)
    if not name or not uploads:
        st.error("Enter a name and choose at least one photo.", icon=":material/error:")
        return
    if line := too_much([(upload.name, upload.size) for upload in uploads], limits):
        st.error(plain(line), icon=":material/error:")
        return
    photos = [Photo(upload.name, upload.getvalue(), upload.type or "application/octet-stream") for upload in uploads]
    with st.spinner(f"Looking for faces in {count(len(photos))}…"):
        try:
            # Case does not count in the service's names.
            if name.casefold() in {other.casefold() for other in known}:
                answer = api.add_photos(name, photos, face or None)
            else:
                answer = api.add_member(name, photos, face or None, group or None)
        except ServiceError as error:
            refused = error.problem.get("refused")
            if not refused:
                st.error(plain(sentence(error)), icon=":material/error:")
                return
            answer = {"kept": [], "refused": refused}
    st.session_state[_RESULTS] = [{"name": name, **answer}]
    st.rerun()


def _import(api: Service, limits: Json) -> None:
    with st.form("import", clear_on_submit=True, border=True):
        most = min(MAX_ARCHIVE_BYTES, limits["archive_bytes"])
        upload = st.file_uploader("Archive", type="zip", max_upload_size=_uploadable(most), key="archive")
        group = st.text_input("Group for all of them", max_chars=100, placeholder="as in the archive").strip()
        st.caption(
            "A file that Export made, here or on another machine. Larger ones, and folders of photos, one a member, "
            "are for the command line: `streamer members import DIR`."
        )
        sent = st.form_submit_button("Import", type="primary", icon=":material/upload:", width="stretch")
    if not sent:
        return
    st.session_state.pop(_RESULTS, None)
    if upload is None:
        st.error("Choose an archive first.", icon=":material/error:")
        return
    if upload.size > limits["archive_bytes"]:
        has, takes = (readouts.size_limit(size) for size in (upload.size, limits["archive_bytes"]))
        st.error(
            plain(f"{upload.name} has {has}, and the service takes {takes}: export in groups."), icon=":material/error:"
        )
        return
    with st.spinner("Looking for faces in the archive's photos…"):
        try:
            answer = api.import_members(upload.getvalue(), group or None)
        except ServiceError as error:
            st.error(plain(sentence(error)), icon=":material/error:")
            return
    st.session_state[_RESULTS] = answer.get("members") or []
    st.rerun()


def _results() -> None:
    """What became of each photo of the last request."""
    if _RESULTS not in st.session_state:
        return
    answers: list[Json] = st.session_state[_RESULTS]
    kept = sum(len(answer.get("kept") or []) for answer in answers)
    refused = sum(len(answer.get("refused") or []) for answer in answers)
    who = plain(", ".join(str(answer["name"]) for answer in answers[:8]) + (", …" if len(answers) > 8 else ""))
    if not refused:
        st.success(f"{who}: {count(kept)} kept.", icon=":material/check:")
    elif kept:
        st.warning(f"{who}: {kept} of {count(kept + refused)} kept.", icon=":material/warning:")
    else:
        st.error(f"{who}: no photo could be used.", icon=":material/error:")
    head = "<tr>" + ("<th>Member</th>" if len(answers) > 1 else "") + "<th>Photo</th><th>Result</th><th>Why</th></tr>"
    rows = "".join(_rows(answer, named=len(answers) > 1) for answer in answers)
    st.html(f"<table class='sr-people'>{head}{rows}</table>")


def _rows(answer: Json, *, named: bool) -> str:
    who = str(answer["name"]) if named else None
    rows = [_row(who, entry, "refused", entry.get("reason")) for entry in answer.get("refused") or []]
    rows += [
        _row(who, entry, "kept", "was there already" if entry.get("duplicate") else entry.get("remark"))
        for entry in answer.get("kept") or []
    ]
    return "".join(rows)


def _row(who: str | None, entry: Json, result: str, why: str | None) -> str:
    file = str(entry.get("file"))
    why = (why or "").removeprefix(f"{file}: ")
    named = "" if who is None else f"<td>{escape(who)}</td>"
    cells = f"<td>{escape(file)}</td><td class='result'>{escape(result)}</td><td>{escape(why)}</td>"
    return f"<tr class='{result}'>{named}{cells}</tr>"


def count(photos: int) -> str:
    """1 photo, 2 photos."""
    return f"{photos} photo" if photos == 1 else f"{photos} photos"


main()

"""`streamer members`: add people by photos, list, remove, import, export them. Works with and without a service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.errors import MemberUnknown, PhotoRefused
from streamer.service import enrolment, importing, photo_folder
from streamer.service.archive import Archive
from streamer.service.enrolment import Enrolled, GivenPhoto
from streamer.service.export import export_members
from streamer.service.importing import Imported
from streamer.vision import resemblance
from streamer.vision.enrolment import FacePick
from streamer.vision.gallery import Gallery
from streamer.vision.member import NewMember

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from streamer.service.settings import Settings
    from streamer.vision.faces import FaceReader
    from streamer.vision.known import PhotoReading
    from streamer.vision.member import Member

app = typer.Typer(no_args_is_help=True)


@app.command()
def add(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person's name; a known one gets further photos.")],
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Image files, or folders of them.")],
    group: Annotated[str | None, typer.Option("--group", help="The group a new member is in.")] = None,
    display_name: Annotated[str | None, typer.Option("--display-name", help="A new member's name as shown.")] = None,
    consent: Annotated[str | None, typer.Option("--consent", help="A note on a new member's consent.")] = None,
    face: Annotated[
        str | None, typer.Option("--face", metavar="N|X,Y", help="Which of several faces: from the left, or at pixels.")
    ] = None,
) -> None:
    """Add a person by photos; says of each photo whether it was kept, and why not."""
    settings: Settings = ctx.obj.settings()
    pick = None if face is None else FacePick.parse(face)
    files = list(dict.fromkeys(file for path in photos for file in photo_folder.expanded(path)))
    with Gallery(settings.data_folder / "gallery") as gallery, _progress() as progress:
        bar = progress.add_task("looking for faces", total=len(files))
        local = _Local(gallery, settings, progress)
        new = NewMember(name, display_name, group, consent)
        enrolled = asyncio.run(_enrol(local, new, _given(files, progress, bar), pick))
    _show(enrolled)
    if not enrolled.kept:
        reasons = [refused.reason for refused in enrolled.refused]
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise PhotoRefused(f"{name!r} was given no photo that can be kept: {reasons[0]}{more}")


@app.command("list")
def list_members(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Everybody who is known by name."""
    with Gallery(ctx.obj.settings().data_folder / "gallery") as gallery:
        members = gallery.members()
        told = _told(gallery, _usual_model(members))
    if as_json:
        print(json.dumps([asdict(one) | {"notices": told.get(one.name, [])} for one in members], indent=1))
        return
    if not members:
        print("nobody is enrolled yet: streamer members add NAME PHOTO...", file=sys.stderr)
        return
    _table(("NAME", "GROUP", "PHOTOS", "SINCE (UTC)", "REMARKS"), [_row(member) for member in members])
    _note(told, [member.name for member in members])


@app.command("edit")
def edit(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    group: Annotated[str | None, typer.Option("--group", help='The group; "" for none.')] = None,
    display_name: Annotated[str | None, typer.Option("--display-name", help='The name as shown; "" for NAME.')] = None,
    consent: Annotated[str | None, typer.Option("--consent", help='A note on consent; "" for none.')] = None,
) -> None:
    """Change the group, the name as shown, or the note on consent."""
    given = {"group": group, "display_name": display_name, "consent": consent}
    about = {key: value.strip() or None for key, value in given.items() if value is not None}
    if not about:
        raise typer.BadParameter("say what to change: --group, --display-name or --consent")
    with Gallery(ctx.obj.settings().data_folder / "gallery") as gallery:
        member = gallery.change_member(name, **about)
    _table(("NAME", "GROUP", "PHOTOS", "SINCE (UTC)", "REMARKS"), [_row(member)])


@app.command()
def remove(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a person with photos and face data, from disk and from running streams. For good."""
    with Gallery(ctx.obj.settings().data_folder / "gallery") as gallery:
        member = gallery.member(name)
        what = f"{member.name!r} with {_photos(len(member.photos))}"
        if not yes and sys.stdin.isatty():
            typer.confirm(f"Delete {what}? This cannot be undone.", abort=True)
        gallery.remove_member(member.name)
    print(f"deleted {what}")


@app.command("import")
def import_members(
    ctx: typer.Context,
    source: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="A folder with a folder of photos for each, or an archive.")
    ],
    group: Annotated[str | None, typer.Option("--group", help="The group that all of them are in.")] = None,
) -> None:
    """Add many people: from one folder of photos a member, or from an archive that `export` wrote."""
    settings: Settings = ctx.obj.settings()
    source = source.expanduser()
    with contextlib.ExitStack() as stack:
        if source.is_dir():
            shares, origin = importing.folder_shares(source, settings.members), "cli"
        else:
            shares, origin = importing.archive_shares(stack.enter_context(Archive(source))), "archive"
        gallery = stack.enter_context(Gallery(settings.data_folder / "gallery"))
        progress = stack.enter_context(_progress())
        bar = progress.add_task("looking for faces", total=None)
        local = _Local(gallery, settings, progress)

        def noted(done: int, total: int, file: str) -> None:
            from rich.markup import escape

            progress.update(bar, completed=done, total=total, description=escape(file))

        imported = asyncio.run(importing.run(local, shares, source=origin, group=group, on_photo=noted))
        told = _told(gallery, local.model_id)
    _show_import(imported, told)


@app.command("export")
def export(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The zip archive to write; it replaces what is there.")],
    group: Annotated[str | None, typer.Option("--group", help="Only the members of this group.")] = None,
) -> None:
    """Write everybody, or a group, with photos and rejected faces to one file. `import` reads it."""
    file = file.expanduser()
    with Gallery(ctx.obj.settings().data_folder / "gallery") as gallery, _progress() as progress:
        bar = progress.add_task("copying photos", total=None)
        written = export_members(
            gallery, file, group, lambda done, all_: progress.update(bar, completed=done, total=all_)
        )
    for line in written.missing:
        print(f"left out: {line}", file=sys.stderr)
    print(f"wrote {_members(written.members)} with {_photos(written.photos)} to {photo_folder.shown(file)}")


class _Local:
    """Enrolment without a service: the gallery of the data folder, and the face models in this process.

    The models are loaded at the first photo that needs them. A running service notices the change by itself.
    """

    def __init__(self, gallery: Gallery, settings: Settings, progress: Progress) -> None:
        self.gallery = gallery
        self._settings = settings
        self._progress = progress
        self._reader: FaceReader | None = None

    async def read_photo(self, encoded: bytes) -> PhotoReading:
        """Faces of an encoded picture."""
        return await asyncio.to_thread(self._read, encoded)

    @property
    def model_id(self) -> str | None:
        """Of the recogniser in use; None: it was not needed so far."""
        return None if self._reader is None else self._reader.model_id

    async def gallery_changed(self) -> None:
        """Nobody in this process follows the gallery."""

    def _read(self, encoded: bytes) -> PhotoReading:
        from streamer.vision.photo_reading import read_encoded

        if self._reader is None:
            self._reader = self._load()
        return read_encoded(self._reader, encoded)

    def _load(self) -> FaceReader:
        # Here, not above: they take seconds to import, and `list` and `remove` need none of them.
        from rich.markup import escape

        from streamer.vision.faces import FaceReader
        from streamer.vision.models import ModelStore

        vision = self._settings.vision
        store = ModelStore(self._settings.data_folder)
        folder = store.ensure(vision.pack, lambda line: self._progress.console.print(escape(line)))
        return FaceReader(
            folder,
            store.model_id(vision.pack),
            detector_size=(vision.detector_width, vision.detector_height),
            threads=vision.threads,
            device=vision.device,
        )


async def _enrol(local: _Local, new: NewMember, given: AsyncIterator[GivenPhoto], pick: FacePick | None) -> Enrolled:
    try:
        local.gallery.member(new.name)
    except MemberUnknown:
        return await enrolment.add_member(local, new, given, source="cli", pick=pick)
    return await enrolment.add_photos(local, new.name, given, source="cli", pick=pick)


async def _given(files: Sequence[Path], progress: Progress, bar: TaskID) -> AsyncIterator[GivenPhoto]:
    from rich.markup import escape

    for file in files:
        progress.update(bar, description=escape(photo_folder.shown(Path(file.name))))
        yield GivenPhoto(photo_folder.shown(file), await asyncio.to_thread(photo_folder.read_file, file))
        progress.advance(bar)


def _progress() -> Progress:
    """On stderr, and only on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _show(enrolled: Enrolled) -> None:
    rows = []
    for kept in enrolled.kept:
        remark = "was there already" if kept.duplicate else kept.photo.remark or ""
        rows.append((kept.file, "kept", remark))
    rows += [
        (refused.file, "refused", refused.reason.removeprefix(f"{refused.file}: ")) for refused in enrolled.refused
    ]
    _table(("PHOTO", "RESULT", "REMARK"), rows)


def _show_import(imported: Sequence[Imported], told: Mapping[str, Sequence[str]]) -> None:
    """The table, what there is to say about the members, and the sum. Raises `PhotoRefused` where nothing was kept."""
    rows, kept, refused = [], 0, 0
    for entry in imported:
        shown = photo_folder.shown(Path(entry.name))
        for one in entry.enrolled.kept:
            rows.append((shown, one.file, "kept", "was there already" if one.duplicate else one.photo.remark or ""))
        for no in entry.enrolled.refused:
            rows.append((shown, no.file, "refused", no.reason.removeprefix(f"{no.file}: ")))
        kept, refused = kept + len(entry.enrolled.kept), refused + len(entry.enrolled.refused)
    _table(("MEMBER", "PHOTO", "RESULT", "REMARK"), rows)
    _note(told, [entry.name for entry in imported])
    if refused and not kept:
        first = next(no for entry in imported for no in entry.enrolled.refused)
        raise PhotoRefused(f"nothing was kept of {refused}: {first.reason}")
    with_photos = sum(bool(entry.enrolled.kept) for entry in imported)
    known = sum(one.duplicate for entry in imported for one in entry.enrolled.kept)
    there = f" ({known} there already)" if known else ""
    print(f"kept {_photos(kept)} of {_members(with_photos)}{there}, refused {refused}", file=sys.stderr)


def _told(gallery: Gallery, model_id: str | None) -> dict[str, list[str]]:
    """What there is to say about members: photos that do not fit, people who look alike to the model."""
    return {} if model_id is None else resemblance.notices(*gallery.snapshot(model_id))


def _note(told: Mapping[str, Sequence[str]], names: Sequence[str]) -> None:
    """What there is to say about the members of these names, once each."""
    for text in dict.fromkeys(text for name in names for text in told.get(name, ())):
        print(f"note: {text}", file=sys.stderr)


def _usual_model(members: Sequence[Member]) -> str | None:
    """The model that embedded most photos."""
    models = Counter(model for member in members for photo in member.photos for model in photo.models)
    return models.most_common(1)[0][0] if models else None


def _row(member: Member) -> tuple[str, ...]:
    remarks = sum(photo.remark is not None for photo in member.photos)
    about = f"{_photos(remarks)} with a remark" if remarks else ""
    shown = member.name if member.display_name == member.name else f"{member.name} ({member.display_name})"
    return shown, member.group or "", str(len(member.photos)), member.created_at[:19].replace("T", " "), about


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; a line with tabs for each row in a pipe."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def _members(count: int) -> str:
    return f"{count} member{'' if count == 1 else 's'}"


def _photos(count: int) -> str:
    return f"{count} photo{'' if count == 1 else 's'}"

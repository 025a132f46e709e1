"""`streamer image`: a member in a photo, or in a folder of photos; three pictures and the result of each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli_progress import EXIT_INTERRUPTED, Teller, stopped_by_signals
from streamer.cli_video import JsonOption
from streamer.errors import PhotoRefused

if TYPE_CHECKING:
    import threading

    from rich.console import Console

    from streamer.offline.photo import PhotoOrder, PhotoResult
    from streamer.offline.sight import Sight
    from streamer.service.settings import Settings
    from streamer.tracks import Box


@dataclass(frozen=True, slots=True)
class _Row:
    """What became of one photo."""

    file: str
    seen: bool
    similarity: float | None
    seconds: float
    outputs: tuple[str, ...]
    refused: str | None = None


def image(
    ctx: typer.Context,
    photo: Annotated[
        Path, typer.Argument(metavar="PHOTO|FOLDER", help="An image file, or a folder of them (not the hidden ones).")
    ],
    member: Annotated[str, typer.Option("--member", metavar="NAME", help="Whom to look for.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pictures go.")],
    words: Annotated[
        str | None, typer.Option("--object", metavar="TEXT", help="A part of the member: shirt, hair, …")
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="box|text", help="By the face's box, or by words.")
    ] = "box",
    box: Annotated[
        str | None, typer.Option("--box", metavar="X0,Y0,X1,Y1", help="The person in this box, in pixels.")
    ] = None,
    all_files: Annotated[
        bool,
        typer.Option("--all-files", help="Every file of a folder, also hidden ones and those without an image's name."),
    ] = False,
    progress_json: JsonOption = False,
) -> None:
    """Find a member in photos: annotated.png, overlay.png, cutout.png and result.json for each."""
    if prompt not in ("box", "text"):
        raise typer.BadParameter(f"{prompt!r} is neither box nor text", param_hint="--prompt")
    drawn = None if box is None else _parse_box(box)
    if drawn is not None and prompt == "text":
        raise typer.BadParameter("a drawn box is a box prompt: leave --prompt text out", param_hint="--box")
    settings: Settings = ctx.obj.settings()
    teller = Teller(progress_json)
    with stopped_by_signals() as stop, teller.showing():
        from streamer.offline.cast import Cast
        from streamer.offline.photo import PhotoOrder, check_outputs, output_folder
        from streamer.offline.sight import Sight, check_members

        files = _files(photo, all_files)
        names = check_members(settings, [member])
        teller.stage("loading models")
        sight = Sight.load(settings, teller.stage)
        if stop.is_set():
            raise typer.Exit(EXIT_INTERRUPTED)
        order = PhotoOrder(Cast(names, words), "text" if prompt == "text" else "box", drawn)
        if words is not None:
            sight.models.check_phrase(words)
        folders = _folders(photo, files, out)
        with output_folder(out):
            if not photo.is_dir():
                check_outputs(photo, out)
            rows = _run(files, folders, order, sight, teller, stop)
    teller.result(_summary(rows, names[0], stop.is_set()))
    _table(rows, teller.console)
    if stop.is_set():
        raise typer.Exit(EXIT_INTERRUPTED)
    refused = [row.refused for row in rows if row.refused is not None]
    if len(refused) == len(rows):
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise PhotoRefused(f"{refused[0]}{more}")


def _run(
    files: Sequence[Path],
    folders: Sequence[Path],
    order: PhotoOrder,
    sight: Sight,
    teller: Teller,
    stop: threading.Event,
) -> list[_Row]:
    from streamer.offline.album import segmented
    from streamer.offline.photo import write
    from streamer.offline.progress import Meter

    rows = []
    meter = Meter(teller, len(files))
    meter.stage("segmenting")
    with closing(segmented(files, order, sight)) as photos:
        for path, folder, (found, seconds) in zip(files, folders, photos, strict=True):
            if isinstance(found, PhotoRefused):
                rows.append(_Row(path.name, False, None, seconds, (), str(found)))
            else:
                began = time.monotonic()
                outputs = [str(file) for file in write(found, folder)]
                rows.append(_row(found, outputs, seconds + time.monotonic() - began))
            meter.step()
            if stop.is_set():
                break
    meter.finish()
    return rows


def _row(found: PhotoResult, outputs: list[str], seconds: float) -> _Row:
    best = max((track.similarity for track in found.shown if track.similarity is not None), default=None)
    return _Row(found.name, bool(found.shown), best, seconds, tuple(outputs))


def _files(path: Path, all_files: bool) -> list[Path]:
    from streamer.service import photo_folder

    if not path.is_dir():
        return [path]
    files = photo_folder.images(path, all_files)
    if not files:
        raise PhotoRefused(f"{photo_folder.shown(path)}: no image files that can be read in this folder")
    return files


def _folders(path: Path, files: Sequence[Path], out: Path) -> list[Path]:
    """Where the pictures of each file go: of a folder's files in one of its own."""
    from streamer.service import photo_folder

    if not path.is_dir():
        return [out]
    return [out / name for name in photo_folder.result_folders([file.name for file in files])]


def _parse_box(text: str) -> Box:
    try:
        x0, y0, x1, y1 = (float(side) for side in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not x0,y0,x1,y1 in pixels", param_hint="--box") from None
    if not (x0 < x1 and y0 < y1):
        raise typer.BadParameter(f"{text!r} has no area: give x0,y0,x1,y1 with x0 < x1, y0 < y1", param_hint="--box")
    return x0, y0, x1, y1


def _summary(rows: Sequence[_Row], member: str, interrupted: bool) -> dict[str, Any]:
    seen = sum(row.seen for row in rows)
    return {
        "frames": len(rows),
        "seconds": round(sum(row.seconds for row in rows), 3),
        "seen": {member: seen},
        "never_seen": [] if seen else [member],
        "outputs": [path for row in rows for path in row.outputs],
        "interrupted": interrupted,
        "photos": [
            {
                "file": row.file,
                "seen": row.seen,
                "similarity": None if row.similarity is None else round(row.similarity, 4),
                "seconds": round(row.seconds, 3),
                "outputs": list(row.outputs),
                "refused": row.refused,
            }
            for row in rows
        ],
    }


def _table(rows: Sequence[_Row], console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("PHOTO", "MEMBER", "SIMILARITY", "SECONDS", box=None, pad_edge=False)
    for row in rows:
        said = "seen" if row.seen else "never seen"
        if row.refused is not None:
            said = "refused: " + row.refused.removeprefix(f"{row.file}: ")
        similarity = "" if row.similarity is None else f"{row.similarity:.2f}"
        table.add_row(escape(row.file), escape(said), similarity, f"{row.seconds:.2f}")
    console.print(table)

"""`streamer models`: which model files there are, whether they are whole, under which licence; fetch a pack."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from streamer.errors import ModelMissing
from streamer.vision.models import PACKS, ModelStore

if TYPE_CHECKING:
    from streamer.vision.models import ModelFile

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_models(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Every model file: pack, state, size, licence, where it comes from."""
    files = ModelStore(ctx.obj.settings().data_folder).list()
    if as_json:
        print(json.dumps([{**asdict(file), "path": str(file.path)} for file in files], indent=1))
        return
    rows = [("PACK", "FILE", "STATE", "SIZE", "LICENCE", "FROM"), *(_row(file) for file in files)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def pull(
    ctx: typer.Context, pack: Annotated[str, typer.Argument(metavar="PACK", help=f"One of {', '.join(PACKS)}.")]
) -> None:
    """Fetch a face pack and check its hashes; nothing is done where it is whole already."""
    if pack not in PACKS:
        raise ModelMissing(f"there is no pack {pack!r} to fetch; use one of {', '.join(PACKS)}")
    console = Console(file=sys.stderr)
    store = ModelStore(ctx.obj.settings().data_folder)
    if console.is_terminal:
        with console.status(f"models: looking at {pack}") as status:
            folder = store.pull(pack, status.update)
    else:
        folder = store.pull(pack, lambda line: print(line, file=sys.stderr))
    print(folder)


def _row(file: ModelFile) -> tuple[str, ...]:
    size = f"{file.bytes / 1e6:.1f} MB" if file.bytes else "-"
    return file.pack, file.file, file.status, size, file.licence, file.origin

"""`streamer models`: which model files there are, whether they are whole, under which licence; fetch them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.errors import ModelMissing
from streamer.vision.checkpoints import CHECKPOINTS, CheckpointStore, repository_of
from streamer.vision.models import PACKS, ModelStore

if TYPE_CHECKING:
    from streamer.vision.models import ModelFile

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_models(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Every model file: pack, state, size, licence, where it comes from."""
    folder = ctx.obj.settings().data_folder
    files = ModelStore(folder).list() + CheckpointStore(folder).list()
    if as_json:
        print(json.dumps([{**asdict(file), "path": str(file.path)} for file in files], indent=1))
        return
    rows = [("PACK", "FILE", "STATE", "SIZE", "LICENCE", "FROM"), *(_row(file) for file in files)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def pull(
    ctx: typer.Context,
    pack: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"A face pack ({', '.join(PACKS)}), a checkpoint ({', '.join(CHECKPOINTS)}), or OWNER/NAME on "
            "Hugging Face.",
        ),
    ],
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Take a checkpoint from a local folder.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option("--backend", metavar="NAME", help="Of a checkpoint: transformers, meta.")
    ] = None,
) -> None:
    """Fetch model files and check their hashes; nothing is done where they are whole already.

    Checkpoints come from Hugging Face: set HF_TOKEN, or run `hf auth login`, where the licence has to be accepted.
    """
    settings = ctx.obj.settings()
    if pack in PACKS:
        if source is not None:
            raise ModelMissing(f"--from is for checkpoints; for {pack} set vision.pack to the folder itself")
        store = ModelStore(settings.data_folder)
        print(_told(f"models: looking at {pack}", lambda say: store.pull(pack, say)))
        return
    if repository_of(pack) is None:
        known = ", ".join([*PACKS, *CHECKPOINTS])
        raise ModelMissing(f"there is no {pack!r} to fetch; use one of {known}, or OWNER/NAME on Hugging Face")
    reads = backend or settings.vision.sam3.backend
    if reads not in ("transformers", "meta"):
        raise typer.BadParameter(f"{reads!r} is not one of transformers, meta", param_hint="--backend")
    checkpoints = CheckpointStore(settings.data_folder)
    if source is not None:
        print(_told(f"models: copying {source}", lambda say: checkpoints.take(pack, source, reads)))
        return
    from streamer.vision import hub

    # The bars are the client's own, a line a file; a spinner beside them would garble both.
    on_terminal = sys.stderr.isatty()
    print(hub.pull(checkpoints, pack, reads, lambda line: print(line, file=sys.stderr), bar=on_terminal))


def _told(first: str, work: Callable[[Callable[[str], None]], Path]) -> Path:
    """Do `work` while its lines are shown: one that changes on a terminal, one after the other in a pipe."""
    from rich.console import Console

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        return work(lambda line: print(line, file=sys.stderr))
    with console.status(first) as status:
        return work(status.update)


def _row(file: ModelFile) -> tuple[str, ...]:
    size = f"{file.bytes / 1e6:.1f} MB" if file.bytes else "-"
    return file.pack, file.file, file.status, size, file.licence, file.origin

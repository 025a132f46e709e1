"""`streamer eval`: names and masks on a data set, as JSON and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.service.settings import Settings


def evaluate(
    ctx: typer.Context,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder with gallery/, photos/, clips/.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the JSON there too.")] = None,
) -> None:
    """Measure right and wrong names, and how steady masks are, on photos and clips with known truth."""
    # Here, not above: the models' libraries take seconds to import.
    from streamer.evaluation.dataset import read_dataset
    from streamer.evaluation.run import evaluate as run

    settings: Settings = ctx.obj.settings()
    if settings.vision.engine in ("none", "synthetic"):
        raise ConfigError(f"engine {settings.vision.engine} names nobody; evaluate with --engine lite")
    found = read_dataset(dataset)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("loading models", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        report = run(found, settings, tell)
    _show(report, console)
    text = json.dumps(report, indent=1)
    if json_file is not None:
        _write(json_file, text)
    print(text)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {exc.strerror}; choose another file for --json") from exc


def _show(report: dict[str, Any], console: Console) -> None:
    photos = report["photos"]
    console.print(f"photos: {photos['true']} right, {photos['false']} wrong, {photos['missed']} missed")
    table = Table("CLIP", "FRAMES", "MEMBER", "RECALL", "FIRST NAME AFTER", "ID SWITCHES")
    for clip in report["clips"]["each"]:
        for shot in clip["shots"]:
            waited = shot["seconds_to_first_name"]
            table.add_row(
                clip["file"],
                f"{shot['from']}-{shot['to']}",
                shot["member"],
                f"{shot['recall']:.0%}",
                "never" if waited is None else f"{waited:.2f} s",
                str(shot["id_switches"]),
            )
    console.print(table)
    for clip in report["clips"]["each"]:
        console.print(
            f"{clip['file']}: wrong name in {clip['wrong_name_frames']} of {clip['frames']} frames, a name outlives "
            f"its shot by {clip['name_outlives_shot_frames']}, flicker {clip['mask_flicker']}, {clip['fps']} frames/s"
        )

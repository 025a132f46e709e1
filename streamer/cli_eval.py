"""`streamer eval`: names and masks on a data set, as JSON and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.errors import ConfigError
from streamer.service.settings_file import check_writable, write_setting

FALSE_NAME_RATE = 0.001
KEY = ("vision", "naming_margin")

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.service.settings import Settings


def evaluate(
    ctx: typer.Context,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder with gallery/, photos/, clips/.")],
    json_file: Annotated[Path | None, typer.Option("--json", metavar="F", help="Write the JSON there too.")] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Show false names against recall over vision.naming_margin, and write the margin for the wanted rate "
            "into the file of --config.",
        ),
    ] = False,
    false_name_rate: Annotated[
        float | None,
        typer.Option(
            "--false-name-rate",
            metavar="RATE",
            help=f"Of --calibrate: wanted false names per face looked at, 0 to 1.  [default: {FALSE_NAME_RATE}]",
        ),
    ] = None,
) -> None:
    """Measure right and wrong names, and how steady masks are, on photos and clips with known truth."""
    # Here, not above: the models' libraries take seconds to import.
    from streamer.evaluation.dataset import read_dataset
    from streamer.evaluation.run import evaluate as run

    if false_name_rate is not None and not calibrate:
        raise typer.BadParameter("it belongs to --calibrate", param_hint="--false-name-rate")
    if false_name_rate is not None and not 0 <= false_name_rate <= 1:
        raise typer.BadParameter(f"{false_name_rate} is not within 0 to 1", param_hint="--false-name-rate")
    wanted = (FALSE_NAME_RATE if false_name_rate is None else false_name_rate) if calibrate else None
    settings: Settings = ctx.obj.settings()
    if settings.vision.engine in ("none", "synthetic"):
        raise ConfigError(f"engine {settings.vision.engine} names nobody; evaluate with --engine lite")
    found = read_dataset(dataset)
    target: Path | None = ctx.obj.config if calibrate else None
    if target is not None:
        check_writable(target, *KEY)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("loading models", total=None)

        def tell(what: str, done: int, total: int) -> None:
            progress.update(bar, description=what, completed=done, total=total)

        report = run(found, settings, tell, wanted)
    # In a pipe there is no width to keep to, and rich would take 80 columns and cut names.
    wide = console if console.is_terminal else Console(stderr=True, width=110)
    _show(report, wide)
    if calibrate:
        report["calibration"]["written_to"] = _deliver(report["calibration"], target, wide)
    text = json.dumps(report, indent=1)
    if json_file is not None:
        _write(json_file, text)
    print(text)
    if calibrate and report["calibration"]["margin"] is None:
        raise ConfigError(
            f"no margin up to {report['calibration']['curve'][-1]['margin']:+.2f} keeps to {wanted:.2%} false names; "
            "nothing was written; add photos, take a better model pack, or ask for a higher --false-name-rate"
        )


def _deliver(calibration: dict[str, Any], target: Path | None, console: Console) -> str | None:
    """Show the curve, write the margin into `target`; the file written, or None."""
    from rich.table import Table

    margin = calibration["margin"]
    table = Table("MARGIN", "FALSE NAMES", "RECALL", "")
    for row in calibration["curve"]:
        chosen = "<- chosen" if row["margin"] == margin else ""
        rate = f"{row['false_name_rate']:.2%} ({row['false']} of {row['looked_at']})"
        table.add_row(f"{row['margin']:+.2f}", rate, f"{row['recall']:.1%}", chosen)
    console.print(table)
    if calibration["too_few_people_to_lower"]:
        console.print(
            f"The data set shows {calibration['people']} people (each shot counts anew): too few to show a rate of "
            f"{calibration['wanted_false_name_rate']:.2%}, so the margin is not taken below 0.",
            soft_wrap=True,
        )
    if margin is None:
        return None
    setting = ".".join(KEY)
    if target is None:
        console.print(f"{setting}: {margin} is not written anywhere; name the configuration file with --config FILE.")
        return None
    write_setting(target, *KEY, margin)
    console.print(f"wrote {setting}: {margin} into {target}", soft_wrap=True)
    return str(target)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {exc.strerror}; choose another file for --json") from exc


def _show(report: dict[str, Any], console: Console) -> None:
    from rich.table import Table

    for why in report["gallery"]["refused"]:
        console.print(f"not enrolled: {why}", soft_wrap=True)
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
    if not report["clips"]["each"]:
        return
    console.print(table)
    for clip in report["clips"]["each"]:
        console.print(
            f"{clip['file']}: wrong name in {clip['wrong_name_frames']} of {clip['frames']} frames, a name outlives "
            f"its shot by {clip['name_outlives_shot_frames']}, flicker {clip['mask_flicker']}, {clip['fps']} frames/s",
            soft_wrap=True,
        )
    console.print(f"peak memory {report['peak_memory_mb']} MB")

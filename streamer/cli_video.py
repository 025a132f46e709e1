"""`streamer video`: one or more members in a video file, segmented; a new file and its sidecar."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli_progress import EXIT_INTERRUPTED, Teller, stopped_by_signals
from streamer.tracks import STYLES

if TYPE_CHECKING:
    from rich.console import Console

    from streamer.offline.film import Look
    from streamer.offline.video import VideoResult
    from streamer.service.settings import Settings

StyleOption = Annotated[str | None, typer.Option("--style", metavar="STYLE", help=f"{', '.join(STYLES)}.")]
FancamOption = Annotated[
    str | None, typer.Option("--fancam", metavar="W:H", help="A crop of this shape that follows the member, as 9:16.")
]
TransparentOption = Annotated[
    bool, typer.Option("--transparent", help="The member alone, with alpha: ProRes 4444 (.mov) or VP9 (.webm).")
]
JsonOption = Annotated[bool, typer.Option("--progress-json", help="Progress and result as JSON lines on stdout.")]


def video(
    ctx: typer.Context,
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video file.")],
    member: Annotated[list[str], typer.Option("--member", metavar="NAME", help="Whom to follow; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help=".mp4, .mov or .mkv.")],
    prompt: Annotated[
        str | None, typer.Option("--object", metavar="TEXT", help="A part of the member: shirt, hair, …")
    ] = None,
    sidecar: Annotated[
        Path | None, typer.Option("--sidecar", metavar="FILE", help="JSON lines (default: beside the output).")
    ] = None,
    every: Annotated[int, typer.Option("--every", min=1, max=60, metavar="N", help="Look at every N-th frame.")] = 1,
    from_seconds: Annotated[
        float | None, typer.Option("--from", min=0, metavar="SECONDS", help="Where to begin.")
    ] = None,
    to_seconds: Annotated[float | None, typer.Option("--to", min=0, metavar="SECONDS", help="Where to end.")] = None,
    style: StyleOption = None,
    fancam: FancamOption = None,
    transparent: TransparentOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what a stopped run left.")] = False,
    progress_json: JsonOption = False,
) -> None:
    """Follow members through a video file. Ctrl-C ends in order: the files are whole so far, and --resume goes on.

    A finished file that is there already stays until the new one is whole; with --resume it is left as it is, or
    refused where it was made of another clip or with other options.
    """
    look = look_of(style, fancam, transparent)
    if from_seconds is not None and to_seconds is not None and to_seconds <= from_seconds:
        raise typer.BadParameter(f"{to_seconds:g} is not after --from {from_seconds:g}", param_hint="--to")
    settings: Settings = ctx.obj.settings()
    teller = Teller(progress_json)
    with stopped_by_signals() as stop, teller.showing():
        # Here, not above: the libraries of models and media take a second to import.
        from streamer.offline.cast import Cast
        from streamer.offline.sight import Sight, check_members
        from streamer.offline.video import VideoOrder, check_clip, finished, process

        cast = Cast.of(check_members(settings, member), prompt, look.style)
        order = VideoOrder(clip, out, cast, look, sidecar, every, from_seconds, to_seconds, resume)
        order.check()
        done = finished(order, settings)
        if done is None:
            check_clip(clip)
            teller.stage("loading models")
            sight = Sight.load(settings, teller.stage)
            if stop.is_set():
                raise typer.Exit(EXIT_INTERRUPTED)
            done = process(order, sight, teller, stop)
    deliver(done, teller)


def look_of(style: str | None, fancam: str | None, transparent: bool) -> Look:
    """What the options say. Raises `typer.BadParameter`."""
    from streamer.errors import ConfigError
    from streamer.offline.film import Look, parse_aspect

    if style is not None and style not in STYLES:
        raise typer.BadParameter(f"{style!r} is not one of {', '.join(STYLES)}", param_hint="--style")
    if transparent and style not in (None, "cutout"):
        raise typer.BadParameter(f"--transparent is a cut-out: style {style} does not fit", param_hint="--style")
    try:
        aspect = None if fancam is None else parse_aspect(fancam)
    except ConfigError as exc:
        raise typer.BadParameter(str(exc), param_hint="--fancam") from exc
    chosen: Any = style or ("cutout" if transparent else "annotated")
    return Look(chosen, aspect, transparent)


def deliver(done: VideoResult, teller: Teller) -> None:
    """Say what became of it; exit with 130 where it was stopped."""
    from rich.markup import escape

    teller.result(done.summary())
    console = teller.console
    if done.already:
        said = f"{escape(str(done.output))} is finished already; leave --resume out to make it anew"
        console.print(said, soft_wrap=True)
        return
    _table(done, console)
    if done.interrupted:
        if done.frames and done.sidecar is not None:
            console.print(f"stopped: {escape(str(done.output))} holds {done.frames} frames; --resume goes on with it")
        else:
            console.print("stopped; nothing was written")
        raise typer.Exit(EXIT_INTERRUPTED)


def _table(done: VideoResult, console: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("MEMBER", "SEEN ON", box=None, pad_edge=False)
    for name, frames in done.seen.items():
        share = f"{frames} of {done.frames} frames ({frames / max(done.frames, 1):.0%})"
        table.add_row(escape(name), share if frames else "never seen")
    console.print(table)
    for note in done.notes:
        console.print(f"note: {escape(note)}")
    rate = (done.frames - done.resumed_frames) / max(done.elapsed_seconds, 1e-6)
    size = f"{done.size[0]}x{done.size[1]}"
    console.print(
        f"{escape(str(done.output))}: {done.frames} frames, {done.seconds:.2f} s, {size}, {done.codec}; "
        f"{done.elapsed_seconds:.1f} s at {rate:.1f} fps",
        soft_wrap=True,
    )

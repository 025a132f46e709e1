"""`streamer render`: another style of a video that was seen before, from its sidecar, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.cli_progress import Teller, stopped_by_signals
from streamer.cli_video import FancamOption, JsonOption, StyleOption, TransparentOption, deliver, look_of


def render(
    ctx: typer.Context,
    clip: Annotated[
        Path, typer.Argument(metavar="CLIP", help="The video that was given to `streamer video`, or a recording.")
    ],
    sidecar: Annotated[Path, typer.Argument(metavar="SIDECAR", help="The .jsonl written beside its output.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help=".mp4, .mov or .mkv.")],
    member: Annotated[
        list[str] | None, typer.Option("--member", metavar="NAME", help="Whom to show or hide (default: all it names).")
    ] = None,
    style: StyleOption = None,
    fancam: FancamOption = None,
    transparent: TransparentOption = False,
    progress_json: JsonOption = False,
) -> None:
    """Make any style of a clip from its sidecar: no model is loaded."""
    look = look_of(style, fancam, transparent)
    settings = ctx.obj.settings()
    teller = Teller(progress_json)
    with stopped_by_signals() as stop, teller.showing():
        from streamer.offline.render import RenderOrder
        from streamer.offline.render import render as run

        order = RenderOrder(clip, sidecar, out, look, tuple(dict.fromkeys(member or ())))
        done = run(order, settings.video, teller, stop)
    deliver(done, teller)

"""`streamer bench`: measure on this machine; a table for people, JSON for programs."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.errors import ConfigError

if TYPE_CHECKING:
    from streamer.bench.live import Bench

app = typer.Typer(no_args_is_help=True)

Seconds = Annotated[
    float | None,
    typer.Option("--seconds", min=2, metavar="N", help="Length of each measurement (default: by scenario)."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers here; -: stdout.")]

_DEFAULT_SECONDS = {"none": 20.0, "quality": 10.0, "synthetic": 60.0, "lite": 30.0, "identity": 10.0}


@app.callback()
def bench() -> None:
    """Measure on this machine; compare figures of one machine and one run only."""


@app.command()
def live(
    ctx: typer.Context,
    json_file: JsonFile = None,
    seconds: Seconds = None,
    viewers: Annotated[int, typer.Option("--viewers", min=1, max=16, metavar="N", help="Of engine none.")] = 4,
    delay: Annotated[
        float, typer.Option("--delay", min=0, max=5, metavar="S", help="Of engine synthetic, seconds a frame.")
    ] = 0.1,
    soak: Annotated[
        float | None,
        typer.Option("--soak", min=10, metavar="SECONDS", help="Only this: viewers come and go for so long."),
    ] = None,
) -> None:
    """A published stream from glass to glass: rate, delay, CPU, memory, picture quality, start-up.

    Without --engine: none, quality, synthetic, lite and startup, one after the other. With --engine: that one alone.
    """
    with _bench(ctx) as made:
        _deliver(_live(made, ctx.obj.engine, seconds, viewers, delay, soak), json_file)


@app.command()
def startup(ctx: typer.Context, json_file: JsonFile = None) -> None:
    """Time from `streamer up` to the first annotated picture in a viewer, with models on disk."""
    from streamer.bench.startup import startup as measure

    with _bench(ctx) as made:
        _deliver({"startup": measure(made)}, json_file)


@app.command()
def identity(ctx: typer.Context, json_file: JsonFile = None, seconds: Seconds = None) -> None:
    """What looking for faces and comparing them costs of a frame while names are stable (CPU time)."""
    from streamer.bench.identity import identity as measure

    with _bench(ctx) as made:
        settings = ctx.obj.settings(vision={"engine": ctx.obj.engine or "lite"})
        _deliver({"identity": measure(made, settings, seconds or _DEFAULT_SECONDS["identity"])}, json_file)


@app.command()
def offline(ctx: typer.Context, seconds: Seconds = None, json_file: JsonFile = None) -> None:
    """Photos, video files at three sizes and rendering again: speed, CPU time, memory."""
    from streamer.bench.offline import offline as measure

    if ctx.obj.engine not in (None, "lite"):
        raise ConfigError(f"no offline benchmark for engine {ctx.obj.engine!r}; there is lite")
    with _bench(ctx) as made:
        _deliver({"offline": measure(made, 12.0 if seconds is None else seconds)}, json_file)


@app.command()
def smoothing(
    ctx: typer.Context,
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="A video with people.")],
    strength: Annotated[
        float | None, typer.Option("--strength", min=0, max=1, metavar="S", help="Instead of vision.smoothing.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Flicker of masks before and after smoothing, and how far smoothed masks are from raw ones on fast motion."""
    from rich.console import Console

    from streamer.bench.smoothing import smoothing as measure

    settings = ctx.obj.settings(vision={"smoothing": strength})
    with Console(stderr=True).status("loading models") as status:
        numbers = measure(clip, settings, lambda line, *_: status.update(line))
    _deliver({"smoothing": numbers}, json_file)


@app.command()
def engine(
    ctx: typer.Context,
    objects: Annotated[int, typer.Option("--objects", min=1, max=16, metavar="N", help="People followed at once.")] = 2,
    frames: Annotated[int, typer.Option("--frames", min=3, metavar="N", help="Frames that are measured.")] = 30,
    size: Annotated[int | None, typer.Option("--size", metavar="PIXELS", help="SAM 3's input: 1008, 672, 336.")] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="TYPE", help="Of SAM: bfloat16, float16, float32.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option("--checkpoint", metavar="NAME", help="Of SAM: sam3, sam2, edgetam, or a folder.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Of SAM: the architecture at full size, without a checkpoint.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Each stage of a mask engine: ms, GFLOP, share of this device's measured peak; memory over time."""
    from streamer.bench.engine_run import measure

    sam3 = {"image_size": size, "dtype": dtype, "checkpoint": checkpoint}
    settings = ctx.obj.settings()
    chosen = {"sam3": settings.vision.sam3.model_dump() | {key: value for key, value in sam3.items() if value}}
    settings = ctx.obj.settings(vision={"engine": ctx.obj.engine or settings.vision.engine, **chosen})
    _deliver({"engine": measure(settings, objects, frames, random_weights)}, json_file)


def _live(
    made: Bench, engine: str | None, seconds: float | None, viewers: int, delay: float, soak: float | None
) -> dict[str, Any]:
    from streamer.bench import live as scenarios
    from streamer.bench.soak import soak as run_soak
    from streamer.bench.startup import startup as measure_startup

    if soak is not None:
        return {"soak": run_soak(made, soak, engine or "lite")}

    def length(name: str) -> float:
        return seconds if seconds is not None else _DEFAULT_SECONDS[name]

    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "none": lambda: scenarios.transport(made, length("none"), viewers),
        "quality": lambda: scenarios.quality(made, length("quality")),
        "synthetic": lambda: scenarios.synthetic(made, length("synthetic"), delay),
        "lite": lambda: scenarios.lite(made, length("lite")),
        "startup": lambda: measure_startup(made),
    }
    chosen = {None: list(steps), "none": ["none", "quality"]}.get(engine, [engine or ""])
    if unknown := [name for name in chosen if name not in steps]:
        raise ConfigError(f"no live benchmark for engine {unknown[0]!r}; there are none, synthetic and lite")
    return {name: steps[name]() for name in chosen}


@contextmanager
def _bench(ctx: typer.Context) -> Iterator[Bench]:
    """The folder, the models and the progress line of one run. A signal ends the run in order, as Ctrl-C does."""
    from rich.console import Console

    from streamer.bench.live import Bench
    from streamer.vision.models import ModelStore

    settings = ctx.obj.settings()
    console = Console(stderr=True)
    usual = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="streamer-bench-") as folder,
            console.status("starting") as status,
        ):
            store = ModelStore(settings.data_folder)
            if ctx.obj.engine in (None, "lite"):
                store.ensure(settings.vision.pack, status.update)
            yield Bench(Path(folder), settings.data_folder, ctx.obj.config, status.update)
    except KeyboardInterrupt:
        console.print("interrupted; every process is ended")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, usual)


def _deliver(numbers: dict[str, Any], json_file: Path | None) -> None:
    from streamer.bench.report import print_table
    from streamer.bench.results import machine, rounded

    report = rounded({"machine": machine(), **numbers})
    text = json.dumps(report, indent=2)
    if json_file == Path("-"):
        print(text)
        return
    print_table(report)
    if json_file is None:
        print(text)
        return
    try:
        json_file.write_text(text + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"cannot write {json_file}: {exc.strerror}; the numbers are in the table above") from exc

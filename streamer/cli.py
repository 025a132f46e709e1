"""The command line: global options, the commands, and what an error looks like to a user.

Exit status 0: done; 1: failed, with one line on stderr; 2: wrong usage. `--verbose` adds the log and tracebacks.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_args

import typer
from typer.core import TyperGroup

from streamer import (
    __version__,
    cli_doctor,
    cli_eval,
    cli_image,
    cli_members,
    cli_models,
    cli_render,
    cli_up,
    cli_video,
)
from streamer.bench import cli as cli_bench
from streamer.errors import StreamerError, redact
from streamer.service.settings import Settings, VisionSettings, load

ENGINES: tuple[str, ...] = get_args(VisionSettings.model_fields["engine"].annotation)

_WITH_VALUE = ("--config", "--data-dir", "--engine")
_FLAGS = ("--verbose",)


class Globals:
    """What the global options say. `ctx.obj` of every command."""

    def __init__(self, config: Path | None, data_dir: Path | None, engine: str | None, verbose: bool) -> None:
        self.config = config
        self.data_dir = data_dir
        self.engine = engine
        self.verbose = verbose

    def settings(self, **sections: Mapping[str, Any]) -> Settings:
        """Settings with the command line on top: `settings(service={"port": 0})`; a value of None says nothing.

        Raises:
            ConfigError: the file or a value cannot be used.
        """
        overrides: dict[str, Any] = {}
        if self.data_dir is not None:
            overrides["data_dir"] = self.data_dir.expanduser().absolute()
        for section, values in {"vision": {"engine": self.engine}, **sections}.items():
            said = {key: value for key, value in values.items() if value is not None}
            if said:
                overrides[section] = said
        return load(self.config, overrides)


class _Root(TyperGroup):
    """Takes the global options after the command as well as before it: `streamer up --engine lite`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoist(args))


def hoist(args: list[str]) -> list[str]:
    """`args` with the global options moved to the front; what follows `--` stays where it is."""
    front: list[str] = []
    rest: list[str] = []
    remaining = list(args)
    while remaining:
        arg = remaining.pop(0)
        if arg == "--":
            rest += [arg, *remaining]
            break
        if arg in _FLAGS or arg.partition("=")[0] in _WITH_VALUE:
            front.append(arg)
            if arg in _WITH_VALUE and remaining:
                front.append(remaining.pop(0))
        else:
            rest.append(arg)
    return front + rest


app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="The global options may also follow the command: streamer up --engine lite",
)
app.command("up")(cli_up.up)
app.command("serve")(cli_up.serve)
app.command("doctor")(cli_doctor.doctor)
app.command("image")(cli_image.image)
app.command("video")(cli_video.video)
app.command("render")(cli_render.render)
app.command("eval")(cli_eval.evaluate)
app.add_typer(cli_members.app, name="members", help="People known by name: add, list, edit, remove, import, export.")
app.add_typer(cli_models.app, name="models", help="Model files: list, pull.")
app.add_typer(cli_bench.app, name="bench", help="Measure; prints JSON.")


def _folder(text: str) -> Path:
    if not text:
        raise typer.BadParameter("is empty; give a folder, or leave it out")
    return Path(text)


@app.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML; keys as in configs/default.yaml.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", parser=_folder, metavar="DIR", help="Gallery, recordings, models. [env: STREAMER_DATA_DIR]"
        ),
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="NAME", help=f"Mask engine: {', '.join(ENGINES)}.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more, and show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Identity-aware live video segmentation: pick a person by name, watch exactly that person segmented."""
    if version:
        print(__version__)
        raise typer.Exit
    if engine is not None and engine not in ENGINES:
        raise typer.BadParameter(f"{engine!r} is not one of {', '.join(ENGINES)}", param_hint="--engine")
    ctx.with_resource(logging_to_stderr(verbose))
    ctx.obj = Globals(config, data_dir, engine, verbose)


@contextlib.contextmanager
def logging_to_stderr(verbose: bool) -> Iterator[None]:
    """Log to stderr: warnings, or with `verbose` what happens; credentials in URLs are blotted out of every line.

    Afterwards all is as before: stderr may be another one then, and this one closed.
    """
    root, httpx = logging.getLogger(), logging.getLogger("httpx")
    levels, handlers = (root.level, httpx.level), root.handlers[:]
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    httpx.setLevel(logging.WARNING)  # a line a request says nothing
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        httpx.setLevel(levels[1])


class _Redacting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def main() -> None:
    """Entry point of the `streamer` command."""
    try:
        app(prog_name="streamer")
    except StreamerError as exc:
        _fail(str(exc))
    except Exception as exc:
        hint = "" if _is_verbose() else "; run it again with --verbose for the traceback"
        _fail(f"unexpected {type(exc).__name__}: {redact(' '.join(str(exc).split()))}{hint}")


def _fail(line: str) -> NoReturn:
    if _is_verbose():
        print(redact(traceback.format_exc()), file=sys.stderr, end="")
    print(f"streamer: {line}", file=sys.stderr)
    sys.exit(1)


def _is_verbose() -> bool:
    return "--verbose" in sys.argv[1:]

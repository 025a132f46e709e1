"""`streamer serve`: the service. `streamer up`: the service, the dashboard and a stream, all ended together."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from streamer.children import Child
from streamer.errors import ConfigError, SourceUnusable, StreamerError

if TYPE_CHECKING:
    import httpx

    from streamer.service.settings import Settings

DEMO_MEMBER = "eileen"
"""Whom the demo follows; enrolled by the service when a demo stream is made."""

START_SECONDS = 60.0
"""Longest time until the service and the dashboard answer."""

VISION_SECONDS = 300.0
"""Longest time until the models are loaded."""

UPLOAD_MIB = 500
"""Largest file that the dashboard itself takes: an archive of members. Videos go past it, straight to the service."""

LISTENING = "listening on "

Port = Annotated[int | None, typer.Option("--port", metavar="P", min=0, max=65535, help="0: any free one.")]
DashboardPort = Annotated[
    int | None, typer.Option("--dashboard-port", metavar="P", min=0, max=65535, help="Whose pages may call the API.")
]


def serve(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="H", help="Other than loopback needs STREAMER_TOKEN.")
    ] = None,
    port: Port = None,
    dashboard_port: DashboardPort = None,
) -> None:
    """Run the service alone, until Ctrl-C."""
    from streamer.service.run import serve as run_service

    settings = ctx.obj.settings(service={"host": host, "port": port, "dashboard_port": dashboard_port})
    run_service(settings, lambda address: print(f"{LISTENING}{address}", flush=True))


def up(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Option("--source", metavar="SOURCE", help="demo, webcam, rtsp://… or a video file.")
    ] = "demo",
    member: Annotated[str | None, typer.Option("--member", metavar="NAME", help="Whom to follow.")] = None,
    object_: Annotated[
        str | None, typer.Option("--object", metavar="TEXT", help="An object on that person: shirt, hair.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the dashboard.")] = True,
    port: Port = None,
    dashboard_port: DashboardPort = None,
) -> None:
    """Run the service and the dashboard with a stream playing, until Ctrl-C."""
    wanted = source_of(source)
    settings = ctx.obj.settings(service={"port": port, "dashboard_port": dashboard_port})
    dashboard = _dashboard_file()
    from streamer.service.settings import check_binding

    check_binding(settings)
    if settings.service.port == settings.service.dashboard_port != 0:
        raise ConfigError(
            f"service and dashboard are both to have port {settings.service.port}; choose another with --dashboard-port"
        )
    settings.service.dashboard_port = _free_port(settings.service.dashboard_port)
    from rich.console import Console

    console = Console(stderr=True)
    with _ended_by_signals(), ExitStack() as stack:
        try:
            status = stack.enter_context(console.status("starting")) if console.is_terminal else None
            say: Callable[[str], None] = status.update if status else lambda _line: None
            up_ = _Up(ctx.obj, settings, say, stack)
            url = up_.start(wanted, member, object_, dashboard)
            if status:
                status.stop()
            print(f"playing on {url}", flush=True)
            print("Ctrl-C ends it", file=sys.stderr)
            if browser and _has_display():
                webbrowser.open(url)
            up_.wait()
        except KeyboardInterrupt:
            say("stopping")


def source_of(text: str) -> dict[str, Any]:
    """The API's source for the word, URL or path that a user gave. Raises `SourceUnusable`."""
    if text == "demo":
        return {"kind": "demo"}
    if text == "webcam":
        return {"kind": "whip"}
    if "://" in text:
        if text.lower().startswith(("rtsp://", "rtsps://")):
            return {"kind": "rtsp", "url": text}
        raise SourceUnusable(f"--source {text}: only rtsp:// and rtsps:// are cameras; give a file's path for a file")
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise SourceUnusable(f"--source {text}: there is no such file; give demo, webcam, rtsp://… or a video file")
    return {"kind": "file", "path": str(path), "loop": True}


class _Up:
    """The service and the dashboard as children, and what is asked of them."""

    def __init__(self, options: Any, settings: Settings, say: Callable[[str], None], stack: ExitStack) -> None:
        self._options = options
        self._settings = settings
        self._say = say
        self._stack = stack
        self._children: list[Child] = []

    def start(self, source: dict[str, Any], member: str | None, object_: str | None, dashboard: Path) -> str:
        """Bring everything up; the address of the page that plays the stream."""
        self._fetch_models()
        self._say("starting the service")
        service = self._child(Child("service", "streamer", self._serve_args()))
        base = self._until(lambda: service.line_with(LISTENING), START_SECONDS, "the service to listen")
        base = _reachable(base)
        port = self._settings.service.dashboard_port
        env = {"STREAMER_API": base}
        if self._settings.token:
            env["STREAMER_TOKEN"] = self._settings.token
        if self._settings.webrtc.ice_servers:
            servers = [server.model_dump(exclude_none=True) for server in self._settings.webrtc.ice_servers]
            env["STREAMER_ICE_SERVERS"] = json.dumps(servers)
        self._child(Child("dashboard", "streamlit", _streamlit_args(dashboard, port), env))
        import httpx

        headers = {"Authorization": f"Bearer {self._settings.token}"} if self._settings.token else {}
        with httpx.Client(base_url=base, headers=headers, timeout=VISION_SECONDS, trust_env=False) as api:
            return self._play(api, source, member, object_)

    def wait(self) -> None:
        """Until a child ends by itself (`ChildEnded`) or a signal comes (`KeyboardInterrupt`)."""
        for child in self._children:
            child.echo = self._options.verbose or child.name == "service"
        while True:
            self._check()
            time.sleep(0.2)

    def _play(self, api: httpx.Client, source: dict[str, Any], member: str | None, object_: str | None) -> str:
        self._say("loading the models")
        self._until(lambda: _is_ready(api), VISION_SECONDS, "vision to be ready")
        self._say("opening the source")
        stream = _answer(api.post("/api/streams", json={"source": source, "member": member, "object": object_}))
        # The service enrols the demo's people where nobody is enrolled yet; then there is somebody to follow.
        if source["kind"] == "demo" and member is None and DEMO_MEMBER in _names(api):
            _answer(api.patch(f"/api/streams/{stream['id']}", json={"member": DEMO_MEMBER}))
        self._say("starting the dashboard")
        page = f"http://127.0.0.1:{self._settings.service.dashboard_port}"
        self._until(lambda: _answers(f"{page}/_stcore/health"), START_SECONDS, "the dashboard to answer")
        return f"{page}/?{urlencode({'stream': stream['id']})}"

    def _fetch_models(self) -> None:
        vision = self._settings.vision
        if vision.engine not in ("lite", "sam3"):
            return
        from streamer.vision.checkpoints import CheckpointStore
        from streamer.vision.models import ModelStore

        self._say("models: checking")
        if vision.engine == "sam3":  # gigabytes behind a licence: never fetched unasked
            CheckpointStore(self._settings.data_folder).ensure(vision.sam3.checkpoint, vision.sam3.backend)
        ModelStore(self._settings.data_folder).ensure(vision.pack, self._say)

    def _serve_args(self) -> list[str]:
        options, service = self._options, self._settings.service
        args = ["serve", "--host", service.host, "--port", str(service.port)]
        args += ["--dashboard-port", str(service.dashboard_port)]
        for name, value in (
            ("--config", options.config),
            ("--data-dir", options.data_dir),
            ("--engine", options.engine),
        ):
            args += [name, str(value)] if value is not None else []
        return args + (["--verbose"] if options.verbose else [])

    def _child(self, child: Child) -> Child:
        child.echo = self._options.verbose
        self._children.append(self._stack.enter_context(child))
        return child

    def _check(self) -> None:
        for child in self._children:
            child.check()

    def _until(self, ready: Callable[[], Any], seconds: float, what: str) -> Any:
        """What `ready` gives once it is true. Raises when a child ends first, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not (value := ready()):
            self._check()
            if time.monotonic() > deadline:
                raise StreamerError(f"waited {seconds:.0f} s for {what}; run it again with --verbose to see why")
            time.sleep(0.05)
        return value


def _answer(response: httpx.Response) -> Any:
    """The JSON of a good answer. Raises `StreamerError` with the problem's detail."""
    if response.is_success:
        return response.json()
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"the service answered {response.status_code} to {response.request.method} {response.request.url.path}"
    raise StreamerError(detail)


def _names(api: httpx.Client) -> list[str]:
    return [str(member["name"]) for member in _answer(api.get("/api/members"))]


def _is_ready(api: httpx.Client) -> bool:
    answer = api.get("/readyz")
    if answer.status_code == 503 and any("failed" in reason for reason in answer.json()["reasons"]):
        raise StreamerError("; ".join(answer.json()["reasons"]))
    return answer.is_success


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _streamlit_args(script: Path, port: int) -> list[str]:
    flags = {
        "server.port": port,
        "server.address": "127.0.0.1",
        "server.headless": "true",
        "server.maxUploadSize": UPLOAD_MIB,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "minimal",
        # Set for both, not at the top: that would make one theme of its own and ignore the system's choice of dark.
        "theme.light.primaryColor": "#3d8bfd",
        "theme.dark.primaryColor": "#3d8bfd",
    }
    return ["run", str(script), *(f"--{key}={value}" for key, value in flags.items())]


def _dashboard_file() -> Path:
    if importlib.util.find_spec("streamlit") is None:
        raise ConfigError("the dashboard needs Streamlit: pip install -e '.[ui]'")
    spec = importlib.util.find_spec("ui")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        if (Path(folder) / "player").is_dir():
            return Path(folder) / "app.py"
    raise ConfigError("the dashboard's files (ui/) are not installed; reinstall the package")


def _free_port(port: int) -> int:
    """`port`, checked, or a free one for 0. (Streamlit binds it itself a moment later.)"""
    from streamer.service.run import listen

    try:
        with listen("127.0.0.1", port) as bound:
            return int(bound.getsockname()[1])
    except ConfigError as exc:
        raise ConfigError(f"dashboard: {str(exc).replace('--port', '--dashboard-port')}") from exc


def _reachable(address: str) -> str:
    """A wildcard is no address to call; this machine answers there on loopback too."""
    return address.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal end `up` as Ctrl-C does. A second signal does not disturb the end."""

    def interrupt(_number: int, _frame: object) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    signals = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


__all__ = ["LISTENING", "serve", "source_of", "up"]

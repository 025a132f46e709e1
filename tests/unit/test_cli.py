"""The command line as a user runs it: real processes for what ends a process, the parser in this one for the rest."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamer import cli, cli_up
from streamer.children import Child, ChildEnded
from streamer.cli import hoist
from streamer.cli_doctor import Check, examine
from streamer.errors import ConfigError, SourceUnusable
from streamer.service.run import address_of, listen
from streamer.service.settings import load

GONE_SECONDS = 10.0


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.app, list(args))


def run(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", *args]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **(env or {})}
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_gone(pid: int) -> bool:
    deadline = time.monotonic() + GONE_SECONDS
    while alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# Usage and errors


def test_help_names_every_command() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for command in ("up", "serve", "members", "models", "doctor", "bench"):
        assert command in result.output


@pytest.mark.parametrize(
    "args", [("nonsense",), ("serve", "--port", "abc"), ("serve", "--port", "70000"), ("--engine", "sam9", "doctor")]
)
def test_wrong_usage_is_status_2(args: tuple[str, ...]) -> None:
    assert invoke(*args).exit_code == 2


@pytest.mark.parametrize(
    ("args", "moved"),
    [
        (["up", "--engine", "lite"], ["--engine", "lite", "up"]),
        (["up", "--engine=lite", "--port", "1"], ["--engine=lite", "up", "--port", "1"]),
        (["--verbose", "members", "add", "rei", "a.jpg", "--data-dir", "d"], None),
        (["members", "remove", "--", "--verbose"], ["members", "remove", "--", "--verbose"]),
        (["serve", "--config"], ["--config", "serve"]),
    ],
)
def test_global_options_may_follow_the_command(args: list[str], moved: list[str] | None) -> None:
    assert hoist(args) == (moved or ["--verbose", "--data-dir", "d", "members", "add", "rei", "a.jpg"])


def test_global_options_reach_the_settings(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("service: {port: 1234}\nvision: {engine: none, threads: 3}\n")
    settings = cli.Globals(config, tmp_path, "synthetic", False).settings(service={"port": None, "max_streams": 2})
    assert settings.service.port == 1234
    assert settings.service.max_streams == 2
    assert settings.vision.engine == "synthetic"
    assert settings.vision.threads == 3
    assert settings.data_folder == tmp_path


def test_an_error_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    done = run("--config", str(tmp_path / "nothing.yaml"), "models", "list")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("streamer: cannot read configuration")
    assert len(done.stderr.splitlines()) == 1


def test_verbose_shows_the_traceback_too(tmp_path: Path) -> None:
    done = run("models", "list", "--config", str(tmp_path / "nothing.yaml"), "--verbose")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("streamer: cannot read configuration")


def test_a_taken_port_is_one_clear_line(data_dir: Path, taken_port: int) -> None:
    done = run("serve", "--port", str(taken_port), "--data-dir", str(data_dir))
    assert done.returncode == 1
    assert done.stderr.startswith(f"streamer: port {taken_port} on 127.0.0.1 is taken")
    assert len(done.stderr.splitlines()) == 1


def test_another_address_without_a_token_is_refused(data_dir: Path) -> None:
    done = run("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(data_dir))
    assert done.returncode == 1
    assert "STREAMER_TOKEN" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_data_folder_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    done = run("serve", "--port", "0", "--engine", "none", "--data-dir", str(blocker / "data"))
    assert done.returncode == 1
    assert str(blocker) in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Ports


def test_port_0_takes_a_free_one() -> None:
    with listen("127.0.0.1", 0) as bound:
        assert bound.getsockname()[1] > 0
        assert address_of(bound, "127.0.0.1") == f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.7"])
def test_a_host_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="this machine"):
        listen(host, 0)


# Sources of `up`


def test_sources_are_told_apart(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"x")
    assert cli_up.source_of("demo") == {"kind": "demo"}
    assert cli_up.source_of("webcam") == {"kind": "whip"}
    assert cli_up.source_of("rtsp://u:p@camera/1") == {"kind": "rtsp", "url": "rtsp://u:p@camera/1"}
    assert cli_up.source_of(str(clip)) == {"kind": "file", "path": str(clip), "loop": True}


@pytest.mark.parametrize("text", ["nothing.mp4", "https://user:hunter2@site/video", ""])
def test_a_source_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SourceUnusable) as error:
        cli_up.source_of(text)
    assert "hunter2" not in str(error.value)


# Children


def test_a_child_that_ends_says_why() -> None:
    with Child("service", "streamer", ["models", "pull", "nonsense"]) as child:
        assert wait_gone(child.pid)
        with pytest.raises(ChildEnded, match=r"the service ended \(exit status 1\): there is no pack 'nonsense'"):
            child.check()


def test_a_child_ends_when_it_is_closed_and_closing_twice_is_fine() -> None:
    child = Child("waiter", "tests.unit.waiter", [])
    try:
        deadline = time.monotonic() + GONE_SECONDS
        while child.line_with("waiting ") is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.check()
        grandchild = int(child.line_with("waiting ") or 0)
    finally:
        child.close()
    child.close()
    assert wait_gone(child.pid)
    assert wait_gone(grandchild)


def test_children_end_when_their_parent_is_killed() -> None:
    script = (
        "import time\n"
        "from streamer.children import Child\n"
        "child = Child('waiter', 'tests.unit.waiter', [])\n"
        "while child.line_with('waiting ') is None: time.sleep(0.02)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert wait_gone(pid)


# Doctor


def test_the_doctor_looks_at_everything(data_dir: Path) -> None:
    checks = list(examine(load(None, {"data_dir": data_dir, "service": {"port": 0, "dashboard_port": 0}})))
    names = " ".join(check.name for check in checks)
    for part in (
        "python",
        "onnxruntime",
        "model lite/",
        "model embedded/",
        "insightface",
        "H.264 decoder",
        "encoder x264",
        "encoder NVENC",
        "data folder",
        "disk",
        "port of the service",
        "port of the dashboard",
        "UDP",
        "streamlit",
        "chromium",
    ):
        assert part in names
    assert all(check.action for check in checks if check.level == "warn")
    licences = [check.found for check in checks if check.name.startswith("model ")]
    assert any("Apache-2.0" in text for text in licences)
    assert any("non-commercial" in text for text in licences)


def test_the_doctor_fails_where_something_fails(tmp_path: Path, taken_port: int) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    config = tmp_path / "c.yaml"
    config.write_text(f"service: {{port: {taken_port}, dashboard_port: 0}}\n")
    done = run("doctor", "--json", "--config", str(config), "--data-dir", str(blocker / "data"))
    assert done.returncode == 1
    checks = {check["name"]: Check(**check) for check in json.loads(done.stdout)}
    for name in ("port of the service", "data folder"):
        assert checks[name].level == "fail"
        assert checks[name].action


# Models


def test_models_are_listed_with_state_and_licence(data_dir: Path) -> None:
    result = invoke("models", "list", "--data-dir", str(data_dir))
    assert result.exit_code == 0
    assert "pose_full_seg.onnx" in result.output
    assert "Apache-2.0" in result.output
    assert "missing" in result.output
    files = json.loads(invoke("models", "list", "--json", "--data-dir", str(data_dir)).output)
    assert {"pack", "file", "status", "licence", "origin"} <= files[0].keys()


def test_an_unknown_pack_is_refused_by_name() -> None:
    done = run("models", "pull", "buffalo_xxl")
    assert done.returncode == 1
    assert "embedded" in done.stderr
    assert len(done.stderr.splitlines()) == 1

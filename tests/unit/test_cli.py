"""The command line in this process; `tests/loopback/test_processes.py` runs it as processes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from streamer import cli, cli_up
from streamer.cli import hoist
from streamer.errors import ConfigError, SourceUnusable
from streamer.service.run import address_of, listen


def invoke(*args: str) -> Result:
    return CliRunner().invoke(cli.app, list(args))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command's entry point in this process: (exit status, stdout, stderr)."""

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["streamer", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


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


def test_an_error_is_one_line_without_a_traceback(run: Run, tmp_path: Path) -> None:
    status, out, err = run("--config", str(tmp_path / "nothing.yaml"), "models", "list")
    assert status == 1
    assert out == ""
    assert err.startswith("streamer: cannot read configuration")
    assert len(err.splitlines()) == 1


def test_verbose_shows_the_traceback_too(run: Run, tmp_path: Path) -> None:
    status, _, err = run("models", "list", "--config", str(tmp_path / "nothing.yaml"), "--verbose")
    assert status == 1
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("streamer: cannot read configuration")


def test_a_bug_is_one_line_with_a_hint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("rtsp://admin:hunter2@camera/1")

    monkeypatch.setattr(cli.Globals, "settings", broken)
    status, _, err = run("models", "list")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "KeyError" in err
    assert "--verbose" in err
    assert "hunter2" not in err


def test_the_log_hides_credentials(capsys: pytest.CaptureFixture[str]) -> None:
    with cli.logging_to_stderr(verbose=True):
        logging.getLogger("streamer.test").info("opening %s", "rtsp://admin:hunter2@camera/1")
    assert "rtsp://***@camera/1" in capsys.readouterr().err


@pytest.mark.parametrize("command", [("models", "list"), ("members", "remove", "nobody")])
def test_a_command_leaves_logging_as_it_was(data_dir: Path, command: tuple[str, ...]) -> None:
    """Who runs one inside a process of their own, as tests do, must not be left a handler whose stream is closed."""
    root = logging.getLogger()
    before = (root.level, logging.getLogger("httpx").level, list(root.handlers))
    invoke("--verbose", "--data-dir", str(data_dir), *command)
    assert (root.level, logging.getLogger("httpx").level, list(root.handlers)) == before


def test_an_empty_data_folder_is_not_the_present_one(run: Run) -> None:
    status, _, err = run("members", "list", "--data-dir", "")
    assert status == 2
    assert "--data-dir" in err
    assert "is empty" in err


def test_service_and_dashboard_cannot_share_a_port(run: Run, data_dir: Path) -> None:
    status, _, err = run(
        "up", "--port", "8123", "--dashboard-port", "8123", "--no-browser", "--data-dir", str(data_dir)
    )
    assert status == 1
    assert "both to have port 8123" in err


def test_a_taken_port_is_one_clear_line(run: Run, data_dir: Path, taken_port: int) -> None:
    status, _, err = run("serve", "--port", str(taken_port), "--data-dir", str(data_dir))
    assert status == 1
    assert err.startswith(f"streamer: port {taken_port} on 127.0.0.1 is taken")
    assert len(err.splitlines()) == 1


def test_another_address_without_a_token_is_refused(run: Run, data_dir: Path) -> None:
    status, _, err = run("serve", "--host", "0.0.0.0", "--port", "0", "--data-dir", str(data_dir))
    assert status == 1
    assert "STREAMER_TOKEN" in err
    assert len(err.splitlines()) == 1


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


# Models


def test_up_with_sam3_says_at_once_how_to_get_the_checkpoint(run: Run, data_dir: Path) -> None:
    ports = ("--port", "0", "--dashboard-port", "0", "--no-browser")
    status, _, err = run("up", "--engine", "sam3", *ports, "--data-dir", str(data_dir))
    assert status == 1
    assert err.splitlines()[-1].startswith("streamer: checkpoint sam3 is not here; run `streamer models pull sam3`")


def test_models_are_listed_with_state_and_licence(data_dir: Path) -> None:
    result = invoke("models", "list", "--data-dir", str(data_dir))
    assert result.exit_code == 0
    assert "pose_full_seg.onnx" in result.output
    assert "Apache-2.0" in result.output
    assert "missing" in result.output
    files = json.loads(invoke("models", "list", "--json", "--data-dir", str(data_dir)).output)
    assert {"pack", "file", "status", "licence", "origin"} <= files[0].keys()


def test_an_unknown_pack_is_refused_by_name(run: Run) -> None:
    status, _, err = run("models", "pull", "buffalo_xxl")
    assert status == 1
    assert "embedded" in err
    assert len(err.splitlines()) == 1

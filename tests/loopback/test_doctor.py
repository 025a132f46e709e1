"""The doctor on this machine: it loads a model runtime in a process of its own, and opens ports and codecs."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer import cli
from streamer.cli_doctor import Check, examine
from streamer.service.settings import load


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


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
    args = ["doctor", "--json", "--config", str(config), "--data-dir", str(blocker / "data")]
    result = CliRunner().invoke(cli.app, args)
    assert result.exit_code == 1
    checks = {check["name"]: Check(**check) for check in json.loads(result.stdout)}
    for name in ("port of the service", "data folder"):
        assert checks[name].level == "fail"
        assert checks[name].action

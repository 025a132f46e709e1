"""The doctor on this machine: it loads a model runtime in a process of its own, and opens ports and codecs."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer import cli
from streamer.cli_doctor import Check, examine
from streamer.cli_doctor_ports import port_checks
from streamer.errors import ConfigError
from streamer.service.app import create_app
from streamer.service.settings import load
from streamer.vision.shared import free_bytes


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
        "shared memory",
        "WebRTC",
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


@pytest.mark.skipif(free_bytes() is None, reason="the system does not say how much shared memory is left")
def test_the_doctor_says_where_there_is_too_little_shared_memory(data_dir: Path) -> None:
    service = {"port": 0, "dashboard_port": 0}

    def found(streams: int) -> Check:
        settings = load(None, {"data_dir": data_dir, "service": service | {"max_streams": streams}})
        return next(check for check in examine(settings) if check.name == "shared memory")

    assert found(1).level == "ok"
    short = found(10**6)
    assert short.level == "warn"
    assert "1000000 streams of 1920x1080 take" in short.found
    assert "--shm-size" in short.action


def test_wrong_addresses_of_webrtc_are_found_before_the_first_stream(data_dir: Path) -> None:
    own = {"data_dir": data_dir, "service": {"port": 0, "dashboard_port": 0}}
    for webrtc, found in (
        ({"interfaces": ["203.0.113.9"]}, "203.0.113.9 is not an address of this machine"),
        ({"ice_servers": [{"urls": "foo:bar"}]}, "webrtc.ice_servers"),
    ):
        settings = load(None, own | {"webrtc": webrtc})
        check = next(check for check in examine(settings) if check.name == "WebRTC")
        assert check.level == "fail"
        assert found in check.found
        assert check.action
        with pytest.raises(ConfigError, match=found):
            create_app(settings)


class Answering(threading.Thread):
    """Somebody on a port of 127.0.0.1 who says the same to everybody; with `drips`, a byte now and then, for ever."""

    def __init__(self, said: bytes, drips: bool = False) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._said = said
        self._drips = drips
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                asking, _ = self._listening.accept()
                with asking, contextlib.suppress(OSError):
                    asking.recv(1000)
                    asking.sendall(self._said)
                    while self._drips and not self._over.wait(0.05):
                        asking.sendall(b" ")

    def close(self) -> None:
        self._over.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.join()


OTHERS = (b"", b"\x00\xff" * 100, b"HTTP/1.1 200 OK\r\n\r\n<html>", b"HTTP/1.1 200 OK\r\n\r\n{}", b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("said", OTHERS)
def test_the_doctor_tells_strangers_on_the_ports(data_dir: Path, said: bytes) -> None:
    stranger = Answering(said)
    try:
        ports = {"port": stranger.port, "dashboard_port": stranger.port}
        checks = port_checks(load(None, {"data_dir": data_dir, "service": ports}))
    finally:
        stranger.close()
    for check in checks:
        assert check.level == "fail"
        assert "taken by another program" in check.found


def test_the_doctor_does_not_wait_for_who_never_ends_an_answer(data_dir: Path) -> None:
    slow = Answering(b"HTTP/1.1 200 OK\r\n", drips=True)
    began = time.monotonic()
    try:
        check, _ = port_checks(load(None, {"data_dir": data_dir, "service": {"port": slow.port, "dashboard_port": 0}}))
    finally:
        slow.close()
    assert check.level == "fail"
    assert time.monotonic() - began < 4


def test_the_doctor_knows_a_dashboard(data_dir: Path) -> None:
    dashboard = Answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    try:
        ports = {"port": 0, "dashboard_port": dashboard.port}
        _, check = port_checks(load(None, {"data_dir": data_dir, "service": ports}))
    finally:
        dashboard.close()
    assert check.level == "warn"
    assert "in use by a dashboard" in check.found
    assert "--dashboard-port" in check.action

"""`streamer serve` and `streamer up` as a user runs them: what they say, and that they leave nothing running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from streamer import __version__
from streamer.children import Child, ChildEnded
from streamer.cli_doctor_ports import port_checks
from streamer.service.settings import load

READY_SECONDS = 120.0
GONE_SECONDS = 30.0


class Program:
    """A `streamer` command that runs until the test ends it."""

    def __init__(self, *args: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamer", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for(self, pattern: str) -> str:
        """The first group of `pattern` in the output."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match[1]
            assert self.process.poll() is None, self.lines
            time.sleep(0.05)
        raise AssertionError(self.lines)

    def family(self) -> list[psutil.Process]:
        """Every process below this one."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal; the exit status."""
        self.process.send_signal(number)
        return self.process.wait(GONE_SECONDS)

    def end_group(self, number: signal.Signals) -> int:
        """Send a signal to the whole process group, as a terminal does; the exit status."""
        os.killpg(self.process.pid, number)
        return self.process.wait(GONE_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())


@pytest.fixture
def start(data_dir: Path) -> Iterator[Any]:
    programs: list[Program] = []

    def begin(*args: str, env: dict[str, str] | None = None) -> Program:
        program = Program(*args, "--engine", "none", "--data-dir", str(data_dir), env=env)
        programs.append(program)
        return program

    yield begin
    for program in programs:
        program.close()


def all_gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=GONE_SECONDS)[1]


def until(ready: Callable[[], object]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_at_a_signal_although_somebody_reads_events(start: Any, number: signal.Signals) -> None:
    program = start("serve", "--port", "0")
    base = program.wait_for(r"listening on (http://127\.0\.0\.1:\d+)$")
    with httpx.Client(base_url=base, trust_env=False) as client:
        stream = client.post("/api/streams", json={"source": {"kind": "demo"}}).json()
        with client.stream("GET", f"/api/streams/{stream['id']}/events") as response:
            lines = response.iter_lines()
            while not next(lines).startswith("data: "):
                pass
            before = program.family()
            assert program.end(number) == 0
            for _ in lines:
                pass
    assert all_gone(before)
    assert program.lines == [f"listening on {base}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["at once", "while the worker starts", "ready", "streaming"])
def test_a_signal_to_the_whole_group_ends_all_and_is_no_news(data_dir: Path, when: str, number: signal.Signals) -> None:
    """Vision's process gets it as well, and must neither be called a failure nor be started again."""
    program = Program("serve", "--port", "0", "--engine", "synthetic", "--data-dir", str(data_dir))
    try:
        base = program.wait_for(r"listening on (http://127\.0\.0\.1:\d+)$")
        if when == "while the worker starts":
            until(lambda: len(program.family()) >= 2)  # it, and multiprocessing's own
        with httpx.Client(base_url=base, trust_env=False) as client:
            if when in ("ready", "streaming"):
                until(lambda: client.get("/readyz").is_success)
            if when == "streaming":
                made = client.post("/api/streams", json={"source": {"kind": "demo"}}).json()["id"]
                until(lambda: client.get(f"/api/streams/{made}/snapshot.jpg").is_success)
        before = program.family()
        assert program.end_group(number) == 0
        assert all_gone(before)
    finally:
        program.close()
    assert program.lines == [f"listening on {base}"]


def test_a_worker_that_is_told_to_end_and_then_forgotten_ends() -> None:
    code = "from streamer.vision import worker; worker.GRACE_SECONDS = 1; worker.heed_the_service_alone(); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True)
    try:
        until(lambda: psutil.Process(process.pid).cpu_times().user > 0 and _ignores(process.pid, signal.SIGINT))
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert process.wait(GONE_SECONDS) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()


def _ignores(pid: int, number: signal.Signals) -> bool:
    (mask,) = re.findall(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_serve_says_nothing_of_a_cameras_password(start: Any) -> None:
    program = start("serve", "--port", "0", "--verbose")
    base = program.wait_for(r"listening on (http://127\.0\.0\.1:\d+)$")
    with httpx.Client(base_url=base, trust_env=False) as client:
        source = {"kind": "rtsp", "url": "rtsp://admin:hunter2@127.0.0.1:9/live"}
        stream = client.post("/api/streams", json={"source": source}).json()
        deadline = time.monotonic() + READY_SECONDS
        while not client.get(f"/api/streams/{stream['id']}").json()["source"]["state"]["reason"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert program.end() == 0
    text = "\n".join(program.lines)
    assert "127.0.0.1:9" in text
    assert "hunter2" not in text


def test_serve_needs_the_token_that_the_environment_gives(start: Any) -> None:
    program = start("serve", "--port", "0", env={"STREAMER_TOKEN": "correct-horse"})
    base = program.wait_for(r"listening on (http://127\.0\.0\.1:\d+)$")
    with httpx.Client(base_url=base, trust_env=False) as client:
        assert client.get("/api/streams").status_code == 401
        assert client.get("/api/streams", headers={"Authorization": "Bearer correct-horse"}).json() == []
    assert program.end() == 0


def up(start: Any, *args: str, env: dict[str, str] | None = None) -> tuple[Program, str]:
    program = start("up", "--no-browser", "--port", "0", "--dashboard-port", "0", *args, env=env)
    return program, program.wait_for(r"playing on (http://127\.0\.0\.1:\d+/\?stream=\w+)$")


def test_up_plays_the_demo_on_a_page_and_ends_everything_at_ctrl_c(start: Any) -> None:
    program, page = up(start, env={"STREAMER_TOKEN": "correct-horse"})
    assert httpx.get(page, trust_env=False).status_code == 200
    below = program.family()
    assert len(below) >= 2
    assert program.end() == 0
    assert all_gone(below)


def test_up_ends_with_a_reason_when_a_child_dies(start: Any) -> None:
    program, _ = up(start)
    below = program.family()
    (dashboard,) = [child for child in below if "streamlit" in child.cmdline()]
    dashboard.kill()
    assert program.process.wait(GONE_SECONDS) == 1
    assert all_gone(below)
    assert "streamer: the dashboard was ended by signal SIGKILL" in program.lines[-1]


def test_children_end_when_up_is_killed(start: Any) -> None:
    program, _ = up(start)
    below = program.family()
    program.end(signal.SIGKILL)
    assert all_gone(below)


def test_up_says_why_a_stream_cannot_start(start: Any) -> None:
    program = start(
        "up", "--no-browser", "--port", "0", "--dashboard-port", "0", "--source", "webcam", "--member", "rie"
    )
    assert program.process.wait(READY_SECONDS) == 1
    program.close()
    assert len(program.lines) == 1
    assert program.lines[0].startswith("streamer: ")
    assert "rie" in program.lines[0]


def test_up_leaves_the_home_folder_alone(start: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    program, _ = up(start, env={"HOME": str(home)})
    assert program.end() == 0
    assert list(home.iterdir()) == []


def test_a_data_folder_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    args = ["serve", "--port", "0", "--engine", "none", "--data-dir", str(blocker / "data")]
    program = Program(*args)
    assert program.process.wait(READY_SECONDS) == 1
    program.close()
    assert len(program.lines) == 1
    assert program.lines[0].startswith("streamer: ")
    assert str(blocker) in program.lines[0]


def test_a_second_service_on_a_data_folder_is_refused_until_the_first_is_gone(start: Any, data_dir: Path) -> None:
    first = start("serve", "--port", "0")
    base = first.wait_for(r"listening on (http://127\.0\.0\.1:\d+)$")
    second = start("serve", "--port", "0")
    assert second.process.wait(READY_SECONDS) == 1
    until(lambda: len(second.lines) == 1)
    assert f"used by another service (process {first.process.pid})" in second.lines[0]
    assert str(data_dir) in second.lines[0]
    assert httpx.get(f"{base}/healthz", trust_env=False).status_code == 200
    first.process.kill()
    first.process.wait()
    third = start("serve", "--port", "0")
    third.wait_for(r"(listening on)")


def test_the_doctor_knows_a_service_that_runs(start: Any, data_dir: Path, tmp_path: Path) -> None:
    base = start("serve", "--port", "0").wait_for(r"listening on (http://127\.0\.0\.1:\d+)$")
    port = int(base.rpartition(":")[2])
    for host in ("127.0.0.1", "0.0.0.0"):
        ports = {"host": host, "port": port, "dashboard_port": 0}
        check, _ = port_checks(load(None, {"data_dir": data_dir, "service": ports}))
        assert (check.level, check.action) == ("ok", "")
        assert f"in use by a running streamer ({__version__}), the service of this data folder" in check.found
        check, _ = port_checks(load(None, {"data_dir": tmp_path / "other", "service": ports}))
        assert check.level == "warn"
        assert "of another data folder; that is fine if" in check.found
        assert "--port" in check.action


def test_a_child_that_ends_says_why() -> None:
    reason = r"the service ended \(exit status 1\): there is no 'nonsense' to fetch"
    with (
        Child("service", "streamer", ["models", "pull", "nonsense"]) as child,
        pytest.raises(ChildEnded, match=reason),
    ):
        until(child.check)


def test_a_child_ends_with_its_own_children_and_closing_twice_is_fine() -> None:
    child = Child("waiter", "tests.loopback.waiter", [])
    try:
        until(lambda: child.line_with("waiting "))
        below = [psutil.Process(child.pid), psutil.Process(int(child.line_with("waiting ") or 0))]
    finally:
        child.close()
    child.close()
    assert all_gone(below)


def test_doctor_is_content_with_this_machine_and_leaves_the_home_folder_alone(data_dir: Path, tmp_path: Path) -> None:
    """It loads a model, so this also shows that the runtime keeps no device id and no usage records."""
    config = tmp_path / "c.yaml"
    config.write_text("service: {port: 0, dashboard_port: 0}\n")
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "streamer", "doctor", "--json", "--config", str(config), "--data-dir", str(data_dir)],
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
        env={**os.environ, "HOME": str(home)},
    )
    failed = [check for check in json.loads(done.stdout) if check["level"] == "fail"]
    assert done.returncode == 0, failed
    assert list(home.iterdir()) == []


def test_the_service_process_loads_no_model_runtime_and_the_command_line_starts_light() -> None:
    """One process for both: importing everything takes a second. Every spawned process pays for the command line."""
    script = (
        "import sys\n"
        "def loaded(*names): print(*[name for name in names if name in sys.modules], sep=',')\n"
        "import streamer.cli; loaded('av', 'aiortc', 'fastapi', 'cv2', 'rich')\n"
        "import streamer.service.app; loaded('torch', 'onnxruntime', 'insightface', 'onnx', 'streamlit')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "\n\n"

"""`streamer models pull sam3` with the real client, against a hub on 127.0.0.1 that fails in every way a hub can."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", reason="pulling needs pip install -e '.[sam3]'")

REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret_of_a_user"


def safetensors(payload: bytes) -> bytes:
    header = json.dumps(
        {"weight": {"dtype": "U8", "shape": [len(payload)], "data_offsets": [0, len(payload)]}}
    ).encode()
    return len(header).to_bytes(8, "little") + header + payload


FILES = {
    "config.json": b'{"model_type": "sam3_video"}',
    "merges.txt": b"#version: 0.2\n",
    "model.safetensors": safetensors(bytes(range(256)) * 50_000),
    "sam3.pt": b"pickle",
    "assets/picture.png": b"unwanted",
    "LICENSE": b"SAM License",
}


class Hub(ThreadingHTTPServer):
    """A model hub with one repository. What a test changes is how it answers."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files = dict(FILES)
        self.refusal: tuple[int, str, str] | None = None
        """Status, X-Error-Code and X-Error-Message of every download."""
        self.listing_status = 200
        self.claimed_bytes: int | None = None
        """Size of the weights according to the listing."""
        self.cut_after: int | None = None
        """Bytes of the weights after which the connection is dropped."""
        self.asked: list[tuple[str, str | None, str | None]] = []
        """Path, Range and Authorization of every download."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/api/models/facebook/sam3"):
            self.list()
        elif self.path.startswith("/facebook/sam3/resolve/"):
            self.send(self.path.partition(f"/resolve/{REVISION}/")[2])
        else:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def list(self) -> None:
        siblings = []
        for name, content in FILES.items():
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if name.endswith((".safetensors", ".pt")):
                digest = hashlib.sha256(content).hexdigest()
                size = self.server.claimed_bytes or len(content)
                entry |= {"size": size, "lfs": {"sha256": digest, "size": size, "pointerSize": 134}}
            siblings.append(entry)
        info = {"id": "facebook/sam3", "modelId": "facebook/sam3", "sha": REVISION, "siblings": siblings}
        self.answer(self.server.listing_status, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def send(self, name: str) -> None:
        hub, wanted = self.server, self.headers.get("Range")
        hub.asked.append((name, wanted, self.headers.get("Authorization")))
        if hub.refusal is not None:
            status, code, message = hub.refusal
            self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})
            return
        content = hub.files[name]
        start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        rest = content[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(rest)))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if hub.cut_after is not None and name == "model.safetensors":
            # Every attempt is cut off at the same place, so that the client's own attempts get no further.
            self.wfile.write(rest[: max(hub.cut_after - start, 0)])
            self.wfile.flush()
            self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(rest)

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


class Machine:
    """One user's computer: a data folder, a login or none."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder / "data/models/checkpoints/facebook--sam3"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "STREAMER_"))}
        self.environment = {
            **kept,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(folder / "hf"),
            "STREAMER_DATA_DIR": str(folder / "data"),
        }

    def pull(self, *arguments: str, name: str = "sam3", **environment: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "streamer", "models", "pull", name, *arguments],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def refused(self, *words: str, **options: str) -> str:
        """Pull, which must fail with one line that has these words; returns the line."""
        status, out, err = self.pull(**options)
        lines = [line for line in err.splitlines() if not line.startswith("models: ")]
        assert status == 1
        assert out == ""
        assert len(lines) == 1, err
        assert lines[0].startswith("streamer: ")
        for word in words:
            assert word in lines[0]
        assert TOKEN not in err
        return lines[0]

    @property
    def names(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    return Machine(tmp_path, hub.url)


def test_a_checkpoint_is_fetched_once_with_the_token_and_checked(hub: Hub, machine: Machine) -> None:
    status, out, err = machine.pull(HF_TOKEN=TOKEN)
    assert (status, out.strip()) == (0, str(machine.folder)), err
    assert machine.names == {"config.json", "merges.txt", "model.safetensors", "LICENSE", "manifest.json"}
    for name in machine.names - {"manifest.json"}:
        assert (machine.folder / name).read_bytes() == FILES[name]
    assert {authorization for _, _, authorization in hub.asked} == {f"Bearer {TOKEN}"}
    assert "SAM License" in err
    manifest = json.loads((machine.folder / "manifest.json").read_text())
    assert (manifest["repository"], manifest["revision"]) == ("facebook/sam3", REVISION)
    hub.asked.clear()
    assert machine.pull(HF_TOKEN=TOKEN)[0] == 0
    assert hub.asked == []

    # What was damaged since is fetched again, and nothing else.
    (machine.folder / "merges.txt").write_bytes(b"#version: 0.3\n")
    assert machine.pull(HF_TOKEN=TOKEN)[0] == 0
    assert [name for name, _, _ in hub.asked] == ["merges.txt"]

    # The other backend reads another file.
    assert machine.pull("--backend", "meta", HF_TOKEN=TOKEN)[0] == 0
    assert (machine.folder / "sam3.pt").read_bytes() == FILES["sam3.pt"]
    manifest = json.loads((machine.folder / "manifest.json").read_text())
    assert {"sam3.pt", "model.safetensors"} <= set(manifest["files"])


def test_a_login_is_as_good_as_the_variable(hub: Hub, machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf/token").write_text(TOKEN)
    assert machine.pull()[0] == 0
    assert {authorization for _, _, authorization in hub.asked} == {f"Bearer {TOKEN}"}


def test_a_broken_download_goes_on_where_it_ended(hub: Hub, machine: Machine) -> None:
    hub.cut_after = 11_000_000
    # The client hands over 10 MiB at a time: what came after the first piece is lost.
    line = machine.refused("model.safetensors", "broke off at 10.5 of 12.8 MB", "goes on where", HF_TOKEN=TOKEN)
    assert "streamer models pull sam3" in line
    assert "model.safetensors" not in machine.names
    assert "manifest.json" not in machine.names
    hub.cut_after = None
    hub.asked.clear()
    assert machine.pull(HF_TOKEN=TOKEN)[0] == 0
    assert [(name, wanted) for name, wanted, _ in hub.asked] == [("model.safetensors", "bytes=10485760-")]
    assert (machine.folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not [name for name in machine.names if name.endswith(".part")]


def test_a_file_that_is_not_what_the_hub_says_is_thrown_away(hub: Hub, machine: Machine) -> None:
    hub.files["model.safetensors"] = safetensors(bytes(256 * 50_000))
    machine.refused("model.safetensors", "fails its hash", HF_TOKEN=TOKEN)
    assert not [name for name in machine.names if "safetensors" in name]
    hub.files = dict(FILES)
    assert machine.pull(HF_TOKEN=TOKEN)[0] == 0


def test_without_a_token(hub: Hub, machine: Machine) -> None:
    hub.refusal = (401, "GatedRepo", "Access to model facebook/sam3 is restricted.")
    machine.refused("is gated and no token was given", f"{hub.url}/facebook/sam3", "HF_TOKEN", "hf auth login")


def test_with_a_licence_that_was_not_accepted(hub: Hub, machine: Machine) -> None:
    hub.refusal = (403, "GatedRepo", "Access to model facebook/sam3 is restricted and you are not in the list.")
    machine.refused("accept the licence", f"{hub.url}/facebook/sam3", HF_TOKEN=TOKEN)


def test_with_a_token_that_is_wrong(hub: Hub, machine: Machine) -> None:
    hub.refusal = (401, "", "Invalid credentials in Authorization header")
    machine.refused("the token was refused", HF_TOKEN=TOKEN)


def test_what_the_hub_does_not_have(hub: Hub, machine: Machine) -> None:
    machine.refused("there is no somebody/else", "check the name", name="somebody/else", HF_TOKEN=TOKEN)
    hub.refusal = (404, "EntryNotFound", "Entry not found")
    machine.refused("has no LICENSE any more", HF_TOKEN=TOKEN)


def test_a_hub_in_trouble(hub: Hub, machine: Machine) -> None:
    hub.refusal = (503, "", "Service Unavailable")
    machine.refused("answered 503", "wait a little", HF_TOKEN=TOKEN)


def test_offline(hub: Hub, machine: Machine) -> None:
    machine.refused("HF_HUB_OFFLINE is set", "--from", HF_HUB_OFFLINE="1")
    # Port 9 of this machine: nobody listens.
    machine.refused("cannot reach http://127.0.0.1:9", "check the network", HF_ENDPOINT="http://127.0.0.1:9")


def test_a_folder_that_cannot_be_written_to(machine: Machine) -> None:
    machine.folder.parent.parent.mkdir(parents=True)
    machine.folder.parent.write_text("a file where the folder should be")
    machine.refused("cannot write to", "--data-dir", HF_TOKEN=TOKEN)


def test_a_disk_that_is_too_small_or_fills_up(hub: Hub, machine: Machine) -> None:
    hub.claimed_bytes = 10**16
    line = machine.refused("is full: 10000000.00 GB are needed", "--data-dir", HF_TOKEN=TOKEN)
    assert str(machine.folder) in line
    hub.claimed_bytes = None
    digest = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
    full = machine.folder / f".model.safetensors.{digest[:12]}.part"
    full.symlink_to("/dev/full")
    machine.refused("is full: make room", "goes on where it ended", HF_TOKEN=TOKEN)
    full.unlink()
    assert machine.pull(HF_TOKEN=TOKEN)[0] == 0

"""The gallery with several processes on it: at once, without permission, and recovered by the doctor's advice."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from streamer.cli_doctor import check_gallery
from streamer.vision.gallery import Gallery
from streamer.vision.gallery_store import DATABASE
from tests.galleries import damage, files_of, new_photo


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "gallery"


@pytest.fixture
def damaged(folder: Path) -> Path:
    """The folder of a gallery whose database is damaged."""
    with Gallery(folder) as gallery:
        gallery.add_member("rei")
        for seed in range(15):
            gallery.add_photo("rei", new_photo(seed))
    damage(folder / DATABASE)
    return folder


def add_many(folder: Path, who: str, count: int, barrier: object) -> None:
    """Body of a process of the test below."""
    barrier.wait(60)  # type: ignore[attr-defined]
    with Gallery(folder) as gallery:
        gallery.add_member(who)
        for number in range(count):
            gallery.add_photo(who, new_photo(hash((who, number)) % 2**31, f"{who} {number}".encode()))
            gallery.add_photo("shared", new_photo(number, f"{who} shared {number}".encode()))


def test_two_processes_and_a_thread_lose_nothing(folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    with Gallery(folder) as gallery:
        gallery.add_member("shared")
    workers = [context.Process(target=add_many, args=(folder, who, 5, barrier)) for who in ("p", "q")]
    thread = threading.Thread(target=add_many, args=(folder, "t", 5, barrier))
    for runner in (*workers, thread):
        runner.start()
    for runner in (*workers, thread):
        runner.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    with Gallery(folder) as gallery:
        assert {member.name: len(member.photos) for member in gallery.members()} == {
            "p": 5,
            "q": 5,
            "shared": 15,
            "t": 5,
        }
        assert len(files_of(folder)) == 60


AS_NOBODY = """
import os, sys
from pathlib import Path
from streamer.errors import GalleryUnwritable
from streamer.vision.gallery import Gallery
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for folder in sys.argv[1:]:
    try:
        Gallery(Path(folder))
    except GalleryUnwritable as exc:
        print(exc)
"""


def test_no_permission_to_write(folder: Path, tmp_path: Path) -> None:
    with Gallery(folder) as gallery:
        gallery.add_member("a")
    for path in (tmp_path.parent.parent, tmp_path.parent, tmp_path, folder.parent, folder):
        path.chmod(0o555)
    (folder / DATABASE).chmod(0o444)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, str(folder), str(tmp_path / "new")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        for path in (tmp_path.parent.parent, tmp_path.parent, tmp_path, folder.parent, folder):
            path.chmod(0o755)
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("another user cannot read this checkout")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all("no permission to write" in line and "--data-dir" in line for line in lines)


def test_the_command_line_says_it_in_one_line(damaged: Path) -> None:
    data = str(damaged.parent)
    command = [sys.executable, "-m", "streamer", "--data-dir", data, "members", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("streamer: the gallery ")
    assert "streamer doctor" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_recovering_as_the_doctor_says(damaged: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("the sqlite3 shell is missing")
    subprocess.run(
        "sqlite3 gallery.sqlite3 .recover | sqlite3 new.sqlite3 && mv new.sqlite3 gallery.sqlite3",
        shell=True,
        cwd=damaged,
        check=True,
        timeout=60,
    )
    assert check_gallery(damaged).level == "ok"
    with Gallery(damaged):
        pass

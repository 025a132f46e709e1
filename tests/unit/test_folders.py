"""Data folders that cannot be used, and lock files that are none: one line says what is wrong and what to do."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from streamer.errors import ConfigError, StreamerError
from streamer.folders import unusable
from streamer.service.sole import NAME, sole_service
from streamer.vision.gallery import Gallery
from streamer.vision.models import ModelStore, locked


def users(folder: Path) -> list[StreamerError]:
    """What each part of the program says that begins with the data folder."""
    said = []
    for use in (
        lambda: sole_service(folder).__enter__(),
        lambda: Gallery(folder / "gallery"),
        lambda: ModelStore(folder).pull("embedded"),
    ):
        with pytest.raises(StreamerError) as caught:
            use()
        said.append(caught.value)
    return said


def test_a_file_as_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        for error in users(folder):
            assert f"{tmp_path / 'file'} is a file, not a folder; choose another folder with --data-dir" in str(error)
            assert "writable" not in str(error)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_link_to_nowhere_as_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for error in users(tmp_path / "link"):
        assert f"{tmp_path / 'link'} is a link that leads nowhere; remove it" in str(error)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc")
def test_a_place_that_can_hold_no_folder() -> None:
    for error in users(Path("/proc/nix")):
        assert "no folder can be made in /proc; choose" in str(error)
        assert "writable" not in str(error)
        assert "No such file" not in str(error)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EACCES, "no permission to write in {}; change its owner or mode, or choose another folder"),
        (errno.EROFS, "{} is on a disk that is read-only; choose another folder"),
        (errno.ENOSPC, "the disk of {} is full; free some space, or choose another folder"),
        (errno.ENAMETOOLONG, "no folder can be made in {} (File name too long); choose another folder"),
    ],
)
def test_what_else_is_wrong_with_a_folder(tmp_path: Path, number: int, said: str) -> None:
    error = OSError(number, os.strerror(number))
    assert unusable(tmp_path / "a" / "b", error).startswith(said.format(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes are Unix's")
@pytest.mark.parametrize("what", ["link", "link to nowhere", "hard link", "pipe", "folder"])
def test_what_is_no_lock_file_is_neither_written_to_nor_waited_for(tmp_path: Path, what: str) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    data = tmp_path / "data"
    data.mkdir()
    place = data / NAME
    if what == "link":
        place.symlink_to(other)
    elif what == "link to nowhere":
        place.symlink_to(tmp_path / "nothing")
    elif what == "hard link":
        place.hardlink_to(other)
    elif what == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
    for use in (sole_service(data), locked(place)):
        with pytest.raises(ConfigError, match=r"service\.lock is not an ordinary file") as caught, use:
            raise AssertionError("it was taken")
        assert "remove it" in str(caught.value)
    assert other.read_text() == "kept"
    assert not (tmp_path / "nothing").exists()


def test_a_lock_is_for_its_owner_alone_and_names_its_process(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("123456789 of an earlier run")
    (tmp_path / NAME).chmod(0o600)
    with sole_service(tmp_path):
        assert (tmp_path / NAME).read_text() == str(os.getpid())
        with pytest.raises(ConfigError, match=rf"used by another service \(process {os.getpid()}\)"):
            sole_service(tmp_path).__enter__()
    with sole_service(tmp_path / "new"):
        assert (tmp_path / "new" / NAME).stat().st_mode & 0o777 == 0o600

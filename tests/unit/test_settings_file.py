"""One setting changed in a file that people have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from streamer.errors import ConfigError
from streamer.service.settings import load
from streamer.service.settings_file import check_writable, write_setting

DEFAULTS = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"


def written(folder: Path, text: str, value: float = 0.04) -> str:
    path = folder / "config.yaml"
    path.write_bytes(text.encode())
    write_setting(path, "vision", "naming_margin", value)
    assert [file.name for file in folder.iterdir()] == ["config.yaml"], "nothing else is left behind"
    return path.read_bytes().decode()


def test_only_the_value_changes_in_the_default_file(tmp_path: Path) -> None:
    before = DEFAULTS.read_text(encoding="utf-8")
    after = written(tmp_path, before, -0.12)
    changed = [(a, b) for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    (old, new) = changed[0]
    assert old.startswith("  naming_margin: 0.0 ")
    assert new.startswith("  naming_margin: -0.12 ")
    assert old.index("#") == new.index("#"), "the comment stays in its column"
    assert load(tmp_path / "config.yaml").vision.naming_margin == -0.12


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "vision:\n  naming_margin: 0.04\n"),
        ("# mine\n", "# mine\nvision:\n  naming_margin: 0.04\n"),
        ("token: 12345678", "token: 12345678\n\nvision:\n  naming_margin: 0.04\n"),
        ("vision:\n    engine: lite  # fast\n", "vision:\n    naming_margin: 0.04\n    engine: lite  # fast\n"),
        ("vision: {engine: lite}\n", "vision: {naming_margin: 0.04, engine: lite}\n"),
        ("vision: {}\n", "vision: {naming_margin: 0.04}\n"),
        ("vision:\nvideo: {}\n", "vision: {naming_margin: 0.04}\nvideo: {}\n"),
        ("{video: {}}\n", "{vision: {naming_margin: 0.04}, video: {}}\n"),
        ("vision:\n  naming_margin: 1e-1 # c\n", "vision:\n  naming_margin: 0.04 # c\n"),
        ("vision: {naming_margin: 0.123456, pack: embedded}", "vision: {naming_margin: 0.04, pack: embedded}"),
        ("vision:\r\n  pack: embedded\r\n", "vision:\r\n  naming_margin: 0.04\r\n  pack: embedded\r\n"),
        ("# für Ünal\nvision:\n  pack: embedded\n", "# für Ünal\nvision:\n  naming_margin: 0.04\n  pack: embedded\n"),
    ],
)
def test_the_rest_of_a_file_stays_as_it_is(tmp_path: Path, before: str, after: str) -> None:
    assert written(tmp_path, before) == after
    assert yaml.safe_load(after)["vision"]["naming_margin"] == 0.04


@pytest.mark.parametrize(
    "text",
    [
        "a: &shared {engine: lite}\nvision: *shared\n",
        "token: 12345678\n...\n",
        "vision:\n  naming_margin: &m 0.0\nother: *m\n",
    ],
)
def test_a_layout_that_an_edit_would_spoil_is_refused_and_untouched(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"vision\.naming_margin: 0.04 there by hand"):
        write_setting(path, "vision", "naming_margin", 0.04)
    assert path.read_text() == text


def test_the_mode_stays_and_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "config.yaml", tmp_path / "config.yaml"
    real.write_text("vision: {pack: embedded}\n")
    real.chmod(0o640)
    link.symlink_to(real)
    write_setting(link, "vision", "naming_margin", 0.04)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert "0.04" in real.read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("vision: {}\n")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="may not be written"):
            check_writable(path, "vision", "naming_margin")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        check_writable(tmp_path / "absent.yaml", "vision", "naming_margin")

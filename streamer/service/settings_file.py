"""One setting changed in a configuration file; every other byte, comments included, stays as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from streamer.errors import ConfigError


def write_setting(path: Path, section: str, key: str, value: float) -> None:
    """Set `section`.`key` to `value` in the YAML file `path`, as a whole or not at all.

    Raises:
        ConfigError: the file cannot be read or written, or is laid out so that it must be changed by hand.
    """
    text = edited(path, section, key, value)
    # Where the name is a link, what it points to is changed, and the link stays.
    target = path.resolve()
    half: Path | None = None
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as file:
            half = Path(file.name)
            file.write(text.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(target, half)
        os.replace(half, target)
    except OSError as exc:
        if half is not None:
            with contextlib.suppress(OSError):
                half.unlink()
        raise ConfigError(
            f"cannot write {path}: {exc.strerror}; it is as it was; set {section}.{key}: {value} there by hand"
        ) from exc


def check_writable(path: Path, section: str, key: str) -> None:
    """Raises `ConfigError` where `write_setting` would, as far as can be told beforehand."""
    edited(path, section, key, 0.0)
    folder = path.resolve().parent
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write {path}: the folder {folder} may not be written to by this user")


def edited(path: Path, section: str, key: str, value: float) -> str:
    """The text of `path` with `section`.`key` set to `value`.

    Raises:
        ConfigError: as `write_setting`.
    """
    by_hand = f"set {section}.{key}: {value} there by hand"
    try:
        text = path.read_bytes().decode("utf-8")
        before = yaml.safe_load(text) or {}
        changed = _edit(text, section, key, str(value))
        after = yaml.safe_load(changed)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"cannot change {path}, whose layout is unusual; {by_hand}") from exc
    # Anchors, tags and the like: what the edit did is what counts.
    if not isinstance(before, dict) or after != before | {section: (before.get(section) or {}) | {key: value}}:
        raise ConfigError(f"cannot change {path}, whose layout is unusual; {by_hand}")
    return changed


def _edit(text: str, section: str, key: str, value: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    root: Any = yaml.compose(text)
    if not isinstance(root, MappingNode):
        return _closed(text, newline) + f"{section}:{newline}  {key}: {value}{newline}"
    inner = _value(root, section)
    if inner is None:
        if root.flow_style:
            return _into_flow(text, root, f"{section}: {{{key}: {value}}}")
        return f"{_closed(text, newline)}{newline}{section}:{newline}  {key}: {value}{newline}"
    if not isinstance(inner, MappingNode):
        # `vision:` or `vision: null`.
        start, end = inner.start_mark.index, inner.end_mark.index
        return f"{text[:start].rstrip(' ')} {{{key}: {value}}}{text[end:]}"
    old = _value(inner, key)
    if isinstance(old, ScalarNode):
        return _replaced(text, old, value)
    if inner.flow_style:
        return _into_flow(text, inner, f"{key}: {value}")
    start = inner.start_mark.index
    return f"{text[:start]}{key}: {value}{newline}{' ' * inner.start_mark.column}{text[start:]}"


def _replaced(text: str, old: ScalarNode, value: str) -> str:
    start, end = old.start_mark.index, old.end_mark.index
    if start == end:
        return f"{text[:start].rstrip(' ')} {value}{text[end:]}"
    # A comment beside it stays in its column.
    rest = text[end:]
    blanks = len(rest) - len(rest.lstrip(" "))
    if rest[blanks : blanks + 1] == "#":
        rest = " " * max(blanks + (end - start) - len(value), 1) + rest[blanks:]
    return text[:start] + value + rest


def _value(mapping: MappingNode, key: str) -> Node | None:
    return next((value for name, value in mapping.value if name.value == key), None)


def _into_flow(text: str, mapping: MappingNode, entry: str) -> str:
    start = mapping.start_mark.index + 1
    return f"{text[:start]}{entry}{', ' if mapping.value else ''}{text[start:]}"


def _closed(text: str, newline: str) -> str:
    return text if not text or text.endswith("\n") else text + newline

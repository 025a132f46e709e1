"""Letters of any script, with or without fonts on the machine.

Latin, Cyrillic and Greek come from the Noto fonts beside this file; Hangul, kana and Han from the Unicode font that
OpenCV 5 carries, which costs 8 MB of memory once it is used; Thai and emoji (flags, families and colours of skin too)
from two more Noto fonts; the rest from fonts of the system. A character that nobody has is drawn as "?".
"""

from __future__ import annotations

import os
import re
import sys
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

_FONTS = Path(__file__).parent / "fonts"
_ALPHABETS = tuple(
    _FONTS / f"noto-sans-{script}-600.woff2" for script in ("latin", "latin-ext", "cyrillic", "greek", "vietnamese")
)
_EMOJI = _FONTS / "noto-emoji-600.woff2"
_OTHERS = (_FONTS / "noto-sans-thai-600.woff2", _EMOJI)
_SYSTEM = ("dejavusans-bold", "dejavusans", "freesans", "arialuni", "notosans", "lohit", "nirmala", "unifont")
_SYSTEM_LIMIT = 64
"""System fonts looked into at most, best known names first: each costs about 1 ms, once."""
_WEIGHT = 600

_ONE = "[\u203c-\u3299\U0001f000-\U0001faff]\ufe0f?[\U0001f3fb-\U0001f3ff]?"
_CLUSTER = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}"  # the two letters of a flag
    "|[0-9#*]\ufe0f?\u20e3"  # a keycap
    "|\U0001f3f4[\U000e0020-\U000e007f]+"  # the flag of a part of a country
    f"|{_ONE}(?:\u200d{_ONE})*"  # with the colour of skin, and joined
)
"""What may be one emoji of several code points."""

Font = Path | Literal["sans", "wide"]
"""A font file, or OpenCV's own: its variable sans, or the one of regular weight that it falls back to."""

# FontFace keeps glyph caches that are not made for two threads; Pillow's fonts neither.
_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class Letters:
    """A rendered line of text."""

    coverage: np.ndarray
    """(h, w) uint8, 0..255; h depends on the size only."""
    baseline: int
    """Row that the letters stand on."""


def letters(text: str, pixels: int) -> Letters:
    """`text` on one line in letters of `pixels` (em size). Not cached: see `labels`."""
    with _lock:
        runs = [(part, font, _advance(part, font, pixels)) for part, font in _clusters(_line(text))]
        ascent, descent = round(pixels * 1.05), round(pixels * 0.32)
        coverage = np.zeros((ascent + descent, max(1, sum(width for _, _, width in runs))), np.uint8)
        x = 0
        for part, font, width in runs:
            _draw(coverage, x, ascent, part, font, pixels)
            x += width
        return Letters(coverage, ascent)


def _line(text: str) -> str:
    """On one line, composed."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _clusters(text: str) -> Iterator[tuple[str, Font]]:
    """(part, font) in order: emoji of several code points whole, the rest by its characters."""
    end = 0
    for found in _CLUSTER.finditer(text):
        if _is_one_picture(found[0]):
            yield from _runs(_clean(text[end : found.start()]))
            yield found[0], _EMOJI
            end = found.end()
    yield from _runs(_clean(text[end:]))


@lru_cache(maxsize=256)
def _is_one_picture(cluster: str) -> bool:
    """The emoji font has a picture for these code points together, and Pillow can shape text."""
    if len(cluster.rstrip("\ufe0f")) == 1 or not features.check_feature("raqm"):
        return False
    font = _open(_EMOJI, 24)
    # Its pictures are all of one width; what is not joined takes more.
    return font is not None and font.getlength(cluster) == font.getlength("\u2764")


def _clean(text: str) -> str:
    """Without characters that steer rather than show (joiners, variation selectors, bidi marks)."""
    shown = (c for c in text if not "\ufe00" <= c <= "\ufe0f")
    return "".join(c for c in shown if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def _runs(text: str) -> Iterator[tuple[str, Font]]:
    """(part, font) in order. A mark stays with the letter that it sits on."""
    part: str = ""
    font: Font = _ALPHABETS[0]
    for c in text:
        if part and unicodedata.category(c) in ("Mn", "Mc", "Me"):
            part += c
            continue
        wanted, shown = _font_for(c)
        if part and wanted != font:
            yield part, font
            part = ""
        part, font = part + shown, wanted
    if part:
        yield part, font


@lru_cache(maxsize=4096)
def _font_for(c: str) -> tuple[Font, str]:
    """The font for a character, and what to draw for it."""
    for path in _ALPHABETS:
        if _has(path, c):
            return path, c
    glyph = _glyph(c, _WEIGHT)
    if c in " ?" or not np.array_equal(glyph, _glyph("?", _WEIGHT)):
        # Only the variable sans has weights.
        return ("wide" if np.array_equal(glyph, _glyph(c, 300)) and c != " " else "sans"), c
    for path in (*_OTHERS, *_system_fonts()):
        if _has(path, c):
            return path, c
    return _font_for("?")[0], "?"


def _has(path: Path, c: str) -> bool:
    """The font draws something for `c` that is not its picture of a missing character. Every font has a space."""
    font = _open(path, 24)
    if font is None:
        return False
    shown = font.getmask(c)
    return c == " " or (shown.getbbox() is not None and bytes(shown) != bytes(font.getmask("\U0010fffd")))


@lru_cache(maxsize=1)
def _face() -> cv2.FontFace:
    return cv2.FontFace("sans")


def _glyph(c: str, weight: int) -> np.ndarray:
    canvas = np.zeros((40, 48), np.uint8)
    cv2.putText(canvas, c, (4, 30), (255,), _face(), 24, weight)
    return canvas


@lru_cache(maxsize=32)
def _open(path: Path, pixels: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(str(path), pixels)
    except OSError:
        return None  # a bitmap-only or broken font: the next one may do


@lru_cache(maxsize=1)
def _system_fonts() -> tuple[Path, ...]:
    """Fonts of the system, those known for wide coverage first. Looked for once, when a character needs them."""
    home = Path.home()
    folders = {
        "win32": [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"],
        "darwin": [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")],
    }.get(sys.platform, [home / ".local/share/fonts", Path("/usr/local/share/fonts"), Path("/usr/share/fonts")])
    found: list[Path] = []
    for folder in folders:
        for root, _, names in os.walk(folder):
            found += [Path(root) / name for name in names if name.lower().endswith((".ttf", ".otf", ".ttc"))]

    def rank(path: Path) -> tuple[int, str]:
        name = path.stem.lower()
        return next((i for i, known in enumerate(_SYSTEM) if name.startswith(known)), len(_SYSTEM)), name

    return tuple(sorted(found, key=rank)[:_SYSTEM_LIMIT])


def _advance(part: str, font: Font, pixels: int) -> int:
    if isinstance(font, Path):
        opened = _open(font, pixels)
        return 0 if opened is None else int(np.ceil(opened.getlength(part)))
    _, _, width, _ = cv2.getTextSize((0, 0), part, (0, 0), _face(), pixels, _WEIGHT)
    # The box ends with the ink, the run a little after it.
    return int(width) + round(pixels * 0.04)


def _draw(coverage: np.ndarray, x: int, baseline: int, part: str, font: Font, pixels: int) -> None:
    if isinstance(font, Path):
        opened = _open(font, pixels)
        if opened is not None:
            image = Image.new("L", (coverage.shape[1], coverage.shape[0]))
            ImageDraw.Draw(image).text((x, baseline), part, fill=255, font=opened, anchor="ls")
            np.maximum(coverage, np.asarray(image), out=coverage)
        return
    cv2.putText(coverage, part, (x, baseline), (255,), _face(), pixels, _WEIGHT)
    if font == "wide":
        # Regular weight beside semibold looks pale: thicken by a pixel, by less where letters are small.
        run = coverage[:, x:]
        run[:, 1:] = np.maximum(run[:, 1:], (run[:, :-1] * min(1.0, pixels / 24)).astype(np.uint8))

"""Colours of people in the picture, as RGB for letters and as Y, U, V for planes."""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Colour:
    """One colour; `y`, `u`, `v` are BT.601 limited range (16..235, 16..240)."""

    rgb: Rgb
    y: int
    u: int
    v: int


def colour(red: int, green: int, blue: int) -> Colour:
    """The colour of an sRGB triple, 0..255 each."""
    y = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    u = 128 + (-37.797 * red - 74.203 * green + 112.0 * blue) / 255
    v = 128 + (112.0 * red - 93.786 * green - 18.214 * blue) / 255
    return Colour((red, green, blue), round(y), round(u), round(v))


MEMBER = colour(0, 190, 255)
"""The followed member, whatever the track: a new track id after a cut must not change her colour."""
MUTED = colour(150, 156, 166)
"""A track that has nothing to show."""
NOTICE = colour(255, 191, 64)

# Okabe and Ito's colour-blind-safe set without its orange and vermilion, which skin swallows, and a little stronger,
# for they are blended with the picture. https://jfly.uni-koeln.de/color/
_TRACKS = (
    colour(70, 175, 255),
    colour(0, 200, 140),
    colour(220, 90, 215),
    colour(240, 225, 60),
    colour(75, 105, 255),
    colour(150, 240, 235),
)


def track_colour(track_id: int) -> Colour:
    """The colour of a track: the same on every frame; neighbours in age differ."""
    return _TRACKS[track_id % len(_TRACKS)]

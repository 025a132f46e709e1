"""Why a track is named as it is: plain functions from the API's story to HTML."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

Json = dict[str, Any]

COLOURS = ("#2fbf71", "#3d8bfd", "#f0883e", "#b478f0")
"""Of the members drawn, the one with the name first; green is also the bar of a similarity."""
DRAWN = len(COLOURS)
WIDTH, HEIGHT = 600.0, 150.0
LOWEST, HIGHEST = -0.2, 1.0
"""Cosines that the chart shows; what is below lies on its floor."""
DECISIONS_SHOWN = 6


def who(name: str | None, track: int) -> str:
    """The heading of a track."""
    return f"{name or 'Unknown'} (track {track})"


def crops(story: Json) -> str:
    """The best faces seen."""
    faces = story.get("faces") or []
    if not faces:
        return _titled("Best faces", "<div class='sr-empty'>No face of this track was seen yet.</div>")
    pictures = "".join(_crop(face) for face in faces)
    return _titled("Best faces", f"<div class='sr-crops'>{pictures}</div>")


def _crop(face: Json) -> str:
    image = str(face.get("image", ""))
    # Only what the service makes: an address from anywhere else would be fetched by the browser.
    source = escape(image, quote=True) if image.startswith("data:image/jpeg;base64,") else ""
    when = clock(float(face.get("pts") or 0))
    return f'<figure><img src="{source}" alt="face at {when}"><figcaption>{when}</figcaption></figure>'


def similarity_chart(story: Json) -> str:
    """The similarity of the track's faces to members over time, and where the decision changed."""
    looks: Sequence[Json] = story.get("looks") or []
    drawn = drawn_members(story)
    if not looks or not drawn:
        text = "No comparison yet." if not looks else "Nobody to compare with."
        return _titled("Similarity over time", f"<div class='sr-empty'>{text}</div>")
    times = [float(look["pts"]) for look in looks]
    start, end = times[0], max(times[-1], times[0] + 1.0)
    decided = [made for made in story.get("decisions") or [] if start <= float(made["pts"]) <= end]
    marks = "".join(_mark(_x(made["pts"], start, end)) for made in decided)
    grid = "".join(f"<line class='grid' x1='0' x2='{WIDTH:g}' y1='{_y(v)}' y2='{_y(v)}'/>" for v in (0.0, 0.5, 1.0))
    lines = "".join(
        _line(looks, name, colour, start, end) for name, colour in reversed(list(zip(drawn, COLOURS, strict=False)))
    )
    plot = _picture(f"{grid}{marks}{lines}")
    legend = "".join(
        f"<div class='sr-legend'><span class='sr-key' style='background:{colour}'></span>{escape(name)}</div>"
        for name, colour in zip(drawn, COLOURS, strict=False)
    )
    ticks = "<div class='ticks'><span>1</span><span>0.5</span><span>0</span></div>"
    feet = f"<div class='feet'><span>{clock(start)}</span><span>{clock(end)}</span></div>"
    body = f"<div class='sr-similarity'>{ticks}<div class='plot'>{plot}</div>{feet}</div>"
    return f"<div class='sr-title'>Similarity over time{legend}</div>{body}"


def _picture(shapes: str) -> str:
    """Shapes as an image: the page takes no SVG in its HTML, and an image cannot run anything."""
    style = "line,polyline{vector-effect:non-scaling-stroke}.dot{stroke-linecap:round}.grid,.mark{stroke:#808890}"
    style += ".grid{stroke-opacity:.3}.mark{stroke-opacity:.8;stroke-dasharray:3 4}"
    box = f"xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH:g} {HEIGHT:g}' preserveAspectRatio='none'"
    drawn = f"<svg {box} width='{WIDTH:g}' height='{HEIGHT:g}'><style>{style}</style>{shapes}</svg>"
    data = base64.b64encode(drawn.encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="Similarity to members over time">'


def drawn_members(story: Json) -> list[str]:
    """The members of the chart: who has the name, then those who came nearest."""
    best: dict[str, float] = {}
    for look in story.get("looks") or []:
        for name, value in look["similarity"].items():
            best[name] = max(best.get(name, -1.0), float(value))
    nearest = sorted(best, key=lambda name: (name != story.get("name"), -best[name]))
    return nearest[:DRAWN]


def _line(looks: Sequence[Json], name: str, colour: str, start: float, end: float) -> str:
    points = [
        (_x(look["pts"], start, end), _y(float(look["similarity"][name])), 3.0 + 5.0 * float(look["weight"]))
        for look in looks
        if name in look["similarity"]
    ]
    path = " ".join(f"{x},{y}" for x, y, _ in points)
    # Not circles: the picture is stretched, and they would be.
    dots = "".join(
        f"<line class='dot' x1='{x}' y1='{y}' x2='{x}' y2='{y}' stroke='{colour}' stroke-width='{size:.1f}'/>"
        for x, y, size in points
    )
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>{dots}"


def _mark(x: str) -> str:
    return f"<line class='mark' x1='{x}' x2='{x}' y1='0' y2='{HEIGHT:g}'/>"


def _x(pts: float, start: float, end: float) -> str:
    return f"{6 + (WIDTH - 12) * (float(pts) - start) / (end - start):.1f}"


def _y(similarity: float) -> str:
    share = (min(max(similarity, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return f"{HEIGHT - 6 - (HEIGHT - 12) * share:.1f}"


def decisions(story: Json) -> str:
    """What was decided and when, newest first."""
    made = list(reversed(story.get("decisions") or []))
    if not made:
        return _titled("Decisions", "<div class='sr-empty'>None yet: unsure means unknown.</div>")
    rows = "".join(
        f"<tr><td>{clock(float(one['pts']))}</td><td>{escape(str(one['name'] or 'unknown'))}</td>"
        f"<td>{escape(str(one['reason']))}</td></tr>"
        for one in made[:DECISIONS_SHOWN]
    )
    head = "<tr><th>At</th><th>Name</th><th>Why</th></tr>"
    return _titled("Decisions", f"<table class='sr-people'>{head}{rows}</table>")


def clock(seconds: float) -> str:
    """1:05.2, on the stream's clock."""
    minutes, rest = divmod(max(seconds, 0.0), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _titled(title: str, body: str) -> str:
    return f"<div class='sr-title'>{title}</div>{body}"

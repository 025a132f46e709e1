"""The dashboard as its user has it: watch, choose, publish a camera, enrol a person, record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.conftest import Dashboard
from tests.browser.watching import (
    choose,
    connections,
    difference,
    frame_rate,
    frames,
    people,
    pick,
    picture,
    player,
    playing,
    press,
    settled,
    until,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

MEMBER = "eileen"
"""Whom the demo enrols and follows; also the person whom the fake webcam shows."""
ANNOTATED, CLEAN = 3.0, 1.5
"""Mean differences of a 64x36 picture to the clean one, 0..255: a tinted person makes 5 and more, encoding under 1."""


def test_the_demo_plays_annotated(page: Page, dashboard: Dashboard, screenshots: Path) -> None:
    page.goto(dashboard.url)
    playing(page)
    until(lambda: MEMBER in people(page), f"{MEMBER} in the table of people now")
    until(lambda: frame_rate(page) >= 10, "10 frames a second in the player")
    facts = player(page).locator(".facts").inner_text()
    assert facts.startswith("960×540 · ")
    until(lambda: MEMBER in people(page), f"{MEMBER} back in the picture")
    page.screenshot(path=screenshots / "live.png")


def test_moving_every_widget_leaves_one_connection(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.url)
    playing(page)
    assert connections(page) == {"calls": 1, "peerConnections": 1, "cleanups": 0}
    choose(page, "Follow", "everybody")
    _stream_has(page, dashboard, "member", None)
    choose(page, "Follow", MEMBER)
    _stream_has(page, dashboard, "member", MEMBER)
    for part in ("face", "hair", "shirt", "trousers", "shoes", "hands"):
        choose(page, "Object", part)
        _stream_has(page, dashboard, "object", part)
    _type_object(page, "head")
    _stream_has(page, dashboard, "object", "head")
    _type_object(page, "umbrella")
    page.get_by_role("alert").filter(has_text="umbrella").wait_for()
    _stream_has(page, dashboard, "object", "head")
    choose(page, "Object", "whole person")
    _stream_has(page, dashboard, "object", None)
    for style in ("overlay", "cutout", "hide", "only", "none", "annotated"):
        pick(page, style.capitalize())
        _stream_has(page, dashboard, "style", style)
    press(page, "New stream")
    for kind in ("Webcam", "Network camera", "Video file", "Demo"):
        pick(page, kind)
    page.get_by_role("button", name="Close").click()
    press(page, "Record")
    press(page, "Stop recording")
    before = frames(page)
    until(lambda: frames(page) > before, "frames after all that")
    after = connections(page)
    assert (after["peerConnections"], after["cleanups"]) == (1, 0)


def _type_object(page: Page, prompt: str) -> None:
    box = page.get_by_role("combobox", name="Object")
    box.fill(prompt)
    box.press("Enter")
    settled(page)


def _stream_has(page: Page, dashboard: Dashboard, key: str, value: str | None) -> None:
    """The change arrived at the service, and the page has run to its end since."""
    until(lambda: dashboard.api.get(f"/api/streams/{dashboard.demo}").json()[key] == value, f"{key} to be {value}")
    settled(page)


def test_an_enrolled_person_is_named(page: Page, dashboard: Dashboard, astronaut: Path, screenshots: Path) -> None:
    page.goto(dashboard.url)
    settled(page)
    page.get_by_role("link", name="Members").click()
    card = page.locator('[data-testid="stVerticalBlock"]').filter(has_text=MEMBER).last
    card.get_by_role("button", name="Remove").click()
    press(page, "Remove for good")
    until(lambda: MEMBER not in _members(dashboard), f"{MEMBER} to be removed")
    page.get_by_label("Name").fill("collins")
    blank = astronaut.with_name("notes.png")
    blank.write_bytes(b"this is no picture")
    page.locator('input[type="file"]').first.set_input_files([astronaut, blank])
    page.get_by_text("notes.png").wait_for()
    press(page, "Add")
    page.get_by_text("collins: 1 of 2 photos kept.").wait_for()
    page.locator("table.sr-people td", has_text="not an image").wait_for()
    assert "collins" in _members(dashboard)
    page.screenshot(path=screenshots / "members.png")
    page.goto(dashboard.url)
    playing(page)
    choose(page, "Follow", "collins")
    until(lambda: "collins" in people(page), "collins in the table of people now")
    with dashboard.api.stream("GET", f"/api/streams/{dashboard.demo}/events") as events:
        results = (json.loads(line[5:]) for line in events.iter_lines() if line.startswith("data:"))
        named = next(result for result in results if any(t["name"] == "collins" for t in result["tracks"]))
    assert named["size"] == [960, 540]


def _members(dashboard: Dashboard) -> list[str]:
    return [member["name"] for member in dashboard.api.get("/api/members").json()]


def test_a_recording_plays_and_is_deleted(page: Page, dashboard: Dashboard, screenshots: Path) -> None:
    page.goto(dashboard.url)
    playing(page)
    press(page, "Record")
    page.wait_for_timeout(3000)
    press(page, "Stop recording")
    page.get_by_role("link", name="Recordings").click()
    video = page.locator(".recording video.after")
    until(lambda: video.evaluate("video => video.readyState >= 2 && video.duration > 0"), "the recording to be loaded")
    page.screenshot(path=screenshots / "recordings.png")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download results").click()
    first = Path(download.value.path()).read_text(encoding="utf-8").splitlines()[0]
    assert json.loads(first)["v"] == 1
    before = len(dashboard.api.get("/api/recordings").json())
    press(page, "Delete")
    press(page, "Delete for good")
    until(lambda: len(dashboard.api.get("/api/recordings").json()) == before - 1, "the recording to be deleted")


def test_the_webcam_comes_back_annotated(page: Page, dashboard: Dashboard, screenshots: Path) -> None:
    # Last: it ends the demo's stream. The person has another name if the enrolment was tested before.
    who = "collins" if "collins" in _members(dashboard) else MEMBER
    page.goto(dashboard.url)
    playing(page)
    press(page, "Stop stream")  # two cores cannot follow people in two streams
    page.get_by_text("Nothing is playing").wait_for()
    pick(page, "Webcam")
    press(page, "Start")
    page.locator('.publisher[data-state="live"]').wait_for()
    playing(page)
    until(lambda: "1280×720" in player(page).locator(".facts").inner_text(), "the camera's own size")
    until(lambda: who in people(page), f"{who} before the webcam")
    after = connections(page)
    assert (after["peerConnections"], after["cleanups"]) == (2, 0), "one connection a stream, in one player"
    pick(page, "None")
    page.wait_for_timeout(2000)
    clean = picture(page)
    pick(page, "Annotated")
    until(lambda: difference(picture(page), clean) > ANNOTATED, "the person tinted in the picture")
    page.screenshot(path=screenshots / "webcam.png")
    pick(page, "None")
    until(lambda: difference(picture(page), clean) < CLEAN, "the clean picture again")
    page.get_by_role("button", name="Stop sharing").click()
    stream_id = page.url.partition("stream=")[2]
    until(
        lambda: dashboard.api.get(f"/api/streams/{stream_id}").json()["source"]["state"]["phase"] != "live",
        "the service to notice that the camera stopped",
    )
    press(page, "Stop stream")
    until(lambda: dashboard.api.get(f"/api/streams/{stream_id}").status_code == 404, "the stream to end")

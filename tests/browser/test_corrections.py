"""A person's word on who is seen, in a real browser: why a name was given, "not X", "this is X"."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.browser.conftest import Dashboard
from tests.browser.watching import connections, frames, people, playing, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

MEMBER = "eileen"
"""Whom the demo enrols and follows."""


def test_a_name_is_explained_rejected_and_given_back(page: Page, dashboard: Dashboard, screenshots: Path) -> None:
    page.goto(dashboard.url)
    playing(page)
    until(lambda: MEMBER in people(page), f"{MEMBER} among the people now")
    line = page.locator('[class*="st-key-person-"]').filter(has_text=MEMBER)
    line.get_by_role("button", name="Why?").first.click()
    panel = page.locator(".st-key-why")
    panel.get_by_text("Similarity over time").wait_for()
    panel.get_by_text("ahead of").first.wait_for()
    until(lambda: _drawn(panel.locator(".sr-crops img").first), "a face to be drawn")
    until(lambda: _drawn(panel.locator(".sr-similarity img")), "the chart to be drawn")
    panel.screenshot(path=screenshots / "why.png")

    # The list stays open although the page shows news every second.
    panel.get_by_role("combobox", name="This is").click()
    page.wait_for_timeout(3000)
    page.get_by_role("option", name=MEMBER, exact=True).wait_for()
    page.keyboard.press("Escape")

    panel.get_by_role("button", name=f"Not {MEMBER}").click()
    panel.get_by_text(f"Noted: this is not {MEMBER}").wait_for()
    assert _member(dashboard)["rejected"]
    until(lambda: MEMBER not in people(page), f"{MEMBER} to be named no more")

    # The newest word counts: the same track is her after all.
    panel.get_by_role("combobox", name="This is").click()
    page.get_by_role("option", name=MEMBER, exact=True).click()
    panel.get_by_role("button", name="Save faces").click()
    panel.get_by_text(f"added to {MEMBER}").wait_for()
    assert _member(dashboard)["rejected"] == []
    until(lambda: MEMBER in people(page), f"{MEMBER} to be named again")
    panel.get_by_role("button", name="Close").click()
    panel.wait_for(state="detached")

    before = frames(page)
    until(lambda: frames(page) > before, "frames after all that")
    after = connections(page)
    assert (after["peerConnections"], after["cleanups"]) == (1, 0)


def test_groups_are_chosen_and_exported(page: Page, dashboard: Dashboard, screenshots: Path) -> None:
    for name in ("ben", "clara", "emma"):
        changed = dashboard.api.patch(
            f"/api/members/{name}", json={"group": "Card party", "display_name": name.title()}
        )
        assert changed.status_code == 200, changed.text
    page.goto(dashboard.url)
    playing(page)
    page.get_by_role("combobox", name="Group").click()
    page.get_by_role("option", name="Card party", exact=True).click()
    page.get_by_role("combobox", name="Follow").click()
    page.get_by_role("option", name="Card party · Clara", exact=True).wait_for()
    page.keyboard.press("Escape")
    assert connections(page)["peerConnections"] == 1
    page.get_by_role("link", name="Members").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export Card party").click()
    archive = Path(download.value.path())
    assert download.value.suggested_filename == "Card party.zip"
    dashboard.api.delete("/api/members/clara")
    page.get_by_role("tab", name="Import an archive").click()
    packed = archive.with_name("card party.zip")
    packed.write_bytes(archive.read_bytes())
    page.locator('input[type="file"]').last.set_input_files(packed)
    page.get_by_text(packed.name).wait_for()
    page.get_by_role("button", name="Import", exact=True).click()
    page.get_by_text("ben, clara, emma: 3 photos kept.").wait_for()
    page.screenshot(path=screenshots / "groups.png")
    assert _member(dashboard, "clara")["group"] == "Card party"
    for name in ("ben", "clara", "emma"):
        dashboard.api.patch(f"/api/members/{name}", json={"group": None})


def _drawn(image: Any) -> bool:
    return bool(image.evaluate("image => image.complete && image.naturalWidth > 0"))


def _member(dashboard: Dashboard, name: str = MEMBER) -> dict[str, Any]:
    member: dict[str, Any] = dashboard.api.get(f"/api/members/{name}").json()
    return member

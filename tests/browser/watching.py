"""What the browser tests do on the live page: wait for it, count frames, look at pixels, read the counters."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

WAIT_SECONDS = 90.0
"""For anything that needs models or a camera; a shared two-core machine is slow at times."""


def settled(page: Page) -> None:
    """Streamlit ran the page to its end, also the run that a click just before has asked for."""
    page.wait_for_timeout(300)  # the click's run begins a moment after the click
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')


def until(condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
    """What `condition` gives once it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.25)
    return value


def player(page: Page) -> Locator:
    """The player's box; its state is the attribute data-state."""
    return page.locator(".player")


def playing(page: Page) -> None:
    """Frames arrive in the player."""
    page.locator('.player[data-state="live"]').wait_for(timeout=WAIT_SECONDS * 1000)
    first = frames(page)
    until(lambda: frames(page) > first, "a frame in the player")


def frames(page: Page) -> int:
    """Frames that the player has shown."""
    return int(player(page).locator("video").evaluate("video => video.getVideoPlaybackQuality().totalVideoFrames"))


def frame_rate(page: Page, seconds: float = 4.0) -> float:
    """Frames a second over some seconds, by the browser's own clock."""
    return float(
        player(page)
        .locator("video")
        .evaluate(
            """(video, seconds) => new Promise(resolve => {
                const quality = () => video.getVideoPlaybackQuality().totalVideoFrames;
                const frames = quality(), start = performance.now();
                setTimeout(() => resolve(1000 * (quality() - frames) / (performance.now() - start)), 1000 * seconds);
            })""",
            seconds,
        )
    )


def picture(page: Page) -> list[int]:
    """The player's picture now: 64x36 RGBA bytes."""
    return list(
        player(page)
        .locator("video")
        .evaluate(
            """video => {
                const canvas = new OffscreenCanvas(64, 36), context = canvas.getContext("2d");
                context.drawImage(video, 0, 0, 64, 36);
                return Array.from(context.getImageData(0, 0, 64, 36).data);
            }"""
        )
    )


def difference(one: list[int], other: list[int]) -> float:
    """Mean absolute difference of two pictures, 0..255."""
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one)


def connections(page: Page) -> dict[str, int]:
    """How often the player was called, connected and cleaned up in this tab."""
    return dict(page.evaluate("globalThis.__streamerPlayer"))


def people(page: Page) -> list[str]:
    """The names of the people now."""
    return page.locator(".sr-person b").all_inner_texts()


def choose(page: Page, label: str, option: str) -> None:
    """Picks an option of a select box."""
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def press(page: Page, name: str) -> None:
    """Presses a button."""
    page.get_by_role("button", name=name, exact=True).click()
    settled(page)


def pick(page: Page, name: str) -> None:
    """Picks a chip or a segment."""
    page.get_by_role("radio", name=name, exact=True).click()
    settled(page)

"""Groups, corrections and "why this name?" on the dashboard's pages, against real HTTP."""

from __future__ import annotations

import base64
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from tests import standin
from tests.loopback.test_ui_pages import button, page, player, service
from ui import story as story_html

__all__ = ["service"]

STORY: dict[str, Any] = {
    "track": 7,
    "name": "rei",
    "model": "m",
    "faces": [{"image": "data:image/jpeg;base64,AAAA", "pts": 61.5, "face": [0, 0, 1, 1]}],
    "looks": [
        {"pts": 60.0, "weight": 0.5, "similarity": {"liz": 0.2, "rei": 0.4}},
        {"pts": 61.5, "weight": 0.9, "similarity": {"liz": 0.1, "rei": 0.7, "<b>": -0.4}},
    ],
    "decisions": [{"pts": 61.5, "name": "rei", "reason": "similarity 0.70, 0.60 ahead of <liz>"}],
}


def track(number: int, name: str | None) -> dict[str, Any]:
    return {"id": number, "name": name, "similarity": 0.61, "state": "tracked", "box": [0, 0, 1, 1], "face": None}


@pytest.fixture
def group(service: standin.StandIn) -> standin.StandIn:
    for name, about in (
        ("ada", {}),
        ("rei", {"group": "IVE", "display_name": "Rei"}),
        ("liz", {"group": "IVE"}),
        ("hyewon", {"group": "Aespa?"}),
    ):
        service.members[name] = []
        service.about[name] = about
    return service


def html(at: Any) -> str:
    return "".join(element.proto.body for element in at.get("html"))


def test_the_picker_shows_groups_then_members(group: standin.StandIn) -> None:
    group.add_stream("a1", member="ada")
    at = page("live", stream="a1")
    assert at.selectbox(key="group").options == ["every group", "Aespa?", "IVE", "without a group"]
    assert at.selectbox(key="member").options == ["everybody", "Aespa? · hyewon", "IVE · liz", "IVE · Rei", "ada"]
    at.selectbox(key="group").set_value("IVE").run()
    assert at.selectbox(key="member").options == ["everybody", "IVE · liz", "IVE · Rei", "ada"]
    assert at.selectbox(key="member").value == "ada", "who is followed stays, whatever group is looked at"
    assert group.calls == []
    at.selectbox(key="member").set_value("rei").run()
    assert group.calls == [("PATCH", "/api/streams/a1", {"member": "rei"})]
    assert at.selectbox(key="group").value == "IVE"


def test_a_wrong_name_is_rejected_from_its_line(group: standin.StandIn) -> None:
    group.add_stream("a1", tracks=[track(7, "rei"), track(9, None)])
    group.stories[7] = STORY
    at = page("live", stream="a1")
    assert "Rei" in html(at)
    before = player(at)
    at.button(key="not-7").click().run()
    assert group.calls == [("POST", "/api/streams/a1/label", {"track": 7, "not": "rei"})]
    assert at.success[0].value.startswith("Noted: this is not rei.")
    assert "Similarity over time" in html(at)
    assert player(at) == before


def test_somebody_unknown_is_given_a_name(group: standin.StandIn) -> None:
    group.add_stream("a1", tracks=[track(9, None)])
    group.stories[9] = STORY | {"track": 9, "name": None, "decisions": []}
    at = page("live", stream="a1")
    at.button(key="this-9").click().run()
    assert "unsure means unknown" in html(at)
    at.button(key="save-9").click().run()
    assert at.warning[0].value == "Choose who this is first."
    at.selectbox(key="who-9").set_value("liz").run()
    at.button(key="save-9").click().run()
    assert group.calls == [("POST", "/api/streams/a1/label", {"track": 9, "member": "liz", "create": False})]
    assert at.success[0].value == "1 face added to liz."
    at.button(key="why-close").click().run()
    assert "Similarity over time" not in html(at)


def test_a_track_that_is_gone_for_long_says_so(group: standin.StandIn) -> None:
    group.add_stream("a1", tracks=[track(5, "rei")])
    at = page("live", stream="a1")
    at.button(key="why-5").click().run()
    assert at.warning[0].value == "No track 5."
    group.refuse["POST /api/streams/a1/label"] = (409, "no face of track 5 has been seen yet")
    at.button(key="not-5").click().run()
    assert not at.exception


def test_the_story_draws_and_escapes() -> None:
    html = story_html.similarity_chart(STORY)
    (picture,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    chart = base64.b64decode(picture).decode()
    ElementTree.fromstring(chart)
    assert chart.count("<polyline") == 3
    assert "background:#2fbf71'></span>rei" in html
    assert "&lt;b&gt;" in html
    assert chart.count("class='mark'") == 1
    assert story_html.clock(61.5) == "1:01.5"
    assert "ahead of &lt;liz&gt;" in story_html.decisions(STORY)
    outside = STORY | {"faces": [{"image": "https://elsewhere/x.jpg", "pts": 0.0}]}
    assert "elsewhere" not in story_html.crops(outside)
    y = [float(value) for value in re.findall(r"y1='([\d.]+)' x2", chart)]
    assert all(0 <= value <= story_html.HEIGHT for value in y)
    nothing = {"track": 1, "name": None, "faces": [], "looks": [], "decisions": []}
    assert "No comparison yet" in story_html.similarity_chart(nothing)
    assert "No face" in story_html.crops(nothing)
    alone = nothing | {"looks": [{"pts": 1.0, "weight": 1.0, "similarity": {}}]}
    assert "Nobody to compare with" in story_html.similarity_chart(alone)


def test_members_stand_in_their_groups_with_what_is_to_check(group: standin.StandIn) -> None:
    group.about["rei"] |= {"notices": ["the photo 'a.jpg' fits 'liz' better"], "rejected": []}
    group.members["rei"] = [
        {"thumbnail_url": "/api/members/rei/photos/0/thumbnail.jpg", "file": "a.jpg", "remark": "looks like 'liz'"},
        {"thumbnail_url": "/api/members/rei/photos/1/thumbnail.jpg", "file": "b.jpg", "remark": "a little blurred"},
    ]
    at = page("members")
    text = [element.value for element in at.markdown]
    heads = [line for line in text if " · " in line and line.startswith("**")]
    assert heads[:2] == ["**Aespa?** · 1", "**IVE** · 2"]
    assert "**Without a group** · 1" in heads
    assert "the photo 'a.jpg' fits 'liz' better" in text
    assert "the photo 'b.jpg': a little blurred" in text
    assert not any("looks like" in line for line in text), "said once"


def test_a_member_is_edited_and_a_rejection_taken_back(group: standin.StandIn) -> None:
    crop = "/api/members/liz/rejected/3/crop.jpg"
    group.about["liz"] |= {"rejected": [{"crop_url": crop, "source": "stream a1, track 7"}]}
    at = page("members")
    at.button(key="edit-liz").click().run()
    at.text_input(key="edit-display_name").set_value("Liz")
    at.text_input(key="edit-group").set_value(" ")
    button(at, "Save").click().run()
    assert group.calls == [
        ("PATCH", "/api/members/liz", {"display_name": "Liz", "group": None, "consent": None}),
    ]
    at.button(key="edit-liz").click().run()
    at.button(key="rejected-/api/members/liz/rejected/3").click().run()
    assert group.calls[-1] == ("DELETE", "/api/members/liz/rejected/3", None)


def test_an_archive_is_imported(service: standin.StandIn) -> None:
    at = page("members")
    button(at, "Import").click().run()
    assert at.error[0].value == "Choose an archive first."
    at.file_uploader(key="archive").set_value([("ive.zip", b"PK", "application/zip")])
    button(at, "Import").click().run()
    assert service.calls == [("POST", "/api/archive", None)]
    assert at.warning[0].value == "rei: 1 of 2 photos kept."
    service.refuse["POST /api/archive"] = (422, "the archive that was sent: is not a zip archive")
    at.file_uploader(key="archive").set_value([("ive.zip", b"PK", "application/zip")])
    button(at, "Import").click().run()
    assert at.error[0].value == "The archive that was sent: is not a zip archive."

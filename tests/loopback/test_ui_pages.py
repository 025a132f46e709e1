"""The dashboard's pages as Streamlit runs them, against real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from streamer import cli_up
from tests import standin

PAGES = Path(__file__).parents[2] / "ui" / "views"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.StandIn]:
    with standin.running() as state:
        monkeypatch.setenv("STREAMER_API", state.base)
        monkeypatch.setenv("STREAMER_TOKEN", "a-long-token")
        st.cache_resource.clear()
        yield state
    st.cache_resource.clear()


def page(name: str, **query: str) -> AppTest:
    at = AppTest.from_file(str(PAGES / f"{name}.py"), default_timeout=10)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    return at


def player(at: AppTest) -> dict[str, object]:
    """The data that the player got."""
    (element,) = (e for e in at.get("bidi_component") if "player" in e.proto.component_name)
    return json.loads(element.proto.json)


def selected(at: AppTest) -> str:
    """The stream that the page's address names."""
    values = at.query_params["stream"]
    return values[0] if isinstance(values, list) else values


def button(at: AppTest, label: str) -> Button:
    return next(button for button in at.button if button.label == label)


def test_no_service_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_API", "http://127.0.0.1:9")
    st.cache_resource.clear()
    for name in ("live", "members", "images", "videos", "recordings"):
        at = page(name)
        assert [e.value for e in at.error] == ["No service answers at http://127.0.0.1:9."]
        assert "streamer serve" in at.markdown[0].value
    st.cache_resource.clear()


def test_a_wrong_token_is_said_in_words(service: standin.StandIn) -> None:
    service.refuse["GET /api/streams"] = (401, "the token is wrong")
    assert "same STREAMER\\_TOKEN" in page("live").error[0].value


def test_first_stream_from_nothing(service: standin.StandIn) -> None:
    at = page("live")
    assert player(at)["url"] is None
    at.button(key="source-start").click().run()
    assert service.calls == [("POST", "/api/streams", {"source": {"kind": "demo"}})]
    assert selected(at) == "s1"
    assert player(at) | {"empty": ""} == {
        "url": f"{service.base}/api/streams/s1/whep",
        "token": "a-long-token",
        "iceServers": [],
        "empty": "",
    }


@pytest.mark.parametrize(
    ("kind", "field", "value", "source"),
    [
        ("rtsp", "source-url", " rtsp://u:p@cam/live ", {"kind": "rtsp", "url": "rtsp://u:p@cam/live"}),
        ("file", "source-path", "/v/a.mp4", {"kind": "file", "path": "/v/a.mp4", "loop": True}),
    ],
)
def test_sources_with_an_address(
    service: standin.StandIn, kind: str, field: str, value: str, source: dict[str, object]
) -> None:
    at = page("live")
    at.pills(key="source-kind").set_value(kind).run()
    at.button(key="source-start").click().run()
    assert at.error[0].value.startswith("Enter the ")
    assert service.calls == []
    at.text_input(key=field).set_value(value).run()
    at.button(key="source-start").click().run()
    assert service.calls == [("POST", "/api/streams", {"source": source})]


def test_a_stream_that_is_over_cannot_be_recorded(service: standin.StandIn) -> None:
    service.streams["s1"] = standin.stream_info("s1", {"kind": "file", "path": "/v/a.mp4"})
    assert not page("live").button(key="record").disabled
    service.streams["s1"]["source"]["state"] = {"phase": "ended"}
    assert page("live").button(key="record").disabled


def test_a_refused_source_keeps_the_form(service: standin.StandIn) -> None:
    service.refuse["POST /api/streams"] = (422, "there is no file /v/a.mp4 on the service's machine; check the path")
    at = page("live")
    at.button(key="source-start").click().run()
    assert at.error[0].value == "There is no file /v/a.mp4 on the service's machine; check the path."
    assert button(at, "Start")


def test_webcam_asks_for_the_camera_only_after_the_click(service: standin.StandIn) -> None:
    at = page("live")
    at.pills(key="source-kind").set_value("whip").run()
    at.button(key="source-start").click().run()
    (publisher,) = (e for e in at.get("bidi_component") if "publisher" in e.proto.component_name)
    assert json.loads(publisher.proto.json)["autostart"] is True
    again = page("live", stream="s1")
    (publisher,) = (e for e in again.get("bidi_component") if "publisher" in e.proto.component_name)
    assert json.loads(publisher.proto.json)["autostart"] is False


def test_the_address_selects_the_stream(service: standin.StandIn) -> None:
    service.add_stream("a1")
    service.add_stream("b2", kind="rtsp")
    assert player(page("live", stream="b2"))["url"] == f"{service.base}/api/streams/b2/whep"


def test_another_stream_than_the_addresss_is_said_to_be_another(service: standin.StandIn) -> None:
    service.add_stream("a1")
    service.add_stream("b2", kind="rtsp")
    said = "There is no stream z\\*z (it ended, or never was): this is Demo (a1)."
    gone = page("live", stream="z*z")
    assert player(gone)["url"] == f"{service.base}/api/streams/a1/whep"
    assert selected(gone) == "a1"
    assert [line.value for line in gone.info] == [said]
    gone.run()
    assert [line.value for line in gone.info] == [said], "until another one is chosen"
    gone.selectbox(key="stream").set_value("b2").run()
    assert not gone.info
    gone.selectbox(key="stream").set_value("a1").run()
    assert not gone.info


def test_a_long_address_is_one_short_line(service: standin.StandIn) -> None:
    service.add_stream("a1")
    assert len(page("live", stream="x" * 5000).info[0].value) < 200


def test_no_stream_at_all_is_said_too(service: standin.StandIn) -> None:
    gone = page("live", stream="zz")
    assert gone.info[0].value == "There is no stream zz (it ended, or never was), nor any other."
    gone.button(key="source-start").click().run()
    assert not gone.info


def test_controls_change_the_stream_live(service: standin.StandIn) -> None:
    service.members["rei"] = []
    service.add_stream("a1")
    at = page("live", stream="a1")
    at.selectbox(key="member").set_value("rei").run()
    at.selectbox(key="object").set_value("shirt").run()
    at.pills(key="style").set_value("cutout").run()
    at.selectbox(key="object").set_value("whole person").run()
    at.selectbox(key="member").set_value("").run()
    assert [body for _, _, body in service.calls] == [
        {"member": "rei"},
        {"object": "shirt"},
        {"style": "cutout"},
        {"object": None},
        {"member": None},
    ]
    assert not at.error


def test_a_refused_change_shows_why_and_falls_back(service: standin.StandIn) -> None:
    service.add_stream("a1", object="shirt")
    service.refuse["PATCH /api/streams/a1"] = (422, "the lite engine cannot find 'hair'; SAM 3 can")
    at = page("live", stream="a1")
    at.selectbox(key="object").set_value("hair").run()
    assert [e.value for e in at.error] == ["The lite engine cannot find 'hair'; SAM 3 can."]
    assert at.selectbox(key="object").value == "shirt"
    at.run()
    assert not at.error


def test_controls_show_what_the_service_has(service: standin.StandIn) -> None:
    service.add_stream("a1", member="gone", object="red scarf", style="hide")
    at = page("live", stream="a1")
    assert at.selectbox(key="member").value == "gone"
    assert at.selectbox(key="object").value == "red scarf"
    service.streams["a1"] |= {"member": None, "style": "only"}
    at.run()
    assert at.selectbox(key="member").value == ""
    assert at.pills(key="style").value == "only"


def test_recording_starts_and_stops(service: standin.StandIn) -> None:
    service.add_stream("a1")
    at = page("live", stream="a1")
    at.button(key="record").click().run()
    assert at.button(key="record").label == "Stop recording"
    assert any("1:05" in e.proto.body for e in at.get("html"))
    at.button(key="record").click().run()
    assert at.button(key="record").label == "Record"
    assert [call[:2] for call in service.calls] == [
        ("POST", "/api/streams/a1/recording"),
        ("DELETE", "/api/streams/a1/recording"),
    ]


def test_a_recording_that_ended_says_why(service: standin.StandIn) -> None:
    service.add_stream("a1", recording={"id": "r", "ended_reason": "the disk is full"})
    at = page("live", stream="a1")
    assert "the disk is full" in at.warning[0].value
    assert at.button(key="record").label == "Record"


def test_read_outs_escape_what_they_show(service: standin.StandIn) -> None:
    track = {"id": 7, "name": "<b>rei</b>", "similarity": 0.61, "state": "tracked", "box": [0, 0, 1, 1], "face": None}
    service.add_stream("a1", tracks=[track])
    shown = "".join(e.proto.body for e in page("live", stream="a1").get("html"))
    assert "&lt;b&gt;rei&lt;/b&gt;" in shown
    assert "0.61" in shown
    assert "Source live" in shown


def test_stopping_the_last_stream_leaves_an_empty_player(service: standin.StandIn) -> None:
    service.add_stream("a1")
    at = page("live", stream="a1")
    button(at, "Stop stream").click().run()
    assert service.calls == [("DELETE", "/api/streams/a1", None)]
    assert player(at)["url"] is None
    assert "stream" not in at.query_params


def test_members_are_listed_and_removed_after_a_question(service: standin.StandIn) -> None:
    service.members["rei"] = [{"thumbnail_url": "/api/members/rei/photos/0/thumbnail.jpg"}]
    at = page("members")
    at.button(key="remove-rei").click().run()
    assert service.calls == []
    at.button(key="remove-sure").click().run()
    assert service.calls == [("DELETE", "/api/members/rei", None)]
    assert "Nobody is enrolled" in at.info[0].value


def test_members_are_added_by_photos(service: standin.StandIn) -> None:
    at = page("members")
    at.text_input[0].set_value("rei")
    at.file_uploader[0].set_value([("a.png", standin.PIXEL, "image/png"), ("b.jpg", b"no", "image/jpeg")])
    button(at, "Add").click().run()
    assert not at.exception
    assert list(service.members) == ["rei"]
    assert at.warning[0].value == "rei: 1 of 2 photos kept."
    (table,) = (e.proto.body for e in at.get("html") if "<table" in e.proto.body)
    assert (
        "<td>b.jpg</td><td class='result'>refused</td><td>no face was found; use a photo that shows the face</td>"
        in table
    )


def test_photos_of_a_known_name_are_added_to_it(service: standin.StandIn) -> None:
    service.members["rei"] = []
    at = page("members")
    at.text_input[0].set_value("Rei")
    at.file_uploader[0].set_value([("a.png", standin.PIXEL, "image/png")])
    button(at, "Add").click().run()
    assert service.calls[0][:2] == ("POST", "/api/members/Rei/photos")
    assert at.success[0].value == "Rei: 1 photo kept."


def test_what_the_service_says_is_no_markup(service: standin.StandIn) -> None:
    service.refuse["POST /api/streams"] = (422, "rtsp://***@cam [x](http://y) $a$ refused")
    at = page("live")
    at.button(key="source-start").click().run()
    assert at.error[0].value == r"Rtsp://\*\*\*@cam \[x\](http://y) \$a\$ refused."


def test_a_member_without_a_kept_photo_is_not_left_behind(service: standin.StandIn) -> None:
    at = page("members")
    at.text_input[0].set_value("rei")
    at.file_uploader[0].set_value([("b.jpg", b"no", "image/jpeg")])
    button(at, "Add").click().run()
    assert service.members == {}
    assert at.error[0].value == "rei: no photo could be used."


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"photo_bytes": 50}, "two.png has 68 B, and the service takes 50 B: choose a smaller photo."),
        ({"photos": 1}, "These are 2 photos, and 1 are taken at once: add the rest afterwards."),
        (
            {"photos_bytes": 64 * 1024 + 100},
            "These 2 photos have 113 B together, and the service takes 100 B: add fewer at once.",
        ),
    ],
)
def test_photos_that_the_service_would_not_take_are_not_sent(
    service: standin.StandIn, limits: dict[str, int], line: str
) -> None:
    service.limits |= limits
    at = page("members")
    at.text_input[0].set_value("rei")
    at.file_uploader[0].set_value([("one.png", b"small" * 9, "image/png"), ("two.png", b"x" * 68, "image/png")])
    button(at, "Add").click().run()
    assert [e.value for e in at.error] == [line]
    assert service.calls == []


def test_uploaders_say_no_more_than_streamlit_takes(service: standin.StandIn) -> None:
    def said(at: AppTest) -> list[int]:
        return [e.proto.max_upload_size_mb for e in at.file_uploader]

    assert said(page("members")) == [25, 200], "200 is Streamlit's own default"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(st, "get_option", lambda key: cli_up.UPLOAD_MIB)
        assert said(page("members")) == [25, 500]
        service.limits |= {"archive_bytes": 30_000_000, "photo_bytes": 7_500_000}
        assert said(page("members")) == [8, 30]


def test_an_archive_that_the_service_would_not_take_is_not_sent(service: standin.StandIn) -> None:
    service.limits["archive_bytes"] = 100
    at = page("members")
    at.file_uploader(key="archive").set_value([("ive.zip", b"x" * 101, "application/zip")])
    button(at, "Import").click().run()
    assert [e.value for e in at.error] == ["ive.zip has 101 B, and the service takes 100 B: export in groups."]
    assert service.calls == []


def test_adding_needs_a_name_and_photos(service: standin.StandIn) -> None:
    at = page("members")
    button(at, "Add").click().run()
    assert at.error[0].value == "Enter a name and choose at least one photo."
    assert service.calls == []


def test_recordings_newest_first(service: standin.StandIn) -> None:
    service.recordings = [
        {"id": "a1_all_20261122T101500Z", "bytes": 12_300_000},
        {"id": "a1_rei_20261123T101500Z", "bytes": 900},
    ]
    at = page("recordings")
    assert at.radio[0].options == ["rei, 23 November 2026, 10:15:00 UTC", "everybody, 22 November 2026, 10:15:00 UTC"]
    at.button(key="delete").click().run()
    at.button(key="delete-sure").click().run()
    assert [r["id"] for r in service.recordings] == ["a1_all_20261122T101500Z"]

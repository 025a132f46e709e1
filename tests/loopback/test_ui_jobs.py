"""The pages of photos, videos and recordings as Streamlit runs them, against real HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from tests import standin
from tests.loopback.test_ui_pages import button, page, service

__all__ = ["service"]

TIMELINE = {
    "duration_seconds": 4.0,
    "frames": 100,
    "people": [{"name": "rei", "seconds": 1.5, "intervals": [[0.5, 2.0]]}],
}


def component(at: AppTest, name: str) -> dict[str, Any]:
    """The data that a component got."""
    (element,) = (e for e in at.get("bidi_component") if e.proto.component_name.endswith(f"streamer_{name}"))
    return dict(json.loads(element.proto.json))


def selected(at: AppTest) -> str:
    """The job that the page's address names."""
    values = at.query_params["job"]
    return values[0] if isinstance(values, list) else values


def html(at: AppTest) -> str:
    return "".join(e.proto.body for e in at.get("html"))


def files(job_id: str, *names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "bytes": 1, "media_type": "x/y", "url": f"/api/jobs/{job_id}/files/{name}"} for name in names
    ]


def test_pages_want_a_member_first(service: standin.StandIn) -> None:
    for name in ("images", "videos"):
        at = page(name)
        assert any("Enrol somebody first" in e.value for e in at.info)
        assert not [e for e in at.get("bidi_component") if "submit" in e.proto.component_name]


def test_photos_are_sent_with_what_was_chosen(service: standin.StandIn) -> None:
    service.members |= {"rei": [], "yujin": []}
    at = page("images")
    sent = component(at, "submit")
    assert sent["url"] == f"{service.base}/api/jobs"
    assert sent["token"] == "a-long-token"
    assert sent["fields"] == {"kind": ["image"], "member": ["rei"], "prompt": ["box"]}
    assert (sent["multiple"], sent["drawable"]) == (True, True)
    at.selectbox(key="image-member").set_value("yujin")
    at.selectbox(key="image-object").set_value("hair")
    at.segmented_control(key="image-prompt").set_value("text").run()
    sent = component(at, "submit")
    assert sent["fields"] == {"kind": ["image"], "member": ["yujin"], "prompt": ["text"], "object": ["hair"]}
    assert not sent["drawable"]


def test_photos_are_shown_three_times_each(service: standin.StandIn) -> None:
    names = [f"{folder}/{kind}" for folder in ("0-a", "1-b") for kind in ("annotated.png", "cutout.png", "overlay.png")]
    photos = [
        {"file": "one.jpg", "seen": True, "similarity": 0.613, "outputs": ["0-a/annotated.png"], "refused": None},
        {"file": "two.jpg", "seen": False, "similarity": None, "outputs": ["1-b/annotated.png"], "refused": None},
        {"file": "three.jpg", "seen": False, "outputs": [], "refused": "three.jpg: not an image; give a photo"},
    ]
    service.jobs = [standin.job_info("j1", "image", files=files("j1", *names), result={"photos": photos})]
    at = page("images")
    said = [e.value for e in at.markdown]
    assert "**one.jpg** · rei, similarity 0.61" in said
    assert "**two.jpg** · rei was not seen" in said
    assert "**three.jpg** · not an image; give a photo" in said
    shown = [json.loads(e.proto.json) for e in at.get("bidi_component") if "pictures" in e.proto.component_name]
    assert [[p["title"] for p in each["pictures"]] for each in shown] == [["Annotated", "Overlay", "Cutout"]] * 2
    assert shown[0]["pictures"][2] == {
        "title": "Cutout",
        "url": f"{service.base}/api/jobs/j1/files/0-a/cutout.png",
        "name": "one_cutout.png",
        "alpha": True,
    }


def test_a_videos_options_go_with_it(service: standin.StandIn) -> None:
    service.members |= {"rei": [], "yujin": []}
    at = page("videos")
    assert component(at, "submit")["fields"] == {"kind": ["video"], "member": ["rei"], "style": ["annotated"]}
    at.multiselect(key="video-members").set_value(["yujin", "rei"])
    at.selectbox(key="video-style").set_value("only")
    at.selectbox(key="video-fancam").set_value("9:16")
    at.number_input(key="video-every").set_value(2)
    at.number_input(key="video-from").set_value(1.5)
    at.run()
    assert component(at, "submit")["fields"] == {
        "kind": ["video"],
        "member": ["yujin", "rei"],
        "style": ["only"],
        "fancam": ["9:16"],
        "every": ["2"],
        "from": ["1.5"],
    }
    at.toggle(key="video-transparent").set_value(True).run()
    assert component(at, "submit")["fields"]["style"] == ["cutout"]
    at.multiselect(key="video-members").set_value([]).run()
    assert component(at, "submit")["missing"] == "Choose a member"


def test_a_recording_is_worked_on_without_an_upload(service: standin.StandIn) -> None:
    service.members["rei"] = []
    service.recordings = [{"id": "r1", "bytes": 1, "running": False}, {"id": "r2", "bytes": 1, "running": True}]
    at = page("videos")
    at.segmented_control(key="video-source").set_value("Recording").run()
    assert at.selectbox(key="video-recording").options == ["r1"]
    at.button(key="video-start").click().run()
    spec = {"kind": "video", "member": ["rei"], "style": "annotated", "recording": "r1"}
    assert service.calls == [("POST", "/api/jobs", spec)]
    assert selected(at) == "j1"
    assert any("waits for its turn" in e.value for e in at.info)


def test_a_finished_video_plays_beside_its_original(service: standin.StandIn) -> None:
    spec = {"kind": "video", "member": ["rei"], "from": 2.5}
    result = {"never_seen": ["yujin"], "notes": ["sound left out: x"]}
    done = standin.job_info("j1", spec=spec, files=files("j1", "video.mp4", "results.jsonl"), result=result)
    service.jobs = [done | {"timeline_url": "/api/jobs/j1/timeline"}]
    service.timelines["/api/jobs/j1/timeline"] = TIMELINE
    at = page("videos")
    film = component(at, "recording")
    assert film["url"] == f"{service.base}/api/jobs/j1/files/video.mp4"
    assert film["before"] == {"url": f"{service.base}/api/jobs/j1/inputs/0", "offset": 2.5}
    assert film["timeline"] == TIMELINE
    assert [d["name"] for d in film["downloads"]] == ["stage_annotated.mp4", "stage.jsonl"]
    assert at.warning[0].value == "Never seen in this video: yujin."
    at.selectbox(key="again-style").set_value("hide")
    button(at, "Render").click().run()
    assert service.calls == [("POST", "/api/jobs", {"kind": "render", "style": "hide", "job": "j1"})]


def test_the_address_keeps_the_job(service: standin.StandIn) -> None:
    service.jobs = [
        standin.job_info("j2", state="running", progress={"done": 30, "total": 120, "fps": 15.2, "eta_seconds": 66.0}),
        standin.job_info("j1", files=files("j1", "video.mp4")),
    ]
    at = page("videos", job="j1")
    assert component(at, "recording")["url"].endswith("/j1/files/video.mp4")
    at = page("videos", job="j2")
    assert "30 of 120 · 15.2 a second · 1:06 left" in html(at)
    assert "width:25.0%" in html(at)
    at = page("videos", job="zz")
    assert selected(at) == "j2"


def test_jobs_are_cancelled_resumed_and_deleted(service: standin.StandIn) -> None:
    service.jobs = [
        standin.job_info("j1", state="running"),
        standin.job_info("j2", state="interrupted", reason="the machine went <b>down</b>"),
        standin.job_info("j3", state="failed", reason="no video in it"),
        standin.job_info("j4"),
        standin.job_info("j5", "image", state="running"),
        standin.job_info("j6", state="failed", reason="no recording 'zz'; GET /api/recordings lists them"),
    ]
    at = page("videos", job="j4")
    assert "Interrupted: the machine went &lt;b&gt;down&lt;/b&gt;" in html(at)
    assert "Failed: no recording &#x27;zz&#x27;<" in html(at)
    assert not [b for b in at.button if b.key.endswith("j5")]
    at.button(key="cancel-j1").click().run()
    at.button(key="resume-j2").click().run()
    assert at.button(key="resume-j3").label == "Try again"
    at.button(key="delete-j3").click().run()
    assert [call[:2] for call in service.calls] == [
        ("POST", "/api/jobs/j1/cancel"),
        ("POST", "/api/jobs/j2/resume"),
        ("DELETE", "/api/jobs/j3"),
    ]


@pytest.mark.parametrize(
    ("state", "words"), [("failed", "Failed: no video in it"), ("cancelled", "its files are gone"), ("queued", "turn")]
)
def test_a_job_without_a_result_says_why(service: standin.StandIn, state: str, words: str) -> None:
    service.jobs = [standin.job_info("j1", state=state, reason="no video in it" if state == "failed" else None)]
    at = page("videos")
    assert any(words in e.value for e in [*at.error, *at.info])


def test_a_recording_has_a_timeline_and_is_drawn_anew(service: standin.StandIn) -> None:
    rest = {"bytes": 900, "running": False}
    service.recordings = [{"id": "a1_rei_20261123T101500Z", "sidecar_url": "/x", **rest}]
    service.timelines["/api/recordings/a1_rei_20261123T101500Z/timeline"] = TIMELINE
    at = page("recordings")
    assert component(at, "recording")["timeline"] == TIMELINE
    at.button(key="render").click().run()
    assert at.selectbox(key="render-style").value == "cutout"
    at.button(key="render-sure").click().run()
    spec = {"kind": "render", "recording": "a1_rei_20261123T101500Z", "style": "cutout"}
    assert service.calls == [("POST", "/api/jobs", spec)]
    assert "videos?job=j1" in html(at)


def test_a_recording_under_way_is_only_played(service: standin.StandIn) -> None:
    of = {"id": "a1_rei_20261123T101500Z", "bytes": 900, "sidecar_url": "/x", "running": True}
    service.recordings = [of]
    service.timelines["/api/recordings/a1_rei_20261123T101500Z/timeline"] = TIMELINE
    at = page("recordings")
    assert component(at, "recording")["timeline"] == TIMELINE
    assert any("Being recorded now" in element.value for element in at.caption)
    assert not [b for b in at.button if b.key in ("render", "delete")]


def test_a_recording_without_results_is_only_played(service: standin.StandIn) -> None:
    service.recordings = [{"id": "a1_rei_20261123T101500Z", "bytes": 900, "sidecar_url": None}]
    at = page("recordings")
    film = component(at, "recording")
    assert film["timeline"] is None
    assert [d["label"] for d in film["downloads"]] == ["Download video"]
    assert not [b for b in at.button if b.key == "render"]


def test_pages_say_what_the_service_takes(service: standin.StandIn) -> None:
    service.members["rei"] = []
    service.limits |= {"job_bytes": 2_500_000_000, "job_photo_bytes": 7_000_000, "job_files": 9}
    sent = component(page("images"), "submit")
    assert "up to 7 MB each" in sent["explanation"]
    assert (sent["maxFileBytes"], sent["maxBytes"], sent["maxFiles"]) == (7_000_000, 2_500_000_000, 9)
    sent = component(page("videos"), "submit")
    assert "up to 2.5 GB" in sent["explanation"]
    assert (sent["maxFileBytes"], sent["maxBytes"]) == (2_500_000_000, 2_500_000_000)


def test_several_photos_can_be_downloaded_together(service: standin.StandIn) -> None:
    names = [f"{folder}/{kind}" for folder in ("0-a", "1-b") for kind in ("annotated.png", "cutout.png")]
    one = standin.job_info("j1", "image", files=files("j1", "annotated.png", "cutout.png"), zip_url="/api/jobs/j1/z")
    two = standin.job_info("j2", "image", files=files("j2", *names), zip_url="/api/jobs/j2/files.zip")
    service.jobs = [two, one]
    offered = component(page("images", job="j2"), "download")
    assert offered == {
        "label": "Download all as a zip (4 B)",
        "url": f"{service.base}/api/jobs/j2/files.zip",
        "token": "a-long-token",
    }
    assert not [e for e in page("images", job="j1").get("bidi_component") if "download" in e.proto.component_name]

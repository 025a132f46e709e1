"""Jobs over HTTP with real processes: a small program stands for the commands; everything around it is real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from streamer.jobs import desk, runner
from streamer.jobs.job import Job
from streamer.jobs.process import JobProcess
from streamer.jobs.runner import Jobs
from streamer.service import app as composition
from streamer.service.app import create_app
from streamer.service.settings import load
from tests import media

MODULE = "tests.job_child"
WAIT_SECONDS = 120.0
"""For one thing to happen on a machine that is very busy; usually it takes a second."""


class Running:
    """A service and a client of it."""

    def __init__(self, client: httpx.AsyncClient, jobs: Jobs, data_dir: Path) -> None:
        self.client = client
        self.jobs = jobs
        self.data_dir = data_dir

    @property
    def files(self) -> list[str]:
        """Folders of jobs on disk."""
        return sorted(path.name for path in (self.data_dir / "jobs").iterdir() if path.is_dir())

    async def video(self, member: str = "rei", fields: dict[str, Any] | None = None, **orders: Any) -> dict[str, Any]:
        """Upload a "video" that holds orders for the program."""
        files = [("file", ("stage 1.mp4", json.dumps(orders).encode(), "video/mp4"))]
        data = {"kind": "video", "member": member, "object": "", **(fields or {})}
        answer = await self.client.post("/api/jobs", data=data, files=files)
        assert answer.status_code == 201, answer.text
        assert answer.headers["location"] == f"/api/jobs/{answer.json()['id']}"
        return dict(answer.json())

    async def until(self, job_id: str, *states: str) -> dict[str, Any]:
        """The job, once it is in one of `states`."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (job := (await self.client.get(f"/api/jobs/{job_id}")).json())["state"] not in states:
                assert job["state"] in ("queued", "running"), job
                await asyncio.sleep(0.02)
        return dict(job)

    async def at_work(self, job_id: str, done: int = 1) -> psutil.Process:
        """The job's process, once it has made `done` frames."""
        async with asyncio.timeout(WAIT_SECONDS):
            while (job := (await self.client.get(f"/api/jobs/{job_id}")).json())["state"] in ("queued", "running"):
                if job["state"] == "running" and (job["progress"] or {"done": 0})["done"] >= done:
                    return psutil.Process((await self.jobs.get(job_id)).pid)
                await asyncio.sleep(0.02)
        raise AssertionError(job)


@contextlib.asynccontextmanager
async def service(data_dir: Path, **jobs: Any) -> AsyncIterator[Running]:
    # What else runs on this machine must not decide how long a test takes.
    jobs = {"priority": "normal", **jobs}
    app = create_app(load(None, {"data_dir": data_dir, "vision": {"engine": "none"}, "jobs": jobs}))
    async with app.router.lifespan_context(app):
        for name in ("rei", "yujin"):
            with contextlib.suppress(Exception):
                app.state.services.gallery.add_member(name)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=WAIT_SECONDS) as client:
            yield Running(client, app.state.services.jobs, data_dir)


@pytest.fixture(autouse=True)
def _program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The service starts the tests' program instead of `streamer`."""
    monkeypatch.setattr(composition, "Jobs", lambda *args: Jobs(*args, module=MODULE))
    return


def gone(*processes: psutil.Process) -> bool:
    return not psutil.wait_procs(processes, timeout=WAIT_SECONDS)[1]


def check_problem(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in answer.json()["detail"]


async def test_a_video_from_upload_to_download(data_dir: Path) -> None:
    async with service(data_dir) as running:
        made = await running.video(fields={"style": "cutout", "every": "2"}, steps=5)
        assert made["spec"] == {"kind": "video", "member": ["rei"], "style": "cutout", "every": 2}
        assert made["inputs"][0]["name"] == "stage 1.mp4"
        job = await running.until(made["id"], "done")
        assert job["progress"] == {"done": 5, "total": 5, "fps": 9.5, "eta_seconds": None, "stage": "frames"}
        assert (job["result"]["made"], job["result"]["source"]) == (5, "stage 1.mp4")
        assert [file["name"] for file in job["files"]] == ["results.jsonl", "video.mp4"]
        url = job["files"][1]["url"]
        whole = await running.client.get(url)
        assert whole.content == b"1\n2\n3\n4\n5\n"
        assert whole.headers["content-type"] == "video/mp4"
        part = await running.client.get(url, headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.content) == (206, b"2\n3\n")
        before = await running.client.get(job["inputs"][0]["url"])
        assert json.loads(before.content) == {"steps": 5}
        assert before.headers["content-disposition"] == 'inline; filename="stage 1.mp4"'
        timeline = (await running.client.get(job["timeline_url"])).json()
        assert timeline["people"] == [{"name": "rei", "seconds": 0.5, "intervals": [[0.0, 0.5]]}]
        assert [j["id"] for j in (await running.client.get("/api/jobs")).json()] == [job["id"]]
        # Nothing that a person typed names a file.
        assert not [path for path in (data_dir / "jobs").rglob("*") if "stage" in path.name or "rei" in path.name]
        assert (await running.client.delete(f"/api/jobs/{job['id']}")).status_code == 204
        assert running.files == []
        check_problem(await running.client.get(f"/api/jobs/{job['id']}"), 404, job["id"])


async def test_several_photos_are_one_job(data_dir: Path) -> None:
    async with service(data_dir) as running:
        files = [("file", (f"{n}.jpg", b'{"steps": 1}', "image/jpeg")) for n in range(3)]
        answer = await running.client.post("/api/jobs", data={"kind": "image", "member": "rei"}, files=files)
        job = await running.until(answer.json()["id"], "done")
        assert [given["name"] for given in job["inputs"]] == ["0.jpg", "1.jpg", "2.jpg"]
        assert job["result"]["source"].endswith("/input")
        names = [file["name"] for file in job["files"]]
        assert names[0] == "annotated.png"
        assert [name.rpartition("/")[2] for name in names[1:]] == ["cutout.png"] * 3


async def test_a_recording_and_a_finished_video_are_worked_on_where_they_lie(data_dir: Path) -> None:
    (data_dir / "recordings").mkdir()
    recording = data_dir / "recordings" / "a_rei_20261125T101500Z.mp4"
    recording.write_text('{"steps": 2}')
    recording.with_suffix(".jsonl").write_text("{}\n")
    async with service(data_dir) as running:
        (data_dir / "recordings" / "b.recording.mp4").write_text("{}")
        post = running.client.post
        made = await post("/api/jobs", json={"kind": "video", "recording": recording.stem, "member": "rei"})
        video = await running.until(made.json()["id"], "done")
        assert video["inputs"][0]["url"] == f"/api/recordings/{recording.stem}"
        assert video["result"]["source"] == recording.name
        made = await post("/api/jobs", json={"kind": "render", "job": video["id"], "style": "only"})
        render = await running.until(made.json()["id"], "done")
        assert (render["result"]["source"], render["result"]["style"]) == (recording.name, "only")
        assert (render["spec"]["member"], render["result"]["members"]) == (["rei"], ["rei"]), "whom the video followed"
        made = await post("/api/jobs", json={"kind": "render", "recording": recording.stem, "style": "hide"})
        assert (await running.until(made.json()["id"], "done"))["result"]["style"] == "hide"
        check_problem(await post("/api/jobs", json={"kind": "render", "recording": "zz"}), 404, "zz")
        check_problem(await post("/api/jobs", json={"kind": "render", "job": render["id"]}), 422, "no video")
        before = running.files
        for spec, status, word in (
            ({"kind": "render", "recording": "nope"}, 404, "nope"),
            ({"kind": "video", "member": "rei", "recording": "../../etc"}, 404, "../../etc"),
            ({"kind": "render", "recording": "b"}, 409, "still running"),
            ({"kind": "render", "job": "nope"}, 404, "nope"),
            ({"kind": "render", "job": render["id"]}, 422, "no video"),
        ):
            as_json = await post("/api/jobs", json=spec)
            check_problem(as_json, status, word)
            as_form = await post("/api/jobs", files={key: (None, value) for key, value in spec.items()})
            assert (as_form.status_code, as_form.json()) == (status, as_json.json())
        assert running.files == before
        as_form = {"kind": (None, "render"), "recording": (None, recording.stem)}
        made = await post("/api/jobs", files=as_form)
        assert (await running.until(made.json()["id"], "done"))["result"]["source"] == recording.name
        assert (await running.client.delete(f"/api/jobs/{video['id']}")).status_code == 204
        assert recording.exists()


async def test_one_at_a_time_oldest_first_and_no_more_than_may_wait(data_dir: Path) -> None:
    async with service(data_dir, max_queued=2) as running:
        first = await running.video(steps=1000)
        await running.at_work(first["id"])
        second, third = await running.video(steps=2), await running.video(steps=2)
        files = [("file", ("a.mp4", b"{}", "video/mp4"))]
        form = {"kind": "video", "member": "rei"}
        check_problem(await running.client.post("/api/jobs", data=form, files=files), 429, "2 jobs are waiting")
        assert len(running.files) == 3
        assert [(await running.jobs.get(j["id"])).state for j in (second, third)] == ["queued", "queued"]
        await running.client.post(f"/api/jobs/{first['id']}/cancel")
        ends = [(await running.until(j["id"], "done"))["finished_at"] for j in (second, third)]
        assert ends == sorted(ends)


async def test_two_at_once_where_the_setting_says_so(data_dir: Path) -> None:
    async with service(data_dir, max_running=2) as running:
        made = [await running.video(steps=1000) for _ in range(3)]
        for job in made[:2]:
            await running.at_work(job["id"])
        assert (await running.jobs.get(made[2]["id"])).state == "queued"
        metrics = (await running.client.get("/metrics")).text
        assert 'streamer_jobs{state="running"} 2.0' in metrics
        assert 'streamer_jobs{state="queued"} 1.0' in metrics


async def test_a_jobs_process_leaves_the_machine_to_live_streams(data_dir: Path) -> None:
    async with service(data_dir, priority="idle") as running:
        process = await running.at_work((await running.video(steps=1000))["id"])
        assert process.nice() == 19
        if sys.platform == "linux":
            assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
            assert process.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
            autogroup = Path(f"/proc/{process.pid}/autogroup")
            if autogroup.exists():  # the kernel shares the CPU among sessions before it looks at priorities
                assert autogroup.read_text().rstrip().endswith("nice 19")
                assert autogroup.read_text() != Path("/proc/self/autogroup").read_text()
        environment = process.environ()
        assert not [name for name in environment if name.startswith("STREAMER_")]


@pytest.mark.parametrize("deaf", [False, True])
async def test_cancel_leaves_nothing_behind(data_dir: Path, deaf: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CANCEL_SECONDS", 0.5)
    async with service(data_dir) as running:
        job = await running.video(steps=10_000, deaf=deaf, spawn=True)
        process = await running.at_work(job["id"])
        family = [process, *process.children(recursive=True)]
        assert len(family) == 2
        answer = await running.client.post(f"/api/jobs/{job['id']}/cancel")
        assert answer.status_code == 202
        ended = await running.until(job["id"], "cancelled")
        assert (ended["reason"], ended["files"], ended["cancelling"]) == (None, [], False)
        assert gone(*family)
        assert running.files == []
        check_problem(await running.client.post(f"/api/jobs/{job['id']}/cancel"), 409, "cancelled")
        check_problem(await running.client.get(f"/api/jobs/{job['id']}/inputs/0"), 404)


async def test_a_job_that_waits_is_cancelled_at_once(data_dir: Path) -> None:
    async with service(data_dir) as running:
        first = await running.video(steps=1000)
        await running.at_work(first["id"])
        second = await running.video()
        answer = await running.client.post(f"/api/jobs/{second['id']}/cancel")
        assert answer.json()["state"] == "cancelled"
        assert running.files == [first["id"]]
        check_problem(await running.client.delete(f"/api/jobs/{first['id']}"), 409, "running")


async def test_a_failed_job_says_why_and_can_be_tried_again(data_dir: Path) -> None:
    async with service(data_dir) as running:
        job = await running.video(fail="stage.mp4 holds no video; give a video file")
        failed = await running.until(job["id"], "failed")
        assert failed["reason"] == "stage.mp4 holds no video; give a video file"
        assert failed["files"] == []
        answer = await running.client.post(f"/api/jobs/{job['id']}/resume")
        assert (answer.status_code, answer.json()["state"]) == (202, "queued")
        await running.until(job["id"], "failed")


async def test_a_killed_process_is_a_failure_with_its_reason(data_dir: Path) -> None:
    async with service(data_dir) as running:
        job = await running.video(steps=1000)
        (await running.at_work(job["id"])).kill()
        failed = await running.until(job["id"], "failed")
        assert "SIGKILL" in failed["reason"]
        assert "memory" in failed["reason"]


async def test_a_process_interrupted_from_outside_can_be_resumed(data_dir: Path) -> None:
    async with service(data_dir) as running:
        job = await running.video(steps=60)
        (await running.at_work(job["id"], done=3)).send_signal(signal.SIGTERM)
        interrupted = await running.until(job["id"], "interrupted")
        assert "from outside" in interrupted["reason"]
        assert interrupted["progress"]["done"] >= 3
        await running.client.post(f"/api/jobs/{job['id']}/resume")
        done = await running.until(job["id"], "done")
        assert done["result"]["began_at"] >= 3
        video = await running.client.get(done["files"][1]["url"])
        assert video.text.split() == [str(n) for n in range(1, 61)]
        check_problem(await running.client.post(f"/api/jobs/{job['id']}/resume"), 409, "done")


async def test_a_restart_of_the_service_resumes_what_ran_and_keeps_what_waits(data_dir: Path) -> None:
    async with service(data_dir) as running:
        job, waits = await running.video(steps=80), await running.video(steps=2)
        process = await running.at_work(job["id"], done=3)
    assert gone(process)
    async with service(data_dir) as running:
        done = await running.until(job["id"], "done")
        assert done["result"]["began_at"] >= 3
        assert (await running.client.get(done["files"][1]["url"])).text.split() == [str(n) for n in range(1, 81)]
        await running.until(waits["id"], "done")


async def test_what_takes_the_service_down_every_time_is_not_tried_for_ever(data_dir: Path) -> None:
    job_id = ""
    for attempt in range(desk.MAX_ATTEMPTS):
        async with service(data_dir) as running:
            job_id = job_id or (await running.video(steps=10_000))["id"]
            await running.at_work(job_id)
            assert (await running.jobs.get(job_id)).attempts == attempt + 1
    async with service(data_dir) as running:
        job = await running.until(job_id, "interrupted")
        assert "resume it by hand" in job["reason"]
        assert (await running.client.post(f"/api/jobs/{job_id}/resume")).status_code == 202
        await running.at_work(job_id)


async def test_a_job_that_is_being_started_when_the_service_stops_ends_with_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A process that is being born may not hear what asks it to end: here it inherits that Ctrl-C is ignored."""
    begun, stopping = threading.Event(), threading.Event()
    start = desk.JobDesk.start

    def late(self: desk.JobDesk, job: Job) -> JobProcess:
        begun.set()
        assert stopping.wait(WAIT_SECONDS)
        return start(self, job)

    monkeypatch.setattr(desk.JobDesk, "start", late)
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, heard))
    async with service(data_dir) as running:
        job_id = (await running.video(steps=10_000))["id"]
        assert await asyncio.to_thread(begun.wait, WAIT_SECONDS)
        asyncio.get_running_loop().call_later(0.2, stopping.set)
        closing_at = time.monotonic()
    assert time.monotonic() - closing_at < 30, "the job would take 100 s"
    async with service(data_dir) as running:
        await running.at_work(job_id)


async def test_a_killed_service_takes_its_job_with_it_and_the_next_one_resumes(data_dir: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.loopback import test_jobs as t\n"
        "t.composition.Jobs = lambda *args: t.Jobs(*args, module=t.MODULE)\n"
        "async def main():\n"
        "    async with t.service(Path(sys.argv[1])) as running:\n"
        "        job = await running.video(steps=400)\n"
        "        process = await running.at_work(job['id'], done=3)\n"
        "        print(job['id'], process.pid, flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    first = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(data_dir), stdout=asyncio.subprocess.PIPE
    )
    assert first.stdout is not None
    job_id, pid = (await first.stdout.readline()).decode().split()
    process = psutil.Process(int(pid))
    first.kill()
    await first.wait()
    async with service(data_dir) as running:
        done = await running.until(job_id, "done")
        assert gone(process)
        assert done["result"]["began_at"] >= 3
        text = (await running.client.get(done["files"][1]["url"])).text
        assert text.split() == [str(n) for n in range(1, 401)], "two processes wrote one file"


async def test_uploads_are_bounded_and_leave_nothing_when_refused(data_dir: Path) -> None:
    async with service(data_dir, max_upload_bytes=1_000_000) as running:
        post, form = running.client.post, {"kind": "video", "member": "rei"}
        big = [("file", ("a.mp4", bytes(1_500_000), "video/mp4"))]
        check_problem(await post("/api/jobs", data=form, files=big), 413)
        # Without a declared length, the bytes themselves are counted.
        body = httpx.Request("POST", "http://x", data=form, files=big)
        kind = {"Content-Type": body.headers["content-type"]}

        async def pieces() -> AsyncIterator[bytes]:
            whole = body.read()
            for start in range(0, len(whole), 50_000):
                yield whole[start : start + 50_000]

        answer = await post("/api/jobs", content=pieces(), headers=kind)
        assert answer.status_code in (413, 507)
        small = [("file", ("a.mp4", b"{}", "video/mp4"))]
        check_problem(await post("/api/jobs", data={"kind": "video", "member": "nobody"}, files=small), 404, "nobody")
        check_problem(await post("/api/jobs", data={"kind": "video"}, files=small), 422, "member")
        check_problem(await post("/api/jobs", data=form, files=[*small, *small]), 422, "one video")
        check_problem(await post("/api/jobs", json={"kind": "image", "member": "rei"}), 422, "photo")
        check_problem(await post("/api/jobs", data=form, files=[("file", ("a.mp4", b"", "video/mp4"))]), 422, "empty")
        check_problem(await post("/api/jobs", content=b"x", headers={"Content-Type": "text/plain"}), 415)
        broken = {"Content-Type": "multipart/form-data; boundary=x"}
        check_problem(await post("/api/jobs", content=b"nonsense", headers=broken), 400, "form")
        endless = b'--x\r\nContent-Disposition: form-data; name="' + b"a" * 100_000
        check_problem(await post("/api/jobs", content=endless, headers=broken), 400, "form")
        assert running.files == []
        assert (await running.client.get("/api/jobs")).json() == []


async def test_a_form_that_is_cut_short_is_no_job_of_the_files_that_came(data_dir: Path) -> None:
    async with service(data_dir) as running:
        files = [("file", (f"{n}.jpg", b'{"steps": 1}', "image/jpeg")) for n in range(2)]
        whole = httpx.Request("POST", "http://x", data={"kind": "image", "member": "rei"}, files=files)
        kind, body = {"Content-Type": whole.headers["content-type"]}, whole.read()
        ends = (len(body) // 2, body.rindex(b"Content-Type"), body.rindex(b"steps"), body.rindex(b"\r\n--"), -4)
        for end in ends:
            answer = await running.client.post("/api/jobs", content=body[:end], headers=kind)
            check_problem(answer, 400, "cut short")
        assert running.files == []
        assert (await running.client.post("/api/jobs", content=body, headers=kind)).status_code == 201


async def test_a_full_share_of_the_disk_takes_nothing_new(data_dir: Path) -> None:
    async with service(data_dir, max_total_bytes=1_000_000) as running:
        job = await running.video(steps=1)
        await running.until(job["id"], "done")
        (data_dir / "jobs" / job["id"] / "output" / "video.mp4").write_bytes(bytes(1_100_000))
        files = [("file", ("a.mp4", b"{}", "video/mp4"))]
        answer = await running.client.post("/api/jobs", data={"kind": "video", "member": "rei"}, files=files)
        check_problem(answer, 507, "max_total_bytes")


async def test_files_of_others_cannot_be_named_and_uploads_are_no_pages(data_dir: Path) -> None:
    (data_dir / "secret.txt").write_text("secret")
    async with service(data_dir) as running:
        files = [("file", ("../../evil.html", b'{"steps": 1}', "text/html"))]
        made = await running.client.post("/api/jobs", data={"kind": "video", "member": "rei"}, files=files)
        job = await running.until(made.json()["id"], "done")
        assert job["inputs"][0]["name"] == "evil.html"
        given = await running.client.get(job["inputs"][0]["url"])
        assert given.headers["content-type"] == "application/octet-stream"
        assert given.headers["x-content-type-options"] == "nosniff"
        assert given.headers["content-disposition"].startswith("attachment")
        for name in ("../config.yaml", "%2e%2e/config.yaml", "..%2f..%2f..%2fsecret.txt", "/etc/passwd", "input", ""):
            answer = await running.client.get(f"/api/jobs/{job['id']}/files/{name}")
            assert answer.status_code == 404, name


async def test_old_jobs_are_deleted_and_young_ones_kept(data_dir: Path) -> None:
    async with service(data_dir) as running:
        old, young = await running.video(steps=1), await running.video(steps=1)
        for job in (old, young):
            await running.until(job["id"], "done")
        store = running.jobs._store
        store.change(old["id"], finished_at=(await running.jobs.get(old["id"])).finished_at - 31 * 86_400)
    async with service(data_dir) as running, asyncio.timeout(WAIT_SECONDS):
        while running.files != [young["id"]]:
            await asyncio.sleep(0.02)
        assert [j["id"] for j in (await running.client.get("/api/jobs")).json()] == [young["id"]]


async def test_half_an_upload_is_swept_away_at_the_next_start(data_dir: Path) -> None:
    for name in ("aa.upload", "bb.gone"):
        (data_dir / "jobs" / name / "input").mkdir(parents=True)
    async with service(data_dir) as running, asyncio.timeout(WAIT_SECONDS):
        while running.files:
            await asyncio.sleep(0.02)


async def test_the_timeline_and_the_picture_of_a_recording(data_dir: Path) -> None:
    folder = data_dir / "recordings"
    folder.mkdir()
    clip = media.video(folder / "a_rei_20261125T101500Z.mp4")
    lines = [{"pts": 7 + n / 25, "tracks": [{"name": "rei", "state": "tracked"}]} for n in range(25)]
    clip.with_suffix(".jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    media.video(folder / "b.mp4")
    async with service(data_dir) as running:
        listed = {r["id"]: r for r in (await running.client.get("/api/recordings")).json()}
        timeline = (await running.client.get(listed[clip.stem]["timeline_url"])).json()
        assert timeline == {
            "duration_seconds": 1.0,
            "frames": 25,
            "people": [{"name": "rei", "seconds": 1.0, "intervals": [[0.0, 1.0]]}],
        }
        picture = await running.client.get(listed["b"]["poster_url"])
        assert picture.headers["content-type"] == "image/jpeg"
        assert picture.content.startswith(b"\xff\xd8")
        assert listed["b"]["timeline_url"] is None
        check_problem(await running.client.get("/api/recordings/b/timeline"), 404, "no sidecar")


async def test_json_that_is_not_called_so_is_told_the_header(data_dir: Path) -> None:
    async with service(data_dir) as running:
        for headers in ({"Content-Type": "application/x-www-form-urlencoded"}, {}):
            sent = await running.client.post("/api/jobs", content=b'{"kind": "render"}', headers=headers)
            check_problem(sent, 415, "Content-Type: application/json", "multipart/form-data")

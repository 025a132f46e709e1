"""Recordings cut off by kill -9, and by a disk that takes no more: real processes, a real limit of the kernel."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from streamer.egress.recordings import adopt_leftovers, find_recording, list_recordings
from tests.recordings import lines, pictures

WRITER = textwrap.dedent(
    """
    import resource, sys, time
    from pathlib import Path
    from streamer.egress.recorder import Recorder
    from tests.recordings import encoded
    folder, limit = Path(sys.argv[1]), int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    recorder = Recorder(folder, "cam", None, keyframe=lambda: None)
    for count, frame in enumerate(encoded(20_000, size=(320, 240), bit_rate=1_000_000, every=10)):
        recorder.put(frame)
        while recorder.state()["frames"] < count + 1 and not recorder.ended:
            time.sleep(0.0005)
        print(count + 1, flush=True)
        if recorder.ended:
            recorder.close()
            print(recorder.state()["ended_reason"], flush=True)
            break
    """
)


def test_a_full_disk_ends_the_recording_and_what_is_there_plays(tmp_path: Path) -> None:
    """A real limit of the kernel on the size of files, in a process of its own."""
    limit = 150_000
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), str(limit)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "start again" in done.stdout.splitlines()[-1]
    (recording,) = list_recordings(tmp_path)
    assert not recording.running
    assert recording.bytes <= limit
    assert recording.sidecar is not None
    shown = pictures(recording.path)
    assert shown > 0
    assert [line["frame"] for line in lines(recording.sidecar)] == list(range(shown))


def test_kill_9_leaves_a_file_that_plays_and_is_adopted(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 95:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    (cut_off,) = list_recordings(tmp_path)
    assert cut_off.running
    shown = pictures(cut_off.path)
    assert shown >= 80, "all but the last group of pictures, ten frames here"
    assert adopt_leftovers(tmp_path) == [cut_off.id]
    adopted = find_recording(tmp_path, cut_off.id)
    assert not adopted.running
    assert adopted.sidecar is not None
    assert pictures(adopted.path) == shown
    assert [line["frame"] for line in lines(adopted.sidecar)] == list(range(shown))
    assert adopt_leftovers(tmp_path) == []

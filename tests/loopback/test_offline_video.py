"""Video files through the offline path with the synthetic engine: pictures, times, sound and lines agree."""

from __future__ import annotations

import itertools
import json
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.errors import OutputError, SourceUnusable
from streamer.offline.cast import Cast
from streamer.offline.film import Look
from streamer.offline.progress import Progress
from streamer.offline.render import RenderOrder, render
from streamer.offline.sight import Sight
from streamer.offline.video import VideoOrder, VideoResult, process
from streamer.vision.loading import build_models
from tests import media

PLAIN = Look("none")
TICK = 1 / 90_000


def order(clip: Path, output: Path, look: Look = PLAIN, **options: object) -> VideoOrder:
    return VideoOrder(clip, output, Cast(("rei",)), look, **options)  # type: ignore[arg-type]


def pictures(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def numbers(path: Path) -> list[int]:
    return [media.picture_number(frame.to_ndarray(format="yuv420p")) for frame in pictures(path)]


def counted(frames: int) -> list[int]:
    return [number % 32 for number in range(frames)]


def times(path: Path) -> list[float]:
    """Seconds of each picture, in order."""
    return [float(frame.pts * frame.time_base) for frame in pictures(path)]


def sound(path: Path) -> list[tuple[bytes, float]]:
    """Packets of sound, and when they are heard after the first picture."""
    with av.open(str(path)) as container:
        packets = [(bytes(p), float(p.pts * p.time_base)) for p in container.demux(audio=0) if p.size]
    first = times(path)[0]
    return [(data, at - first) for data, at in packets]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def folder(path: Path) -> set[str]:
    return {file.name for file in path.iterdir() if file.name != "data"}


def test_pictures_times_sound_and_lines_agree(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 2000, 40), sound=True)
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert done.frames == 50
    assert done.seconds == pytest.approx(2.0, abs=0.001)
    assert done.seen == {"rei": 50}
    assert numbers(tmp_path / "out.mp4") == numbers(clip)
    assert times(tmp_path / "out.mp4") == pytest.approx(times(clip), abs=2 * TICK)
    before, after = sound(clip), sound(tmp_path / "out.mp4")
    assert [data for data, _ in after] == [data for data, _ in before]
    assert [at for _, at in after] == pytest.approx([at for _, at in before], abs=0.001)
    told = lines(tmp_path / "out.jsonl")
    assert [line["frame"] for line in told] == list(range(50))
    assert [line["pts"] for line in told] == pytest.approx(times(tmp_path / "out.mp4"), abs=2 * TICK)
    assert all(line["tracks"][0]["name"] == "rei" for line in told)
    assert folder(tmp_path) == {"in.mp4", "out.mp4", "out.jsonl"}


IRREGULAR = [0, 40, 50, 130, 400, 433, 466, 1200, 1240, 3000]
AWKWARD = {
    "variable rate": {"times_ms": IRREGULAR},
    "B-frames": {"options": {"preset": "medium", "bf": "3", "b-adapt": "0"}, "times_ms": range(0, 1000, 40)},
    "late start": {"times_ms": range(1500, 2500, 40)},
    "odd size": {"size": (321, 181), "pixel_format": "yuv444p"},
    "ten bits": {"pixel_format": "yuv420p10le"},
    "full range": {"codec": "mjpeg", "pixel_format": "yuvj420p", "options": {"qmin": "2"}},
    "slow": {"times_ms": range(0, 5000, 500), "rate": 2},
    "fast": {"times_ms": range(0, 500, 10), "rate": 100},
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("kind", AWKWARD)
def test_awkward_files_keep_their_pictures_and_times(sight: Sight, tmp_path: Path, kind: str, suffix: str) -> None:
    clip = media.video(tmp_path / f"in{suffix}", **AWKWARD[kind])  # type: ignore[arg-type]
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    before, after = times(clip), times(tmp_path / "out.mp4")
    assert done.frames == len(before)
    assert [t - after[0] for t in after] == pytest.approx([t - before[0] for t in before], abs=0.0011)
    assert numbers(tmp_path / "out.mp4") == counted(len(before))
    assert [line["pts"] for line in lines(tmp_path / "out.jsonl")] == pytest.approx(after, abs=0.0011)


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv"])
@pytest.mark.parametrize("source", ["in.mp4", "in.ts", "in.mkv"])
def test_sound_is_copied_between_containers(sight: Sight, tmp_path: Path, source: str, output: str) -> None:
    muxer = {"in.ts": "mpegts"}.get(source)
    clip = media.video(tmp_path / source, times_ms=range(0, 1000, 40), sound=True, muxer=muxer)
    process(order(clip, tmp_path / output), sight)
    before, after = sound(clip), sound(tmp_path / output)
    assert len(after) == pytest.approx(len(before), abs=1)
    assert after[0][1] == pytest.approx(before[0][1], abs=0.04)
    with av.open(str(tmp_path / output)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        heard = sum(frame.samples for frame in container.decode(audio=0))
    assert heard == pytest.approx(48_000, abs=2 * 1024)


def test_sound_that_does_not_fit_is_encoded_again_and_said(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", sound=True)
    done = process(order(clip, tmp_path / "out.webm", Look("cutout", transparent=True)), sight)
    with av.open(str(tmp_path / "out.webm")) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        assert sum(frame.samples for frame in container.decode(audio=0)) == pytest.approx(48_000, abs=3000)
    assert any("sound encoded again" in note for note in done.notes)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_phone_video_is_upright(sight: Sight, tmp_path: Path, degrees: int) -> None:
    clip = media.rotated(tmp_path / "in.mp4", degrees)
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert done.size == ((180, 320) if degrees != 180 else (320, 180))
    shown = pictures(tmp_path / "out.mp4")[-1].to_ndarray(format="gray")
    # The bright half of the picture is its upper one as it was stored.
    half = {90: shown[:, 90:], 180: shown[90:], 270: shown[:, :90]}[degrees]
    rest = {90: shown[:, :90], 180: shown[:90], 270: shown[:, 90:]}[degrees]
    assert half.mean() > rest.mean() + 50


def test_hdr_colours_are_carried_through_and_said(sight: Sight, tmp_path: Path) -> None:
    tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc"
    clip = media.video(
        tmp_path / "in.mp4",
        pixel_format="yuv420p10le",
        options={"preset": "ultrafast", "x264-params": tags},
    )
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    frame = pictures(tmp_path / "out.mp4")[0]
    assert (int(frame.color_primaries), int(frame.color_trc), int(frame.colorspace)) == (9, 16, 9)
    assert any("HDR" in note for note in done.notes)


def test_a_file_without_time_stamps_runs_at_its_rate(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.h264", muxer="h264", options={"preset": "medium", "bf": "2"})
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert done.frames == 25
    assert numbers(tmp_path / "out.mp4") == list(range(25))
    assert np.diff(times(tmp_path / "out.mp4")) == pytest.approx(np.full(24, 0.04), abs=2 * TICK)


def test_clocks_that_jump_back_go_on(sight: Sight, tmp_path: Path) -> None:
    clip = media.pts_jump_back(tmp_path / "in.ts")
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert done.frames == 20
    assert all(b > a for a, b in itertools.pairwise(times(tmp_path / "out.mp4")))
    assert times(tmp_path / "out.mp4")[-1] == pytest.approx(0.76, abs=0.1)


def test_a_picture_that_changes_its_size_fits_the_first_one(sight: Sight, tmp_path: Path) -> None:
    clip = media.size_change(tmp_path / "in.h264")
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert (done.frames, done.size) == (20, (320, 180))


def test_damaged_packets_are_survived(sight: Sight, tmp_path: Path) -> None:
    clip = media.corrupted(tmp_path / "in.ts")
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert done.frames == len(times(tmp_path / "out.mp4")) > 20


def test_a_part_of_a_file_in_sync(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 2000, 40), sound=True, options={"g": "12"})
    done = process(order(clip, tmp_path / "out.mp4", from_seconds=0.4, to_seconds=0.8), sight)
    assert done.frames == 10
    assert numbers(tmp_path / "out.mp4") == list(range(10, 20))
    first = next(data for data, at in sound(clip) if at >= 0.4)
    heard = {data: at for data, at in sound(tmp_path / "out.mp4")}
    assert heard[first] == pytest.approx(dict(sound(clip))[first] - 0.4, abs=0.001)
    told = lines(tmp_path / "out.jsonl")
    assert told[0]["pts"] == pytest.approx(0, abs=1e-4)
    assert told[0]["source_pts"] == pytest.approx(0.4, abs=0.001)
    again = render(RenderOrder(clip, tmp_path / "out.jsonl", tmp_path / "again.mp4", PLAIN), sight.settings.video)
    assert again.frames == 10
    assert numbers(tmp_path / "again.mp4") == list(range(10, 20))


def partly(sight: Sight, wanted: VideoOrder) -> VideoResult:
    """What a run leaves that is stopped after a while."""
    vision = sight.settings.vision.model_copy(update={"synthetic_delay_seconds": 0.03})
    settings = sight.settings.model_copy(update={"vision": vision})
    slow = Sight(settings, build_models(vision, settings.data_folder), sight.known)
    stop = threading.Event()
    timer = threading.Timer(1.6, stop.set)
    timer.start()
    done = process(wanted, slow, stop=stop)
    timer.join()
    assert done.interrupted
    return done


def test_sound_that_begins_before_the_picture_is_kept_whole(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(600, 1600, 40), sound=True)
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert (done.frames, done.seconds) == (25, pytest.approx(1.6, abs=0.03))
    assert times(tmp_path / "out.mp4")[0] == pytest.approx(0.6, abs=0.03)
    before, after = sound(clip), sound(tmp_path / "out.mp4")
    assert [data for data, _ in after] == [data for data, _ in before]
    assert [at for _, at in after] == pytest.approx([at for _, at in before], abs=0.001)
    part = process(order(clip, tmp_path / "part.mp4", to_seconds=1.0), sight)
    assert part.frames == pytest.approx(10, abs=1)


def test_a_stopped_run_leaves_whole_files_and_resume_goes_on(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 4000, 40), sound=True)
    out = tmp_path / "out.mp4"
    first = partly(sight, order(clip, out))
    assert 0 < first.frames < 100
    assert len(times(out)) == first.frames == len(lines(tmp_path / "out.jsonl"))
    assert folder(tmp_path) == {"in.mp4", "out.mp4", "out.jsonl", "out.resume.json"}
    done = process(order(clip, out, resume=True), sight)
    assert not done.interrupted
    assert (done.frames, done.resumed_frames) == (100, first.frames)
    assert numbers(out) == numbers(clip)
    assert times(out) == pytest.approx(times(clip), abs=2 * TICK)
    assert [line["frame"] for line in lines(tmp_path / "out.jsonl")] == list(range(100))
    assert [data for data, _ in sound(out)] == [data for data, _ in sound(clip)]
    assert folder(tmp_path) == {"in.mp4", "out.mp4", "out.jsonl"}


def test_resume_with_other_options_is_refused(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 4000, 40))
    partly(sight, order(clip, tmp_path / "out.mp4"))
    with pytest.raises(OutputError, match="style was 'none' and is 'hide' now"):
        process(order(clip, tmp_path / "out.mp4", Look("hide"), resume=True), sight)


def test_resume_without_anything_begins(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4")
    assert process(order(clip, tmp_path / "out.mp4", resume=True), sight).frames == 25


@pytest.mark.parametrize(("suffix", "codec"), [(".mov", "prores"), (".webm", "vp9")])
def test_transparent_output_has_the_mask_as_alpha(sight: Sight, tmp_path: Path, suffix: str, codec: str) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    out = tmp_path / f"out{suffix}"
    done = process(order(clip, out, Look("cutout", transparent=True)), sight)
    assert done.frames == 10
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == codec
        decoder = av.CodecContext.create("libvpx-vp9" if codec == "vp9" else "prores", "r")
        decoder.extradata = stream.codec_context.extradata
        if codec == "prores":
            decoder = stream.codec_context
        frames = [f for packet in container.demux(stream) for f in decoder.decode(packet)]
    alpha = frames[5].reformat(format="yuva420p").planes[3]
    seen = np.frombuffer(alpha, np.uint8).reshape(-1, alpha.line_size)[:180, :320]
    box = lines(tmp_path / "out.jsonl")[5]["tracks"][0]["box"]
    middle = int((box[1] + box[3]) / 2), int((box[0] + box[2]) / 2)
    assert seen[middle] > 240
    assert seen[0, 0] < 10
    inside = (seen > 128).sum() / ((box[2] - box[0]) * (box[3] - box[1]))
    assert inside == pytest.approx(np.pi / 4, abs=0.1)


def test_every_nth_frame_gives_all_frames(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 1000, 40))
    done = process(order(clip, tmp_path / "out.mp4", every=4), sight)
    assert numbers(tmp_path / "out.mp4") == list(range(25))
    told = lines(tmp_path / "out.jsonl")
    assert [line["frame"] for line in told] == list(range(25))
    assert done.seen["rei"] == 25


def test_a_fancam_has_its_shape_and_all_frames(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 2000, 40), sound=True)
    done = process(order(clip, tmp_path / "out.mp4", Look("none", fancam=9 / 16)), sight)
    assert (done.frames, done.size) == (50, (100, 180))
    assert times(tmp_path / "out.mp4") == pytest.approx(times(clip), abs=2 * TICK)


def test_rendered_again_it_looks_the_same(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 400, 40))
    process(order(clip, tmp_path / "out.mp4", Look("annotated")), sight)
    render(RenderOrder(clip, tmp_path / "out.jsonl", tmp_path / "again.mp4"), sight.settings.video)
    for first, second in zip(pictures(tmp_path / "out.mp4"), pictures(tmp_path / "again.mp4"), strict=True):
        difference = np.abs(first.to_ndarray(format="gray").astype(int) - second.to_ndarray(format="gray"))
        assert difference.mean() < 0.5


def test_progress_counts_up_to_the_end(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4")
    told: list[Progress] = []
    process(order(clip, tmp_path / "out.mp4"), sight, told.append)
    assert (told[-1].done, told[-1].total) == (25, 25)
    assert all(a.done <= b.done for a, b in itertools.pairwise(told))


def test_stopped_before_the_first_frame_nothing_is_left(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4")
    stop = threading.Event()
    stop.set()
    done = process(order(clip, tmp_path / "out.mp4"), sight, stop=stop)
    assert (done.interrupted, done.frames) == (True, 0)
    assert folder(tmp_path) == {"in.mp4"}


def test_a_truncated_file_is_done_as_far_as_it_goes_and_said(sight: Sight, tmp_path: Path) -> None:
    clip = tmp_path / "in.mkv"
    whole = media.video(clip, times_ms=range(0, 4000, 40)).read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    done = process(order(clip, tmp_path / "out.mp4"), sight)
    assert 0 < done.frames < 100
    assert any("cut short" in note for note in done.notes)


def refused(sight: Sight, clip: Path, output: Path, match: str, **options: object) -> None:
    """The run ends with one line, and leaves nothing that was not there."""
    before = folder(output.parent) if output.parent.is_dir() else set()
    with pytest.raises((SourceUnusable, OutputError), match=match) as caught:
        process(order(clip, output, **options), sight)
    assert "\n" not in str(caught.value)
    assert (folder(output.parent) if output.parent.is_dir() else set()) == before


def test_inputs_that_are_no_video(sight: Sight, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    (tmp_path / "empty.mp4").touch()
    media.audio_only(tmp_path / "sound.mp4")
    truncated = tmp_path / "truncated.mp4"
    truncated.write_bytes(media.video(tmp_path / "whole.mp4").read_bytes()[:2000])
    with av.open(str(tmp_path / "picture.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    (tmp_path / "picture.mp4").write_bytes((tmp_path / "picture.png").read_bytes())
    refused(sight, tmp_path / "missing.mp4", out, "no such file")
    refused(sight, tmp_path, out, "is a folder")
    refused(sight, tmp_path / "text.mp4", out, "no video that can be read")
    refused(sight, tmp_path / "empty.mp4", out, "empty")
    refused(sight, tmp_path / "sound.mp4", out, "has no video: it holds only audio")
    refused(sight, truncated, out, "no video that can be read|has no video|not one picture")
    refused(sight, tmp_path / "picture.mp4", out, "is a picture, not a video")
    refused(sight, tmp_path / "whole.mp4", out, "no picture lies between 5 s and the end; choose", from_seconds=5.0)
    refused(sight, tmp_path / "whole.mp4", out, "between 5 s and 6.5 s; choose", from_seconds=5.0, to_seconds=6.5)


def test_a_header_without_frames(sight: Sight, tmp_path: Path) -> None:
    clip = tmp_path / "in.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()
    refused(sight, clip, tmp_path / "out.mp4", "not one picture|no video")


def test_a_wrong_suffix_of_the_input_does_not_matter(sight: Sight, tmp_path: Path) -> None:
    media.video(tmp_path / "in.mkv").rename(tmp_path / "in.mp4")
    assert process(order(tmp_path / "in.mp4", tmp_path / "out.mp4"), sight).frames == 25


def test_an_encrypted_file_is_refused(sight: Sight, tmp_path: Path) -> None:
    clip = tmp_path / "in.mp4"
    plain = media.video(tmp_path / "plain.mp4")
    key = "00112233445566778899aabbccddeeff"
    options = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    with av.open(str(plain)) as source, av.open(str(clip), "w", format="mp4", container_options=options) as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    refused(sight, clip, tmp_path / "out.mp4", "DRM")


def test_a_hundred_megapixels_are_refused_before_they_are_decoded(sight: Sight, tmp_path: Path) -> None:
    clip = tmp_path / "in.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_mux_stream("mjpeg", rate=25, width=10_000, height=10_000)
        stream.time_base = Fraction(1, 1000)
        packet = av.Packet(b"\0" * 64)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1000)
        container.mux(packet)
    refused(sight, clip, tmp_path / "out.mp4", "100 megapixels, above the limit")


def test_outputs_that_cannot_be(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4")
    whole = clip.read_bytes()
    refused(sight, clip, tmp_path / "missing" / "out.mp4", "does not exist; make the folder first")
    refused(sight, clip, clip / "out.mp4", "is not a folder")
    refused(sight, clip, Path("/proc/out.mp4"), "cannot write /proc")
    refused(sight, clip, clip, "is the input")
    refused(sight, clip, tmp_path / "out.mp4", "is the input", sidecar=clip)
    (tmp_path / "link.mp4").symlink_to(clip)
    refused(sight, clip, tmp_path / "link.mp4", "is the input")
    refused(sight, clip, tmp_path / "out.avi", "use .mp4 or .mov or .mkv")
    refused(sight, clip, tmp_path / "out", "file without suffix")
    (tmp_path / "dir.mp4").mkdir()
    refused(sight, clip, tmp_path / "dir.mp4", "is a folder")
    assert clip.read_bytes() == whole


def test_a_file_that_changes_while_it_is_read(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4", times_ms=range(0, 4000, 40))

    def on_progress(progress: Progress) -> None:
        if not changed:
            changed.append(1)
            with clip.open("ab") as file:
                file.write(b"more")

    changed: list[int] = []
    with pytest.raises(SourceUnusable, match="changed while it was read"):
        process(order(clip, tmp_path / "out.mp4"), sight, on_progress)
    assert folder(tmp_path) == {"in.mp4"}


def test_a_sidecar_that_is_none(sight: Sight, tmp_path: Path) -> None:
    clip = media.video(tmp_path / "in.mp4")
    (tmp_path / "not.jsonl").write_text('{"hello": 1}\n')
    (tmp_path / "empty.jsonl").touch()
    for name, match in (("not", "line 1: not the JSON"), ("empty", "not one line"), ("missing", "cannot read")):
        with pytest.raises(SourceUnusable, match=match):
            render(RenderOrder(clip, tmp_path / f"{name}.jsonl", tmp_path / "out.mp4"), sight.settings.video)
    process(order(clip, tmp_path / "tall.mp4", Look("none", fancam=9 / 16)), sight)
    other = media.video(tmp_path / "other.mp4", size=(180, 320))
    with pytest.raises(SourceUnusable, match="do not belong together"):
        render(RenderOrder(other, tmp_path / "tall.jsonl", tmp_path / "out.mp4"), sight.settings.video)
    assert not (tmp_path / "out.mp4").exists()

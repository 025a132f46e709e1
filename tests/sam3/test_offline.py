"""Photos and video files with engine sam3: four pictures share one run of the image encoder, and change nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch", reason="SAM 3 needs torch: pip install -e '.[sam3]'")

from skimage import data as skimage_data  # noqa: E402

from streamer import IdentityAwareSegmentation  # noqa: E402
from streamer.cli import app  # noqa: E402
from streamer.contract import decode_mask  # noqa: E402
from streamer.errors import ModelMissing, PhotoRefused  # noqa: E402
from streamer.frames import Frame  # noqa: E402
from streamer.offline import album, photo  # noqa: E402
from streamer.offline.api import ModelSize  # noqa: E402
from streamer.offline.cast import Cast  # noqa: E402
from streamer.offline.photo import PhotoOrder  # noqa: E402
from streamer.offline.results import ImageResult  # noqa: E402
from streamer.offline.sight import BATCH, Sight, Watcher  # noqa: E402
from streamer.service.settings import Settings, load  # noqa: E402
from streamer.tracks import FrameResult  # noqa: E402
from streamer.vision.engines.sam3.engine import Sam3Models  # noqa: E402
from streamer.vision.engines.sam3.features import Features  # noqa: E402
from streamer.vision.engines.sam3.network import Network  # noqa: E402
from streamer.vision.engines.sam3.options import Sam3Options  # noqa: E402
from streamer.vision.known import Known  # noqa: E402
from streamer.vision.loading import Models, build_models  # noqa: E402
from streamer.vision.models import ModelStore  # noqa: E402
from tests.sam3 import tiny  # noqa: E402
from tests.sam3.test_engine import Calls, Pictures  # noqa: E402

REI = Known("", ("rei",), np.zeros(0, np.int64), np.zeros((0, 512), np.float32))


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return load(None, {"data_dir": data_dir, "vision": {"engine": "synthetic"}})


@pytest.fixture
def sight(settings: Settings, network: Network) -> Sight:
    """Without faces: each picture shows one person, in a box that the picture's size and time give."""
    return Sight(settings, Models(settings.vision, None, None, Sam3Models(network)), REI)


@pytest.fixture
def segmentation(sight: Sight) -> Iterator[IdentityAwareSegmentation]:
    with IdentityAwareSegmentation(data_dir=sight.settings.data_folder) as made:
        made._sight = sight
        yield made


@pytest.fixture
def images(network: Network) -> Calls:
    return Calls(network.model.detector_model.vision_encoder)


def photos(picture: Pictures, count: int) -> list[np.ndarray]:
    """RGB, all of other sizes, odd ones too."""
    return [cv2.resize(picture(9 * n).bgr, (160 + 21 * n, 120 + (13 * n) % 50))[..., ::-1].copy() for n in range(count)]


def same(one: ImageResult, other: ImageResult) -> None:
    assert one.json["tracks"][0]["box"] == other.json["tracks"][0]["box"]
    assert [(t.id, t.name, t.state, t.label) for t in one.tracks] == [
        (t.id, t.name, t.state, t.label) for t in other.tracks
    ]
    assert (one.json["frame"], one.json["pts"], one.json["size"]) == (
        other.json["frame"],
        other.json["pts"],
        other.json["size"],
    )
    for mine, its in zip(one.masks, other.masks, strict=True):
        assert np.count_nonzero(mine != its) <= 2  # a logit at the edge may round either way
    for mine, its in ((one.annotated, other.annotated), (one.overlay, other.overlay), (one.cutout, other.cutout)):
        assert mine.shape == its.shape
        assert np.count_nonzero(mine != its) < 200


@pytest.mark.parametrize("count", [1, 4, 6])
def test_photos_go_through_the_image_encoder_in_fours_and_are_what_each_is_alone(
    segmentation: IdentityAwareSegmentation, images: Calls, picture: Pictures, count: int
) -> None:
    given = photos(picture, count)
    together = list(segmentation.segment_images(given, "rei"))
    assert len(images) == ceil(count / BATCH)
    assert sum(images.batches) == count
    for bgr, found in zip(given, together, strict=True):
        assert isinstance(found, ImageResult)
        same(found, segmentation.segment_image(bgr, "rei"))
    assert images.batches[ceil(count / BATCH) :] == [1] * count


@pytest.mark.models
def test_people_named_by_their_faces_are_who_they_are_alone(
    options: Sam3Options, checkpoint: Path, model_store: ModelStore, data_dir: Path
) -> None:
    """With real faces; here the masks are the detector's, and no two are alike."""
    chosen = {"checkpoint": str(checkpoint), "score_threshold": options.score_threshold}
    (data_dir / "models").symlink_to(model_store.root, target_is_directory=True)
    settings = load(None, {"data_dir": data_dir, "vision": {"engine": "sam3", "threads": 1, "sam3": chosen}})
    models = build_models(settings.vision, settings.data_folder)
    assert models.sam3 is not None
    astronaut = skimage_data.astronaut()
    with IdentityAwareSegmentation(data_dir=data_dir) as segmentation:
        segmentation._sight = Sight(settings, models, Known.nobody())
        segmentation.add_member("eileen", astronaut)
        cuts = [astronaut[:, :401], astronaut[:380], np.zeros((100, 140, 3), np.uint8), astronaut[5:, 60:], astronaut]
        given = [np.ascontiguousarray(cut) for cut in cuts]
        encoder = models.sam3.network.model.detector_model.vision_encoder  # type: ignore[union-attr]
        images = Calls(encoder)
        together = list(segmentation.segment_images(given, "eileen", "shirt"))
        assert images.batches == [4, 1]
        alone = [segmentation.segment_image(rgb, "eileen", "shirt") for rgb in given]
    for found, expected in zip(together, alone, strict=True):
        assert isinstance(found, ImageResult)
        assert found.seen == expected.seen == bool(found.tracks)
        assert found.similarity == expected.similarity
        if found.seen:
            same(found, expected)
    shares = [decode_mask(found.json["tracks"][0]["mask"]).mean() for found in alone if found.seen]
    assert len(shares) == 4
    assert all(0 < share < 1 for share in shares)


def test_objects_are_sought_photo_by_photo(
    segmentation: IdentityAwareSegmentation, images: Calls, picture: Pictures
) -> None:
    given = photos(picture, 3)
    together = list(segmentation.segment_images(given, "rei", "shirt"))
    assert images.batches == [3]
    assert any(found.masks[0].any() for found in together if isinstance(found, ImageResult))
    for rgb, found in zip(given, together, strict=True):
        alone = segmentation.segment_image(rgb, "rei", "shirt")
        assert isinstance(found, ImageResult)
        assert [t.object_prompt for t in found.tracks] == [t.object_prompt for t in alone.tracks]
        for mine, its in zip(found.masks, alone.masks, strict=True):
            assert np.count_nonzero(mine != its) <= 2


def test_photos_that_cannot_be_read_take_no_place_in_a_batch(
    segmentation: IdentityAwareSegmentation, images: Calls, picture: Pictures, tmp_path: Path
) -> None:
    good = photos(picture, 5)
    given = [good[0], tmp_path / "missing.jpg", good[1], np.zeros((4, 4, 3), np.uint8), *good[2:]]
    told: list[int] = []
    found = list(segmentation.segment_images(given, "rei", on_progress=lambda progress: told.append(progress.done)))
    assert [isinstance(one, PhotoRefused) for one in found] == [False, True, False, True, False, False, False]
    assert images.batches == [4, 1]
    assert told[-1] == len(given)


def test_a_batch_that_does_not_fit_goes_one_by_one(
    segmentation: IdentityAwareSegmentation, network: Network, picture: Pictures
) -> None:
    encoder = network.model.detector_model.vision_encoder
    tiny.refuse_batches(encoder)
    images = Calls(encoder)
    found = list(segmentation.segment_images(photos(picture, 3), "rei"))
    assert images.batches == [1, 1, 1]
    assert all(isinstance(one, ImageResult) and one.seen for one in found)


def test_no_more_than_two_batches_are_read_ahead(sight: Sight, picture: Pictures) -> None:
    """Read on a thread ahead of the engine, but not the whole folder."""
    taken = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal taken
        for rgb in photos(picture, 20):
            taken += 1
            yield rgb

    done = 0
    for _ in album.segmented(counted(), PhotoOrder(Cast(("rei",))), sight):
        done += 1
        assert taken <= done + 2 * BATCH + 1
    assert (done, taken) == (20, 20)


def test_a_drawn_box_needs_no_second_encoding(sight: Sight, images: Calls, picture: Pictures) -> None:
    bgr = picture(0).bgr
    found = photo.segment(bgr, PhotoOrder(Cast(("rei",)), box_xyxy=(0.0, 0.0, 30.0, 30.0)), sight)
    assert images.batches == [1]
    assert [track.id for track in found.result.tracks] in ([], [1])


def frames(picture: Pictures, count: int, cut_at: int) -> list[Frame]:
    """Numbered; another scene from `cut_at` on."""
    made = []
    for index in range(count):
        bgr = picture(index).bgr if index < cut_at else 255 - picture(index).bgr[::-1, ::-1]
        i420 = cv2.cvtColor(np.ascontiguousarray(bgr), cv2.COLOR_BGR2YUV_I420)
        made.append(Frame(i420, index, index / 30, 0.0))
    return made


def watched(watcher: Watcher, given: list[Frame]) -> list[FrameResult]:
    found: list[tuple[Frame, FrameResult]] = []
    for frame in given:
        found += watcher.step(frame)
    found += watcher.finish()
    watcher.close()
    assert [frame.index for frame, _ in found] == [frame.index for frame in given]
    return [result for _, result in found]


@pytest.mark.parametrize(("every", "looks"), [(1, 26), (3, 10)])
def test_frames_that_are_looked_at_share_the_image_encoder(
    sight: Sight, images: Calls, picture: Pictures, every: int, looks: int
) -> None:
    given = frames(picture, 26, cut_at=14)
    together = watched(Watcher(sight, Cast(("rei",)), every), given)
    assert (len(images), sum(images.batches)) == (ceil(looks / BATCH), looks)
    one_by_one = Watcher(sight, Cast(("rei",)), every)
    one_by_one._ahead = None
    alone = watched(one_by_one, given)
    assert images.batches[ceil(looks / BATCH) :] == [1] * looks
    for mine, its in zip(together, alone, strict=True):
        assert [(t.id, t.name, t.state, t.label) for t in mine.tracks] == [
            (t.id, t.name, t.state, t.label) for t in its.tracks
        ]
        assert mine.label_map is not None
        assert its.label_map is not None
        assert np.count_nonzero(mine.label_map != its.label_map) <= 4
    assert any(0 < np.count_nonzero(result.label_map) < 120 * 160 for result in alone)


@pytest.mark.models
def test_a_folder_of_photos_from_the_command_line(
    checkpoint: Path, model_data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    encode = Network.encode

    def counted(self: Network, pictures: list[np.ndarray]) -> list[Features]:
        sizes.append(len(pictures))
        return encode(self, pictures)

    monkeypatch.setattr(Network, "encode", counted)
    config = tmp_path / "sam3.yaml"
    config.write_text(
        f"vision: {{engine: sam3, threads: 1, sam3: {{checkpoint: {str(checkpoint)!r}, score_threshold: 0.0}}}}\n"
    )
    options = ["--data-dir", str(model_data_dir), "--config", str(config)]
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        rgb = np.ascontiguousarray(skimage_data.astronaut()[: 400 + 20 * number, 3 * number :])
        cv2.imwrite(str(folder / f"{number}.png"), rgb[..., ::-1])
    (folder / "2.jpg").write_text("no picture")
    runner = CliRunner()
    added = runner.invoke(app, [*options, "members", "add", "eileen", str(folder / "4.png")])
    assert added.exit_code == 0, added.output
    out = tmp_path / "out"
    done = runner.invoke(
        app, [*options, "image", str(folder), "--member", "eileen", "--out", str(out), "--progress-json"]
    )
    assert done.exit_code == 0, done.output
    assert sizes == [4, 1]
    said = json.loads(done.stdout.splitlines()[-1])["result"]
    assert said["seen"] == {"eileen": 5}
    assert [bool(photo["refused"]) for photo in said["photos"]] == [False, False, True, False, False, False]
    assert all(0 < photo["seconds"] < said["seconds"] for photo in said["photos"] if photo["seen"])
    assert len(list(out.glob("*/result.json"))) == 5


@pytest.mark.parametrize(
    ("model_size", "checkpoint"),
    [("large", "sam3"), ("base", "sam2.1-hiera-base-plus"), ("small", "sam2.1-hiera-small"), ("tiny", "edgetam")],
)
def test_each_model_size_has_its_checkpoint(data_dir: Path, model_size: ModelSize, checkpoint: str) -> None:
    """Without weights on the machine, what is missing is said by name, with the command that fetches it."""
    with (
        IdentityAwareSegmentation("sam3", model_size, device="cpu", dtype="float32", data_dir=data_dir) as made,
        pytest.raises(ModelMissing, match=rf"{checkpoint} is not here; run `streamer models pull .*{checkpoint}`"),
    ):
        made.segment_image(np.zeros((64, 64, 3), np.uint8), "rei")

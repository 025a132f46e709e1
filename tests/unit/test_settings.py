from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from streamer.errors import ConfigError
from streamer.service.settings import Settings, VisionSettings, check_binding, load

DEFAULTS = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_file_holds_every_key_with_the_codes_default() -> None:
    assert yaml.safe_load(DEFAULTS.read_text(encoding="utf-8")) == Settings().model_dump(mode="json")


def test_every_key_of_the_default_file_says_what_it_is() -> None:
    """Its own comment, or that of a neighbour it shares it with."""
    lines = [line for line in DEFAULTS.read_text(encoding="utf-8").splitlines() if line.startswith("  ")]
    assert sum("#" in line for line in lines) >= len(lines) // 2


def test_the_default_file_loads() -> None:
    assert load(DEFAULTS) == Settings()


def test_the_file_for_a_gpu_loads_and_says_only_what_differs() -> None:
    path = DEFAULTS.with_name("gpu.yaml")
    vision = load(path).vision
    assert (vision.engine, vision.device, vision.pack) == ("sam3", "cuda", "buffalo_l")
    changed = {key for key, value in vision.model_dump().items() if value != VisionSettings().model_dump()[key]}
    assert changed == set(yaml.safe_load(path.read_text(encoding="utf-8"))["vision"])


def test_the_settings_of_sam3_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMER_VISION__ENGINE", "sam3")
    monkeypatch.setenv("STREAMER_VISION__SAM3__BACKEND", "meta")
    monkeypatch.setenv("STREAMER_VISION__SAM3__IMAGE_SIZE", "672")
    vision = load().vision
    assert (vision.engine, vision.sam3.backend, vision.sam3.image_size) == ("sam3", "meta", 672)
    assert vision.sam3.checkpoint == "sam3"
    with pytest.raises(ConfigError, match=r"vision\.sam3\.dtype"):
        load(None, {"vision": {"sam3": {"dtype": "int8"}}})


def test_the_file_wins_over_the_defaults_and_keeps_the_rest(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, "video: {bit_rate: 1000000}"))
    assert loaded.video.bit_rate == 1_000_000
    assert loaded.video.preset == Settings().video.preset


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "video: {bit_rate: 1000000, preset: fast}\ndata_dir: /from/file")
    monkeypatch.setenv("STREAMER_VIDEO__BIT_RATE", "2000000")
    monkeypatch.setenv("STREAMER_DATA_DIR", "/from/environment")
    loaded = load(path)
    assert loaded.video.bit_rate == 2_000_000
    assert loaded.video.preset == "fast"
    assert loaded.data_folder == Path("/from/environment")


def test_the_command_line_wins_over_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "service: {port: 1001, max_streams: 3}")
    monkeypatch.setenv("STREAMER_SERVICE__PORT", "1002")
    loaded = load(path, {"service": {"port": 1003}})
    assert loaded.service.port == 1003
    assert loaded.service.max_streams == 3


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "# nothing\n")) == Settings()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("video: {bitrate: 1}", "video.bitrate"),
        ("vidoe: {}", "vidoe"),
        ("service: {port: 70000}", "service.port"),
        ("vision: {engine: sam9}", "vision.engine"),
        ("token: short", "token"),
        ("- a\n- b", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_key(tmp_path: Path, text: str, word: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, text))
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml"):
        load(tmp_path / "nothing.yaml")


def test_a_wrong_value_on_the_command_line_is_refused() -> None:
    with pytest.raises(ConfigError, match="port"):
        load(None, {"service": {"port": -1}})


def test_a_refused_token_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path, "token: s3cret"))
    assert "s3cret" not in str(error.value)
    assert "s3cret" not in str(error.value.__cause__), "nor by --verbose"


@pytest.mark.parametrize("token", ["correct horse", " correct-horse", "correct-horse\n", "pässword-1", "12345678\x00"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="'token': only letters, digits and signs of ASCII, without spaces") as error:
        load(None, {"token": token})
    assert token.strip() not in f"{error.value} {error.value.__cause__}"
    assert load(None, {"token": "!#$%&'()*+,-./:;<=>?@[]^_`{|}~\"\\"}).token


def test_the_token_does_not_show_in_the_repr() -> None:
    assert "correct-horse" not in repr(load(None, {"token": "correct-horse"}))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.2"])
def test_loopback_needs_no_token(host: str) -> None:
    check_binding(load(None, {"service": {"host": host}}))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "cameras.example"])
def test_any_other_address_needs_one(host: str) -> None:
    with pytest.raises(ConfigError, match="STREAMER_TOKEN"):
        check_binding(load(None, {"service": {"host": host}}))
    check_binding(load(None, {"service": {"host": host}, "token": "correct-horse"}))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("STREAMER_VIDEOS__NOPE", "no such setting"),
        ("STREAMER_SERVCE__HOST", "did you mean STREAMER_SERVICE__HOST?"),
        ("STREAMER_VIDEO__BITRATE", "did you mean STREAMER_VIDEO__BIT_RATE?"),
        ("STREAMER_VIDEO_BIT_RATE", "did you mean STREAMER_VIDEO__BIT_RATE?"),
        ("STREAMER__VIDEO__BIT_RATE", "did you mean STREAMER_VIDEO__BIT_RATE?"),
        ("STREAMER_TOKN", "did you mean STREAMER_TOKEN?"),
        ("STREAMER_TOKEN__X", "did you mean STREAMER_TOKEN?"),
        ("streamer_vidoe__bit_rate", "did you mean STREAMER_VIDEO__BIT_RATE?"),
        ("streamer_vidoe__x", "environment variable streamer_vidoe__x"),
        ("STREAMER_VISION__SAM3__IMAGESIZE", "did you mean STREAMER_VISION__SAM3__IMAGE_SIZE?"),
        ("STREAMER_WEBRTC__ICE_SERVERS__0__URLS", "did you mean STREAMER_WEBRTC__ICE_SERVERS?"),
        ("STREAMER_APi", "did you mean STREAMER_API?"),
        ("STREAMER_", "no such setting"),
        ("STREAMER_PORT_8000_TCP", "if Docker or Kubernetes set it"),
        ("STREAMER_SERVICE_HOST", "set enableServiceLinks: false"),
    ],
)
def test_a_misspelt_variable_is_refused(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "correct-horse")
    with pytest.raises(ConfigError) as caught:
        load()
    assert said in str(caught.value)
    assert f"environment variable {name}: " in str(caught.value)
    assert "unset it" in str(caught.value)
    assert "correct-horse" not in str(caught.value)


def test_what_the_dashboard_reads_and_names_in_any_case_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STREAMER_API", "STREAMER_ICE_SERVERS", "STREAMER_SCREENSHOTS"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("streamer_video__bit_rate", "1000000")
    monkeypatch.setenv("STREAMER_VISION", '{"max_tracks": 3}')
    monkeypatch.setenv("NOT_STREAMER_X", "x")
    loaded = load()
    assert (loaded.video.bit_rate, loaded.vision.max_tracks) == (1_000_000, 3)


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("STREAMER_VIDEO__BIT_RATE", "quick-horse", "video.bit_rate"),
        ("streamer_video__bit_rate", "1", "video.bit_rate"),
        ("STREAMER_VISION__SAM3__DTYPE", "quick-horse", "vision.sam3.dtype"),
        ("STREAMER_TOKEN", "horse", "token"),
        ("STREAMER_VIDEO", '{"bitrate": 1}', "did you mean 'video.bit_rate'"),
        ("STREAMER_WEBRTC__ICE_SERVERS", '[{"username": "horse"}]', "webrtc.ice_servers.0.urls"),
        ("STREAMER_WEBRTC__ICE_SERVERS", "turn:horse", """is not JSON; write it like this: '[{"KEY": VALUE}, …]'"""),
        ("STREAMER_MEMBERS", "horse", """is not JSON; write it like this: '[{"KEY": VALUE}, …]'"""),
        ("STREAMER_SERVICE__HOST", "", "service.host"),
        ("STREAMER_SERVICE__ALLOWED_ORIGINS", "http://horse", """is not JSON; write it like this: '["…", "…"]'"""),
    ],
)
def test_a_wrong_value_of_a_variable_is_said_to_be_that(
    name: str, value: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "video: {preset: fast}")
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"environment variable {name}: " in str(caught.value)
    assert key in str(caught.value)
    assert str(path) not in str(caught.value)
    assert "horse" not in f"{caught.value} {caught.value.__cause__}"


def test_an_empty_data_folder_is_none_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`STREAMER_DATA_DIR=$UNSET` does not mean the folder one happens to be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STREAMER_DATA_DIR", "")
    assert load().data_folder.name == "identity-aware-streamer"
    assert load(write(tmp_path, "data_dir: ''")).data_folder.name == "identity-aware-streamer"


def test_a_wrong_value_of_the_file_is_said_to_be_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "video: {bitrate: 1}")
    monkeypatch.setenv("STREAMER_VIDEO", '{"preset": "fast"}')
    monkeypatch.setenv("STREAMER_VIDEO__KEYFRAME_SECONDS", "2")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"setting 'video.bitrate' in {path}: " in str(caught.value)
    assert "environment" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named_without_codes(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "nope.yaml", binary):
        with pytest.raises(ConfigError) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "Errno" not in str(caught.value)
        assert "codec" not in str(caught.value)

"""Settings: defaults, a YAML file, the environment, the command line, in rising order of precedence."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from streamer.errors import ConfigError
from streamer.service import environment


def _sendable(token: str | None) -> str | None:
    if token is not None and not re.fullmatch(r"[!-~]*", token):
        raise PydanticCustomError(
            "token", "only letters, digits and signs of ASCII, without spaces, can be sent as a token"
        )
    return token


class _Section(BaseModel):
    # A traceback shows no value either: it may be a token or a password.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ServiceSettings(_Section):
    host: str = Field("127.0.0.1", min_length=1)
    port: int = Field(8000, ge=0, le=65535)
    dashboard_port: int = Field(8501, ge=0, le=65535)
    allowed_origins: list[str] = []
    max_streams: int = Field(8, ge=1)
    max_viewers: int = Field(16, ge=1)


class IceServer(_Section):
    urls: str | list[str]
    username: str | None = None
    credential: str | None = None


class WebRtcSettings(_Section):
    interfaces: list[str] = []
    ice_servers: list[IceServer] = []


class VideoSettings(_Section):
    max_width: int = Field(1920, ge=16)
    max_height: int = Field(1080, ge=16)
    bit_rate: int = Field(4_000_000, ge=50_000, le=100_000_000)
    encoder: Literal["auto", "x264", "nvenc"] = "auto"
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast"] = "ultrafast"
    keyframe_seconds: float = Field(1.0, ge=0.1, le=10)


class Sam3Settings(_Section):
    checkpoint: str = "sam3"
    backend: Literal["transformers", "meta"] = "transformers"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    image_size: int | None = Field(None, ge=28)
    compile: bool = True
    max_objects: int = Field(16, ge=1)
    score_threshold: float = Field(0.5, ge=0, le=1)
    part_refresh_frames: int = Field(30, ge=1)


class VisionSettings(_Section):
    engine: Literal["lite", "sam3", "synthetic", "none"] = "lite"
    pack: str = "embedded"
    device: Literal["cpu", "cuda"] = "cpu"
    identity_every: int = Field(15, ge=1)
    naming_margin: float = Field(0.0, ge=-0.3, le=0.5)
    detector_width: int = Field(640, ge=64, multiple_of=32)
    detector_height: int = Field(384, ge=64, multiple_of=32)
    max_tracks: int = Field(6, ge=1, le=63)
    threads: int = Field(2, ge=1)
    smoothing: float = Field(0.5, ge=0, le=1)
    sam3: Sam3Settings = Sam3Settings()
    synthetic_delay_seconds: float = Field(0.0, ge=0)
    stall_seconds: float = Field(1.0, gt=0)
    hang_seconds: float = Field(8.0, gt=0)


class RosterMember(_Section):
    """Somebody whom an import of photo folders expects; see `configs/ive.yaml`."""

    name: str = Field(min_length=1)
    display_name: str | None = None
    group: str | None = None
    consent: str | None = None
    folder: str | None = None
    """Of the photos, inside the folder that is imported; None: the one called like the member."""


class JobSettings(_Section):
    priority: Literal["idle", "low", "normal"] = "idle"
    max_running: int = Field(1, ge=1, le=16)
    max_queued: int = Field(20, ge=1, le=1000)
    max_upload_bytes: int = Field(4_000_000_000, ge=1_000_000)
    max_total_bytes: int = Field(20_000_000_000, ge=1_000_000)
    keep_days: float = Field(30.0, ge=0)


class Settings(BaseSettings):
    """All settings of a process. Every key stands in `configs/default.yaml` with unit and default."""

    model_config = SettingsConfigDict(
        env_prefix=environment.PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        validate_assignment=True,
        hide_input_in_errors=True,
    )

    data_dir: Path | None = None
    token: Annotated[str | None, AfterValidator(_sendable)] = Field(None, min_length=8, repr=False)
    service: ServiceSettings = ServiceSettings()
    webrtc: WebRtcSettings = WebRtcSettings()
    video: VideoSettings = VideoSettings()
    vision: VisionSettings = VisionSettings()
    members: list[RosterMember] = []
    jobs: JobSettings = JobSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over init values, which `load` fills from the file."""
        return env_settings, init_settings

    @field_validator("data_dir", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        # An empty path would be the current folder: `STREAMER_DATA_DIR=$UNSET` means no such thing.
        return None if value == "" else value

    @property
    def data_folder(self) -> Path:
        """Where the gallery, the recordings and fetched models lie."""
        return self.data_dir or Path(platformdirs.user_data_dir("identity-aware-streamer"))

    @property
    def on_loopback(self) -> bool:
        """The service is reachable from this machine only."""
        if self.service.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.service.host).is_loopback
        except ValueError:
            return False


def load(config: Path | None = None, overrides: dict[str, Any] | None = None) -> Settings:
    """Settings from `config` (YAML), the environment and `overrides` ({"service": {"port": 1}}), which win.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds an unknown key or a wrong value, as the environment may
            too; it names the key or the variable.
    """
    values: dict[str, Any] = {}
    if config is not None:
        values = _read(config)
    environment.check(Settings, os.environ)
    try:
        settings = Settings(**values)
    except ValidationError as exc:
        raise _refusal(exc, config) from exc
    try:
        for key, value in (overrides or {}).items():
            # By assignment, not construction: constructing reads the environment again, and that would win.
            section = getattr(settings, key)
            setattr(settings, key, section.model_dump() | value if isinstance(section, BaseModel) else value)
    except ValidationError as exc:
        raise ConfigError(f"setting {_said(exc)}") from exc
    return settings


def check_binding(settings: Settings) -> None:
    """Raises `ConfigError` where the service would listen beyond this machine without a token."""
    if not settings.on_loopback and not settings.token:
        raise ConfigError(
            f"refusing to listen on {settings.service.host} without a token: set STREAMER_TOKEN "
            "(8 or more characters), or bind 127.0.0.1"
        )


def _refusal(error: ValidationError, config: Path | None) -> ConfigError:
    """Says where the wrong value came from: the environment, which wins, or the file."""
    first = error.errors()[0]
    # What is missing is nowhere; what it is missing in has an origin.
    held = first["loc"][:-1] if first["type"] == "missing" else first["loc"]
    variable = environment.origin(held, os.environ)
    if variable is not None:
        return ConfigError(f"environment variable {variable}: setting {_said(error)}")
    where = f" in {config}" if config is not None else ""
    return ConfigError(f"setting {_said(error, where)}")


def _said(error: ValidationError, where: str = "") -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    said = f"there is no such setting{_meant(key)}" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{key!r}{where}: {said}; see configs/default.yaml for every key"


def _meant(key: str) -> str:
    """The setting that was perhaps meant by `key`, as a part of a sentence."""
    keys = list(Settings.model_fields)
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += [f"{name}.{part}" for part in field.annotation.model_fields]
    near = difflib.get_close_matches(key, keys, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _shipped(path: Path) -> Path:
    """The file itself; where there is none, the configuration of that name that comes with the program (ive.yaml)."""
    package = Path(__file__).resolve().parent.parent
    bare = path in (Path(path.name), Path("configs") / path.name)
    found = [folder / path.name for folder in (package / "configs", package.parent / "configs") if bare]
    return next((file for file in found if not path.exists() and file.is_file()), path)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(_shipped(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(f"cannot read configuration {path}: {exc.strerror or exc}; check --config") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"configuration {path} is not UTF-8 text; give a YAML file such as configs/default.yaml"
        ) from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"configuration {path} is not YAML: {exc}") from exc
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"configuration {path} must be a mapping of sections, not a {type(values).__name__}")
    return values

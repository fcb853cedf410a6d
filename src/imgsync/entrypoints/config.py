"""Configuration: environment IMGSYNC_*, then a TOML file, then defaults."""

import logging
import os
import re
import tomllib
from datetime import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import platformdirs
from pydantic import Field, PrivateAttr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from imgsync.adapters.moysklad.addresses import is_loopback, origin
from imgsync.domain.errors import ForbiddenUrlError, ImgsyncError
from imgsync.domain.model import MatchField

_log = logging.getLogger(__name__)
_OTHER_VARIABLES = {"IMGSYNC_CONFIG", "IMGSYNC_TOKEN", "IMGSYNC_TEST_POSTGRESQL_URL"}

DEFAULT_API_URL = "https://api.moysklad.ru/api/remap/1.2"
DEFAULT_DOWNLOAD_HOSTS = ("*.moysklad.ru", "*.selcdn.ru")
"""Hosts that the API documentation shows in download addresses."""

MAX_HOURS = 24 * 365 * 100
_DAY_SECONDS = 86_400
_PREFIX = re.compile(r"https?://[!-~]+")
_LONGEST_WEBHOOK_URL = 255


class ConfigError(ImgsyncError):
    """The configuration is wrong; the text names what."""


def _default_database_url() -> str:
    return f"sqlite:///{platformdirs.user_data_path('imgsync') / 'imgsync.db'}"


def _default_temp_dir() -> Path:
    return platformdirs.user_cache_path("imgsync") / "temp"


class Config(BaseSettings):
    """The program's configuration; each name is also the variable IMGSYNC_<NAME> and a
    key of the TOML file.

    `queue_url` is `database_url` where it is None, `content_url` the folder `temp_dir`. What these
    and `replace_strategy` name is brought by plugins, and looked up among them once it is needed.
    """

    model_config = SettingsConfigDict(
        env_prefix="IMGSYNC_", extra="forbid", hide_input_in_errors=True
    )

    heeds_environment: ClassVar[bool] = True
    _file: Path | None = PrivateAttr(default=None)

    api_url: str = DEFAULT_API_URL
    database_url: str = Field(default_factory=_default_database_url, repr=False)
    temp_dir: Path = Field(default_factory=_default_temp_dir)
    download_hosts: Annotated[tuple[str, ...], NoDecode] = DEFAULT_DOWNLOAD_HOSTS
    webhook_prefixes: Annotated[tuple[str, ...], NoDecode] = ()
    queue_url: str | None = Field(default=None, repr=False)
    content_url: str | None = Field(default=None, repr=False)
    content_bytes: int = Field(default=2_000_000_000, ge=0)
    replace_strategy: str = "atomic"
    match_by: MatchField = MatchField.EXTERNAL_CODE
    concurrency: int = Field(default=4, ge=1, le=64)
    lease_seconds: float = Field(default=120, gt=0, le=_DAY_SECONDS)
    poll_seconds: float = Field(default=1, gt=0, le=_DAY_SECONDS)
    grace_seconds: float = Field(default=60, ge=0, le=_DAY_SECONDS)
    cleanup_at: time = time(3, 0)
    cleanup_hours: float = Field(default=24, ge=0, le=MAX_HOURS)
    keep_days: float = Field(default=30, ge=1, le=MAX_HOURS / 24)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("download_hosts", "webhook_prefixes", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [p for p in value.split(",") if p.strip()] if isinstance(value, str) else value

    @field_validator("webhook_prefixes")
    @classmethod
    def _check_prefixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        prefixes = tuple(prefix.strip() for prefix in value)
        for prefix in prefixes:
            if not _PREFIX.fullmatch(prefix) or len(prefix) > _LONGEST_WEBHOOK_URL:
                raise ValueError("a prefix is an address such as https://sync.example/hook")
        return prefixes

    @field_validator("temp_dir")
    @classmethod
    def _expand_home(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("api_url")
    @classmethod
    def _check_api_url(cls, value: str) -> str:
        try:
            scheme, host, _ = origin(value)
        except ForbiddenUrlError as error:
            raise ValueError(str(error)) from None
        if scheme == "http" and not is_loopback(host):
            raise ValueError("plain http is allowed for loopback only")
        return value.rstrip("/")

    @property
    def task_queue_url(self) -> str:
        return self.queue_url or self.database_url

    @property
    def content_store_url(self) -> str:
        return self.content_url or self.temp_dir.absolute().as_uri()

    def origin_of(self, name: str) -> str:
        """Where a value was given, in words, such as ``the variable IMGSYNC_QUEUE_URL``."""
        variable = f"IMGSYNC_{name.upper()}"
        if self.heeds_environment and any(given.upper() == variable for given in os.environ):
            return f"the variable {variable}"
        if name not in self.model_fields_set:
            return "the default"
        return f"the file {self._file}" if self._file else "the program"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # The TOML file comes in as init arguments; the environment wins over it.
        return (env_settings, init_settings) if cls.heeds_environment else (init_settings,)


class FixedConfig(Config):
    """Configuration that the code gives; neither the environment nor a file changes them."""

    heeds_environment: ClassVar[bool] = False


def load_config(path: Path | None = None) -> Config:
    """Configuration from the environment and a TOML file.

    The file is `path`, else IMGSYNC_CONFIG, else ./imgsync.toml, else config.toml in the user's
    configuration folder; only the first two must exist. ConfigError names what is wrong.
    """
    file = _config_file(path)
    values = {} if file is None else _read_toml(file)
    _warn_of_unknown_variables()
    config = _checked(Config, values, file)
    config._file = file
    return config


def fixed_config(**values: Any) -> Config:
    """Configuration that a program gives; ConfigError names what is wrong."""
    return _checked(FixedConfig, values)


def _checked(kind: type[Config], values: dict[str, Any], file: Path | None = None) -> Config:
    try:
        return kind(**values)
    except ValidationError as error:
        problems = []
        for e in error.errors(include_url=False, include_input=False):
            name, said = ".".join(map(str, e["loc"])), e["msg"]
            if e["type"] == "extra_forbidden":
                said = "nothing is configured by this name"
            is_of_file = e["loc"] and e["loc"][0] in values
            if file is not None and is_of_file and f"IMGSYNC_{name.upper()}" not in os.environ:
                said += f" (in {file})"
            problems.append(f"{name}: {said}")
        raise ConfigError("Bad configuration: " + "; ".join(problems)) from None


def _warn_of_unknown_variables() -> None:
    known = {f"IMGSYNC_{name.upper()}" for name in Config.model_fields} | _OTHER_VARIABLES
    for name in sorted(os.environ):
        if name.upper().startswith("IMGSYNC_") and name.upper() not in known:
            _log.warning("the variable %s configures nothing in imgsync", name)


def _config_file(path: Path | None) -> Path | None:
    named = path or (Path(os.environ["IMGSYNC_CONFIG"]) if os.getenv("IMGSYNC_CONFIG") else None)
    if named is not None:
        return named
    candidates = (Path("imgsync.toml"), platformdirs.user_config_path("imgsync") / "config.toml")
    return next((c for c in candidates if c.is_file()), None)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration file {file}: {error}") from error

"""Configuration: environment IMGSYNC_*, then a TOML file, then defaults."""

import logging
import os
import re
import tomllib
from datetime import time
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit
from urllib.request import url2pathname

import platformdirs
from pydantic import (
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from imgsync.adapters.moysklad.addresses import is_loopback, origin
from imgsync.domain.errors import ForbiddenUrlError, ImgsyncError
from imgsync.domain.model import Adopt, MatchField
from imgsync.entrypoints.config_errors import (
    PREFIX,
    FieldError,
    nearest,
    place_of,
    problems,
    shown_path,
)
from imgsync.entrypoints.translation import gettext, translated
from imgsync.plugins.notify import EVENTS, NotifyEvent

_log = logging.getLogger(__name__)
_OTHER_VARIABLES = {
    "IMGSYNC_CONFIG",
    "IMGSYNC_PASSPHRASE",
    "IMGSYNC_TOKEN",
    "IMGSYNC_TEST_POSTGRESQL_URL",
}

DEFAULT_API_URL = "https://api.moysklad.ru/api/remap/1.2"
DEFAULT_DOWNLOAD_HOSTS = ("*.moysklad.ru", "*.selcdn.ru")
"""Hosts that the API documentation shows in download addresses."""

MAX_HOURS = 24 * 365 * 100
_DAY_SECONDS = 86_400
_PREFIX = re.compile(r"https?://[!-~]+")
_LONGEST_WEBHOOK_URL = 255
_BETWEEN_URLS = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_HOST = re.compile(r"[A-Za-z0-9_.-]+")


class ConfigError(ImgsyncError):
    """The configuration is wrong; the text names what."""


def _default_database_url() -> str:
    return f"sqlite:///{platformdirs.user_data_path('imgsync') / 'imgsync.db'}"


def _default_key_file() -> Path:
    return platformdirs.user_config_path("imgsync") / "imgsync.key"


def keyring_lock() -> Path:
    """One for all databases of a user, as the keyring is."""
    return platformdirs.user_config_path("imgsync") / "keyring.lock"


def _default_temp_dir() -> Path:
    return platformdirs.user_cache_path("imgsync") / "temp"


def _default_miniatures_dir() -> Path:
    return platformdirs.user_cache_path("imgsync") / "miniatures"


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
    key: SecretStr | None = None
    key_file: Path = Field(default_factory=_default_key_file)
    key_keyring: bool = False
    temp_dir: Path = Field(default_factory=_default_temp_dir)
    miniatures_dir: Path = Field(default_factory=_default_miniatures_dir)
    download_hosts: Annotated[tuple[str, ...], NoDecode] = DEFAULT_DOWNLOAD_HOSTS
    webhook_prefixes: Annotated[tuple[str, ...], NoDecode] = ()
    web_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    web_https: bool = False
    web_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    queue_url: str | None = Field(default=None, repr=False)
    content_url: str | None = Field(default=None, repr=False)
    content_bytes: int = Field(default=2_000_000_000, ge=0)
    replace_strategy: str = "atomic"
    match_by: MatchField = MatchField.EXTERNAL_CODE
    adopt: Adopt = Adopt.SIZE
    concurrency: int = Field(default=4, ge=1, le=64)
    lease_seconds: float = Field(default=120, gt=0, le=_DAY_SECONDS)
    poll_seconds: float = Field(default=1, gt=0, le=_DAY_SECONDS)
    grace_seconds: float = Field(default=60, ge=0, le=_DAY_SECONDS)
    cleanup_at: time = time(3, 0)
    cleanup_hours: float = Field(default=24, ge=0, le=MAX_HOURS)
    keep_days: float = Field(default=30, ge=1, le=MAX_HOURS / 24)
    backup_dir: Path | None = None
    changes_days: float = Field(default=90, ge=1, le=MAX_HOURS / 24)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    language: Literal["en", "ru"] | None = None
    metrics_token: SecretStr | None = None
    notify_urls: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    notify_language: Literal["en", "ru"] = "en"
    notify_events: Annotated[tuple[NotifyEvent, ...], NoDecode] = EVENTS

    @field_validator("notify_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: Any) -> Any:
        # Apprise's addresses may have commas within.
        if isinstance(value, str):
            return [url.strip() for url in _BETWEEN_URLS.split(value) if url.strip()]
        return value

    @field_validator("notify_events", mode="before")
    @classmethod
    def _split_events(cls, value: Any) -> Any:
        if isinstance(value, str):
            return [event.strip() for event in value.split(",") if event.strip()]
        return value

    @field_validator(
        "download_hosts", "webhook_prefixes", "web_hosts", "web_proxies", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [p for p in value.split(",") if p.strip()] if isinstance(value, str) else value

    @field_validator("webhook_prefixes")
    @classmethod
    def _check_prefixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        prefixes = tuple(prefix.strip() for prefix in value)
        for prefix in prefixes:
            if not _PREFIX.fullmatch(prefix) or len(prefix) > _LONGEST_WEBHOOK_URL:
                raise ValueError(
                    gettext("a prefix is an address such as https://sync.example/hook")
                )
        return prefixes

    @field_validator("web_hosts")
    @classmethod
    def _check_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        hosts = tuple(host.strip() for host in value)
        if not all(_HOST.fullmatch(host) for host in hosts):
            raise ValueError(gettext("a host is a name such as sync.example, without a port"))
        return hosts

    @field_validator("web_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        proxies = tuple(proxy.strip() for proxy in value)
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError:
                raise ValueError(gettext("a proxy is an IP address or a network")) from None
        return proxies

    @field_validator("backup_dir", mode="before")
    @classmethod
    def _none_of_nothing(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("key", mode="before")
    @classmethod
    def _no_empty_key(cls, value: Any) -> Any:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("temp_dir", "backup_dir", "miniatures_dir", "key_file")
    @classmethod
    def _expand_home(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        if "\0" in str(value):
            raise ValueError(gettext("a path has no NUL in it"))
        try:
            return value.expanduser()
        except RuntimeError:
            raise ValueError(
                gettext("there is no home folder '%(folder)s'", folder=value.parts[0])
            ) from None

    @model_validator(mode="after")
    def _check_backups(self) -> Self:
        if self.backup_dir is not None:
            self.check_backup_dir(self.backup_dir)
        return self

    @field_validator("api_url")
    @classmethod
    def _check_api_url(cls, value: str) -> str:
        try:
            scheme, host, _ = origin(value)
        except ForbiddenUrlError:
            raise ValueError(
                gettext("it is an address such as %(url)s", url=DEFAULT_API_URL)
            ) from None
        if scheme == "http" and not is_loopback(host):
            raise ValueError(gettext("plain http is allowed for loopback only"))
        return value.rstrip("/")

    @property
    def task_queue_url(self) -> str:
        return self.queue_url or self.database_url

    @property
    def content_store_url(self) -> str:
        return self.content_url or self.temp_dir.absolute().as_uri()

    def check_backup_dir(self, folder: Path) -> None:
        """ValueError for a folder within one that is cleaned up."""
        cleaned = {self.temp_dir.expanduser().resolve()}
        content = urlsplit(self.content_store_url)
        if content.scheme == "file":
            cleaned.add(Path(url2pathname(content.path)).resolve())
        here = folder.expanduser().resolve()
        for temp in cleaned & {here, *here.parents}:
            raise FieldError(
                "backup_dir",
                gettext(
                    "the folder for backups must not lie in that for temp files, %(temp)s",
                    temp=temp,
                ),
            )

    def wrong(self, name: str, text: object) -> ConfigError:
        """The error of a value that only its user finds wrong, with the place where it stands."""
        where, called = place_of(name, self._file, heeds_environment=self.heeds_environment)
        return ConfigError(f"{where}{called}: {translated(text)}")

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
        said = problems(error, kind.model_fields, file, heeds_environment=kind.heeds_environment)
        raise ConfigError("; ".join(said)) from None


def unknown_variables() -> list[str]:
    """Variables of the environment that look like configuration, and are none."""
    known = {f"IMGSYNC_{name.upper()}" for name in Config.model_fields} | _OTHER_VARIABLES
    ours = (name for name in sorted(os.environ) if name.upper().startswith("IMGSYNC_"))
    return [name for name in ours if name.upper() not in known]


def meant_variable(name: str) -> str:
    """What ends a line about a variable that configures nothing: the nearest that does, if any.
    English: the line is logged, or translated as a whole."""
    near = nearest(name, Config.model_fields)
    return f"; did you mean '{PREFIX}{near.upper()}'?" if near else ""


def _warn_of_unknown_variables() -> None:
    for name in unknown_variables():
        _log.warning("the variable %s configures nothing in imgsync%s", name, meant_variable(name))


def _config_file(path: Path | None) -> Path | None:
    named = path or (Path(os.environ["IMGSYNC_CONFIG"]) if os.getenv("IMGSYNC_CONFIG") else None)
    if named is not None:
        return named
    candidates = (Path("imgsync.toml"), platformdirs.user_config_path("imgsync") / "config.toml")
    return next((c for c in candidates if c.is_file()), None)


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or gettext("it cannot be read")
    except UnicodeDecodeError:
        why = gettext("it is not text in UTF-8")
    except tomllib.TOMLDecodeError as error:
        why = gettext("it is not TOML: %(why)s", why=error)
        if str(error).startswith("Invalid value"):
            why += gettext("; texts stand in quotes")
    raise ConfigError(
        gettext(
            "Cannot read the configuration file %(file)s: %(why)s", file=shown_path(file), why=why
        )
    )

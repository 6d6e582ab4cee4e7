"""What a site is configured with, read from the environment."""

from collections.abc import Mapping
from logging import getLevelNamesMapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from msgspec import Struct

from api.site import Registration

PREFIX = "IMPRIMATUR_"

MIN_SECRET_BYTES = 32

SECONDS = ("access_seconds", "session_idle_seconds", "session_seconds")
MAX_SECONDS = 10**9

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SettingMissing(Exception):
    """A setting that this process needs is not given."""


class SettingInvalid(Exception):
    """A setting has a value that cannot be used."""


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting; README.md's table says what each is for."""

    dsn: str = ""
    admin_dsn: str = ""
    secret: str = ""
    master_key: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    blob_dir: str = ""
    s3_endpoint: str = ""
    s3_bucket: str = ""
    s3_region: str = "us-east-1"
    s3_access_key: str = ""
    s3_secret_key: str = ""
    redis_url: str = ""
    scratch_dir: str = ""
    mail_dir: str = ""
    public_url: str = ""
    registration: Registration = "closed"
    access_seconds: int = 600
    session_idle_seconds: int = 1_209_600
    session_seconds: int = 7_776_000
    log_level: str = "info"

    def need(self, name: str) -> str:
        """A setting that must be there; raises SettingMissing."""
        value = getattr(self, name)
        if not value:
            raise SettingMissing(f"set {variable(name)}; README.md says what it is for")
        return value

    @property
    def is_plain(self) -> bool:
        """Whether people reach the site without HTTPS, as they only can on this machine."""
        return self.public_url.startswith("http://")

    def scratch(self) -> Path:
        """The folder for files that are on their way; must exist and be writable."""
        return Path(self.need("scratch_dir"))


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def read_settings(environment: Mapping[str, str]) -> Settings:
    """The settings of an environment; `<NAME>_FILE` names a file that holds the value.

    Raises SettingInvalid for a value that can't be used and for a name that nothing reads.
    """
    values: dict[str, str] = {}
    for name in Settings.__struct_fields__:
        if file := environment.get(f"{variable(name)}_FILE"):
            values[name] = _read(f"{variable(name)}_FILE", file)
        elif variable(name) in environment:
            values[name] = environment[variable(name)]
    known = {variable(name) for name in Settings.__struct_fields__}
    unknown = [
        name
        for name in environment
        if name.startswith(PREFIX) and name.removesuffix("_FILE") not in known
    ]
    if unknown:
        raise SettingInvalid(f"nothing reads {', '.join(sorted(unknown))}")
    port = values.pop("port", "8000")
    if not port.isdecimal() or int(port) > 65_535:
        raise SettingInvalid(f"{variable('port')} is not a port: {port}")
    seconds = {name: _seconds(name, values.pop(name)) for name in SECONDS if name in values}
    given: dict[str, Any] = {**values, **seconds, "port": int(port)}
    settings = Settings(**given)
    for name in ("secret", "master_key"):
        keys: str = getattr(settings, name)
        if keys and min(len(key.strip().encode()) for key in keys.split(",")) < MIN_SECRET_BYTES:
            raise SettingInvalid(f"{variable(name)} needs {MIN_SECRET_BYTES} bytes or more")
    if settings.registration not in get_args(Registration):
        raise SettingInvalid(f"{variable('registration')} is no rule: {settings.registration}")
    if settings.is_plain and urlsplit(settings.public_url).hostname not in LOOPBACK:
        raise SettingInvalid(f"{variable('public_url')} needs https:// beyond this machine")
    if settings.log_level.upper() not in getLevelNamesMapping():
        raise SettingInvalid(f"{variable('log_level')} is not a level: {settings.log_level}")
    return settings


def _seconds(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_SECONDS:
        raise SettingInvalid(f"{variable(name)} is no number of seconds: {text}")
    return int(text)


def _read(name: str, file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{name} can't be read: {error}") from error


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that gives these settings to a child process."""
    return {
        variable(name): str(value)
        for name in Settings.__struct_fields__
        if (value := getattr(settings, name)) != ""
    }

"""What a site is configured with, read from the environment."""

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from itertools import pairwise
from logging import getLevelNamesMapping
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

from limits import RateLimitItem
from msgspec import Struct

from api.guards import Doors, origins
from api.limits import OFF, policies
from api.proxies import networks
from api.tenants import domain_name
from domain.tenancy import Registration
from runtime.mail.addresses import AddressInvalid, mail_server, public_url, sender

PREFIX = "IMPRIMATUR_"

MIN_SECRET_BYTES = 32
MAX_SLOW_SECONDS = 3_600

MIN_CHARACTERS = 10
"""Different ones in a secret; 32 random hexadecimal digits have 14."""

PIECE = 4
MIN_NEW_PIECES = 0.75
"""Of a secret's pieces, so many must not have been there before."""

TELLING = ("secret", "password", "changeme", "change-me", "change_me", "example", "imprimatur")
"""Words that stand in documentation and in nothing random."""

ADDRESSES: dict[str, Callable[[str], object]] = {
    "smtp_url": mail_server,
    "mail_from": sender,
    "public_url": public_url,
    "google_issuer": public_url,
}
"""The settings that are addresses of some form, and what refuses all that is not."""

SECONDS = ("access_seconds", "session_idle_seconds", "session_seconds")
MAX_SECONDS = 10**9


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
    smtp_url: str = ""
    mail_dir: str = ""
    mail_from: str = ""
    public_url: str = ""
    domain: str = ""
    rate_limits: str = ""
    trusted_proxies: str = ""
    cors_origins: str = ""
    slow_seconds: int = 15
    scratch_dir: str = ""
    registration: Registration = "closed"
    access_seconds: int = 600
    session_idle_seconds: int = 1_209_600
    session_seconds: int = 7_776_000
    google_client_id: str = ""
    google_client_secret: str = ""
    google_issuer: str = "https://accounts.google.com"
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

    def doors(self) -> Doors:
        """Who is let in how."""
        return Doors(
            origins=origins(self.cors_origins),
            proxies=networks(self.trusted_proxies),
            slow_seconds=self.slow_seconds,
        )

    def limits(self) -> dict[str, RateLimitItem]:
        """The rate limits, none where they are off."""
        return {} if self.rate_limits == OFF else policies(self.rate_limits)

    def need_strong_secrets(self) -> None:
        """Refuse secrets that can be guessed where others than this machine can reach the api."""
        if _is_loopback(self.host):
            return
        for name in ("secret", "master_key"):
            if any(is_weak(one.strip()) for one in self.need(name).split(",")):
                raise SettingInvalid(
                    f"{variable(name)} can be guessed, and {self.host} can be reached by others;"
                    " make one by `openssl rand -hex 32`"
                )

    def scratch(self) -> Path:
        """The folder for files that are on their way; must exist and be writable."""
        return Path(self.need("scratch_dir"))


def is_weak(secret: str) -> bool:
    """Whether a secret was made up by a person rather than drawn at random."""
    text = secret.casefold()
    pieces = [text[start : start + PIECE] for start in range(len(text) - PIECE + 1)]
    steps = [abs(ord(one) - ord(other)) == 1 for one, other in pairwise(text)]
    return (
        len(set(text)) < MIN_CHARACTERS
        or len(set(pieces)) < len(pieces) * MIN_NEW_PIECES
        or sum(steps) > len(steps) / 2
        or any(word in text for word in TELLING)
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


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
    slow = values.pop("slow_seconds", "15")
    if not slow.isdecimal() or not 0 < int(slow) <= MAX_SLOW_SECONDS:
        raise SettingInvalid(f"{variable('slow_seconds')} is not from 1 to {MAX_SLOW_SECONDS}")
    seconds = {name: _seconds(name, values.pop(name)) for name in SECONDS if name in values}
    given: dict[str, Any] = {**values, **seconds, "port": int(port), "slow_seconds": int(slow)}
    settings = Settings(**given)
    for name in ("secret", "master_key"):
        keys: str = getattr(settings, name)
        if keys and min(len(key.strip().encode()) for key in keys.split(",")) < MIN_SECRET_BYTES:
            raise SettingInvalid(f"{variable(name)} needs {MIN_SECRET_BYTES} bytes or more")
    if settings.registration not in get_args(Registration):
        raise SettingInvalid(f"{variable('registration')} is no rule: {settings.registration}")
    _check("rate_limits", policies, "" if settings.rate_limits == OFF else settings.rate_limits)
    _check("cors_origins", origins, settings.cors_origins)
    _check("domain", domain_name, settings.domain)
    _check("trusted_proxies", networks, settings.trusted_proxies)
    _check_addresses(settings)
    for name in ("public_url", "google_issuer"):
        address: str = getattr(settings, name)
        if address.startswith("http://") and not _is_loopback(urlsplit(address).hostname or ""):
            raise SettingInvalid(f"{variable(name)} needs https:// beyond this machine")
    if bool(settings.google_client_id) != bool(settings.google_client_secret):
        raise SettingInvalid(f"{variable('google_client_id')} and its secret need each other")
    if settings.log_level.upper() not in getLevelNamesMapping():
        raise SettingInvalid(f"{variable('log_level')} is not a level: {settings.log_level}")
    return settings


def _seconds(name: str, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MAX_SECONDS:
        raise SettingInvalid(f"{variable(name)} is no number of seconds: {text}")
    return int(text)


def _check_addresses(settings: Settings) -> None:
    for name, parse in ADDRESSES.items():
        if value := getattr(settings, name):
            try:
                parse(value)
            except AddressInvalid as error:  # whose message never has the password in it
                raise SettingInvalid(f"{variable(name)} {error}") from error
    if settings.smtp_url and settings.mail_dir:
        raise SettingInvalid(f"set {variable('smtp_url')} or {variable('mail_dir')}, not both")


def _check(name: str, read: Callable[[str], object], value: str) -> None:
    try:
        read(value)
    except ValueError as error:
        raise SettingInvalid(f"{variable(name)} can't be used: {error}") from error


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

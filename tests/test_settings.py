"""Settings that an api refuses to start with."""

import base64
import random
import secrets
from typing import Any

import pytest

from runtime.settings import SettingInvalid, Settings, is_weak, read_settings
from tests.whole_site import imprimatur

STRONG = "9f2c64b1e07d4a85b3c9d6e1f0a72846c5b9e3d7f1a80264"

WEAK = [
    "a" * 40,
    "changeme" * 5,
    "changeme-9f2c64b1e07d4a85b3c9d6e1f0a72846",
    "0123456789abcdef0123456789abcdef",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "a secret of thirty-two bytes at least",
    "secret-" + "x" * 32,
    "correct horse correct horse correct horse",
]


@pytest.mark.parametrize("weak", WEAK)
def test_a_secret_that_a_person_made_up_is_weak(weak: str) -> None:
    assert is_weak(weak)


def test_a_random_secret_is_not_weak() -> None:
    for seed in range(2_000):
        drawn = random.Random(seed).randbytes(32)
        assert not is_weak(drawn.hex())
        assert not is_weak(base64.b64encode(drawn).decode())
    assert not is_weak(secrets.token_urlsafe(32))


def settings(**changed: str) -> dict[str, str]:
    """The environment of an api that lacks nothing but a database."""
    given = {
        "dsn": "postgresql://nobody@127.0.0.1:1/nothing",
        "secret": STRONG,
        "master_key": STRONG,
        "scratch_dir": "/tmp",  # noqa: S108 nothing is written
        "host": "0.0.0.0",  # noqa: S104 nothing is served
    }
    return {f"IMPRIMATUR_{name.upper()}": value for name, value in (given | changed).items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [("secret", "a" * 40), ("master_key", "changeme" * 5), ("master_key", f"{STRONG}, {'a' * 40}")],
)
def test_an_api_that_others_can_reach_refuses_weak_secrets_in_a_line(name: str, value: str) -> None:
    ended = imprimatur("api", **settings(**{name: value}))
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert f"IMPRIMATUR_{name.upper()} can be guessed" in line
    assert value not in line


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_on_this_machine_alone_any_secret_will_do(host: str) -> None:
    read_settings(settings(secret="a" * 40, host=host)).need_strong_secrets()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "api", ""])  # noqa: S104
def test_a_host_that_others_may_reach_needs_strong_ones(host: str) -> None:
    Settings(secret=STRONG, master_key=STRONG, host=host).need_strong_secrets()
    with pytest.raises(SettingInvalid):
        Settings(secret="a" * 40, master_key=STRONG, host=host).need_strong_secrets()


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_limits": "reads"},
        {"rate_limits": "reads=1/age"},
        {"rate_limits": "reeds=1/hour"},
        {"trusted_proxies": "10.0.0.0/99"},
        {"trusted_proxies": "nginx"},
        {"trusted_proxies": "10.0.0.1/8"},
        {"cors_origins": "reader.example"},
        {"cors_origins": "https://reader.example/"},
        {"cors_origins": "https://*.example"},
        {"cors_origins": "https://a.example, *"},
        {"slow_seconds": "0"},
        {"slow_seconds": "soon"},
        {"slow_seconds": "9" * 9},
        {"google_client_id": "a client without its secret"},
        {"google_issuer": "http://accounts.example"},
        {"google_issuer": "accounts.example"},
    ],
)
def test_a_guard_that_cannot_be_read_is_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(SettingInvalid, match=f"IMPRIMATUR_{name.upper()}"):
        read_settings(settings(**wrong))

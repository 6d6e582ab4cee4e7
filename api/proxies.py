"""Proxies in front of the site: what they say of a request is believed, of them alone."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, cast

from litestar.types import ASGIApp, Receive, Scope, Send

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

CLIENT_PREFIX = 64
"""Of an IPv6 address: whoever has one has all of its network."""


def networks(text: str) -> tuple[Network, ...]:
    """The networks of a list; raises ValueError for one that is none."""
    return tuple(ip_network(one.strip()) for one in text.split(",")) if text else ()


def behind_proxies(app: ASGIApp, trusted: Sequence[Network]) -> ASGIApp:
    """An application that sees requests as the first of the trusted proxies did.

    Each proxy appends whom it saw to `X-Forwarded-For`, so the right-most address that is not a
    trusted proxy's is the client's; anything left of it may be made up.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_trusted(_address_of(scope), trusted):
            _believe(cast("dict[str, Any]", scope), trusted)
        await app(scope, receive, send)

    return answer


def client_of(scope: Scope) -> str:
    """Whom an address stands for: itself, or the network of an IPv6 address."""
    client = scope["client"]
    return _client(client[0]) if client else ""


@lru_cache(10_000)
def _client(host: str) -> str:
    address = _parsed(host)
    if isinstance(address, IPv6Address):
        return str(ip_network((address, CLIENT_PREFIX), strict=False))
    return str(address or "")


def _address_of(scope: Scope) -> Address | None:
    client = scope["client"]
    return _parsed(client[0]) if client else None


def _parsed(text: str) -> Address | None:
    """An address as it is written in headers and by servers; None for what is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_trusted(address: Address | None, trusted: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in trusted)


def _believe(scope: dict[str, Any], trusted: Sequence[Network]) -> None:
    fields: list[tuple[bytes, bytes]] = scope["headers"]
    if client := _client_behind(_values(fields, b"x-forwarded-for"), trusted):
        scope["client"] = (str(client), 0)
    proto = _values(fields, b"x-forwarded-proto")
    if proto and proto[-1] in ("http", "https"):
        scope["scheme"] = proto[-1]
    if host := _values(fields, b"x-forwarded-host"):
        others = [field for field in fields if field[0] != b"host"]
        scope["headers"] = [*others, (b"host", host[-1].encode("latin-1"))]


def _client_behind(named: Sequence[str], trusted: Sequence[Network]) -> Address | None:
    client = None
    for text in reversed(named):
        address = _parsed(text)
        if address is None:  # no proxy of ours wrote this
            break
        client = address
        if not _is_trusted(address, trusted):
            break
    return client


def _values(fields: Sequence[tuple[bytes, bytes]], name: bytes) -> list[str]:
    joined = ",".join(value.decode("latin-1") for field, value in fields if field == name)
    return [one.strip() for one in joined.split(",")] if joined else []

"""The vault: each person's key, under which their data in the log can be read, and forgotten.

A personal text is stored as `~` and base64 of a nonce and its AES-256-GCM ciphertext, bound to
the event's type, the field and the person. The keys themselves are kept beside the log, wrapped
by a master key; a key that is destroyed leaves the log as it is, and its texts unreadable.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, LiteralString

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec.structs import replace
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from domain.kernel import HOMES, Event, Recorded, State, event_name, stream_of
from domain.personal import (
    LOAD_KEYS,
    MasterKeyWrong,
    PersonalText,
    personal_fields,
    subjects_of,
)

SEALED = "~"
"""How a sealed text begins."""

NONCE_BYTES = 12

NAMES = "names"
"""The subject whose key names the streams of what must not be read from a stream's name."""

_MAKE: LiteralString = (
    "INSERT INTO people.keys (subject, wrapped) SELECT * FROM unnest(%s::text[], %s::bytea[])"
    " ON CONFLICT (subject) DO NOTHING"
)


class KeyDestroyed(Exception):
    """The person was forgotten; nothing can be recorded about them any more."""


class PersonalTextBroken(Exception):
    """A sealed text is not the one that was recorded in this place."""


class KeyRing:
    """Opens what was sealed; an `Opener` for those who read the log."""

    def __init__(self, master_keys: str) -> None:
        """`master_keys` are separated by commas: the first wraps, the others still unwrap."""
        self._master = wrapping(master_keys, "imprimatur master key")
        self._keys: dict[str, bytes | None] = {}

    def unknown(self, events: Iterable[Event]) -> list[str]:
        """The subjects of these events whose keys were not loaded yet."""
        found: set[str] = set()
        for event in events:
            if personal_fields(type(event)):
                found |= subjects_of(event) - self._keys.keys()
        return sorted(found)

    def learn(self, rows: Iterable[tuple[str, bytes | None]]) -> None:
        """Unwrap keys; whose key is NULL was forgotten. Raises MasterKeyWrong."""
        for subject, wrapped in rows:
            self._keys[subject] = self._unwrapped(wrapped) if wrapped is not None else None

    def open(self, event: Event) -> Event:
        """The event with its personal texts readable, or empty where they were forgotten."""
        return self._replaced(event, _decrypt)

    def _unwrapped(self, wrapped: bytes) -> bytes:
        try:
            return self._master.decrypt(bytes(wrapped))
        except InvalidToken as error:
            raise MasterKeyWrong("no master key of this process unwraps it") from error

    def _replaced(self, event: Event, change: "_Change") -> Event:
        changed: dict[str, str] = {}
        for name, subject in personal_fields(type(event)).items():
            text, whose = getattr(event, name), getattr(event, subject)
            if isinstance(text, str) and text:
                place = f"{event_name(type(event))}.{name} {whose}"
                changed[name] = change(text, place, self._keys.get(whose))
        return replace(event, **changed) if changed else event


class Vault(KeyRing):
    """Seals personal texts on their way into the log, and names streams that must not tell."""

    def __init__(self, master_keys: str, pool: AsyncConnectionPool[AsyncConnection[Any]]) -> None:
        super().__init__(master_keys)
        self._pool = pool

    async def start(self) -> None:
        """Load the key of names, which everything here rests on."""
        await self._load([NAMES], make=True)

    async def seal(self, events: Sequence[Event]) -> list[Event]:
        """The events as they are stored, under keys made where there were none.

        Raises KeyDestroyed.
        """
        if subjects := self.unknown(events):
            await self._load(subjects, make=True)
        return [self._replaced(event, _encrypt) for event in events]

    async def opened(self, history: list[Recorded]) -> list[Recorded]:
        """Recorded events with their personal texts readable."""
        if subjects := self.unknown(recorded.event for recorded in history):
            await self._load(subjects, make=False)
        return [replace(recorded, event=self.open(recorded.event)) for recorded in history]

    async def sealed_texts(self, texts: Sequence[PersonalText]) -> list[str]:
        """Texts as they are stored beside the log; empty where whom they are about was forgotten.

        Keys are made where there were none.
        """
        await self._load_missing(texts, make=True)
        keyed = [(one, self._keys.get(one.subject)) for one in texts]
        return [
            _encrypt(one.text, f"{one.place} {one.subject}", key) if key and one.text else ""
            for one, key in keyed
        ]

    async def opened_texts(self, texts: Sequence[PersonalText]) -> list[str]:
        """Such texts readable, or empty where their keys are no more."""
        await self._load_missing(texts, make=False)
        return [
            _decrypt(one.text, f"{one.place} {one.subject}", self._keys.get(one.subject))
            for one in texts
        ]

    async def _load_missing(self, texts: Sequence[PersonalText], *, make: bool) -> None:
        if subjects := {one.subject for one in texts} - self._keys.keys():
            await self._load(sorted(subjects), make=make)

    def stream_of(self, state: type[State], key: str) -> str:
        """A stream's name, with the key as a digest where it must not be read."""
        return stream_of(state, self.digest(key.encode()) if state.concealed else key)

    def stream_of_event(self, event: Event) -> str:
        """The stream an event belongs to, as `stream_of` names it."""
        home = HOMES[type(event)]
        return self.stream_of(home, getattr(event, home.key))

    def digest(self, said: bytes) -> str:
        """What stands for something that must not be read, or guessed, from where it is kept."""
        key = self._keys[NAMES]
        if key is None:
            raise KeyDestroyed(NAMES)
        return hmac.new(key, said, hashlib.sha256).hexdigest()

    async def _load(self, subjects: Sequence[str], *, make: bool) -> None:
        async with self._pool.connection() as connection:
            if make:
                keys = [self._master.encrypt(secrets.token_bytes(32)) for _ in subjects]
                await connection.execute(_MAKE, (list(subjects), keys))
            cursor = await connection.execute(LOAD_KEYS, (list(subjects),))
            self.learn(await cursor.fetchall())


_Change = Callable[[str, str, bytes | None], str]
"""From a text, the place it stands in and its subject's key to the text that replaces it."""


def wrapping(master_keys: str, purpose: str) -> MultiFernet:
    """What wraps secrets for one purpose: the first master key wraps, the others still unwrap."""
    return MultiFernet([_derived(key.strip(), purpose) for key in master_keys.split(",")])


def _derived(master_key: str, purpose: str) -> Fernet:
    """A key for one purpose, from a secret of any form."""
    hkdf = HKDF(hashes.SHA256(), length=32, salt=None, info=purpose.encode())
    return Fernet(urlsafe_b64encode(hkdf.derive(master_key.encode())))


def _encrypt(text: str, place: str, key: bytes | None) -> str:
    if key is None:
        raise KeyDestroyed(place)
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, text.encode(), place.encode())
    return SEALED + urlsafe_b64encode(sealed).decode()


def _decrypt(text: str, place: str, key: bytes | None) -> str:
    if not text.startswith(SEALED):  # from before this field counted as personal
        return text
    if key is None:
        return ""
    try:
        sealed = urlsafe_b64decode(text.removeprefix(SEALED))
        opened = AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.encode())
    except (InvalidTag, ValueError) as error:
        raise PersonalTextBroken(place) from error
    return opened.decode()

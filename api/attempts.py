"""Sign-ins that go on at a provider: what their browser keeps of them until it comes back."""

from base64 import urlsafe_b64encode

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct, json

LASTS_SECONDS = 600


class Attempt(Struct, frozen=True):
    """What one sign-in is told from all others by."""

    state: str
    nonce: str
    verifier: str


class Begun(Struct, frozen=True):
    """A sign-in that goes on at a provider, and what is to come of it."""

    attempt: Attempt
    tenant: str
    return_to: str
    session: bool


class Attempts:
    """Seals what a browser keeps, and opens what was sealed here not long ago."""

    def __init__(self, secrets: str) -> None:
        """`secrets` are separated by commas: the first seals, what any of them sealed is good."""
        self._fernet = MultiFernet([_derived(secret.strip()) for secret in secrets.split(",")])

    def sealed(self, begun: Begun) -> str:
        return self._fernet.encrypt(json.encode(begun)).decode()

    def opened(self, text: str) -> Begun | None:
        """What was begun; None where it was not begun here, or too long ago."""
        try:
            return json.decode(self._fernet.decrypt(text.encode(), LASTS_SECONDS), type=Begun)
        except InvalidToken:
            return None


def _derived(secret: str) -> Fernet:
    hkdf = HKDF(hashes.SHA256(), length=32, salt=None, info=b"imprimatur sign-in attempts")
    return Fernet(urlsafe_b64encode(hkdf.derive(secret.encode())))

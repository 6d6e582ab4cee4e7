"""Pictures of people and organisations: drawn anew, held while they are shown, and let go of."""

import asyncio
import hashlib
import tempfile
from pathlib import Path

from msgspec import Struct

from commands.bus import Bus
from commands.kernel import Origin
from commands.pictures import LOGO, SettlePicture, avatar_of
from domain.tenancy import Tenant
from ingest.chapters import made_at
from ingest.images import SNIFFED_BYTES, DecoderPool, Drawing, ImageRefused, sniff
from ingest.keys import picture_key
from ingest.references import BlobReferences, StoredFile
from ingest.scratch import ABANDONED_SECONDS

MEDIA_TYPE = "image/webp"
PREFIX = "picture-"


class Incoming(Struct, frozen=True):
    """A picture that is stored and not recorded yet: whose it is, and its own id.

    Each has an owner of its own among the blobs, so that what is let go of for one never takes
    away what another of the same bytes has just brought.
    """

    tenant: str
    subject: str
    picture_id: str

    @property
    def owner(self) -> str:
        return f"incoming/{self.tenant}/{self.subject}/{self.picture_id}"


class Pictures:
    """Takes pictures in, for the api; settles and sweeps them, for a worker."""

    def __init__(
        self, bus: Bus, references: BlobReferences, decoders: DecoderPool, scratch: Path
    ) -> None:
        self._bus = bus
        self._references = references
        self._decoders = decoders
        self._scratch = scratch

    async def draw(self, path: Path, drawing: Drawing) -> bytes:
        """An image from outside drawn anew; raises ImageRefused."""
        await asyncio.to_thread(_check_type, path)
        decoded = await asyncio.wrap_future(self._decoders.decode(path, drawing))
        return decoded.drawing

    async def hold(self, incoming: Incoming, drawn: bytes) -> str:
        """Store a picture until it is recorded or dropped; its digest."""
        return await asyncio.to_thread(self._hold, incoming, drawn)

    async def drop(self, incoming: Incoming) -> None:
        """Let go of a picture that was not recorded."""
        await asyncio.to_thread(self._references.release, incoming.owner)

    async def settle(self, job: SettlePicture, origin: Origin) -> None:
        """Keep the picture that was recorded, and let go of the one before, settled or not."""
        if job.picture_id:
            coming = Incoming(origin.tenant, job.subject, job.picture_id)
            await asyncio.to_thread(
                self._references.hand_over, coming.owner, _settled(job.picture_id)
            )
        if job.replaced:
            await self.drop(Incoming(origin.tenant, job.subject, job.replaced))
            await asyncio.to_thread(self._references.release, _settled(job.replaced))

    async def sweep(self, now: float) -> None:
        """Let go of what was cut off before it was recorded; `now` in seconds since the epoch."""
        for owner in await asyncio.to_thread(self._references.incoming):
            incoming = _incoming(owner)
            abandoned = now - made_at(incoming.picture_id) > ABANDONED_SECONDS
            if abandoned and not await self.is_shown(incoming):
                await self.drop(incoming)

    async def is_shown(self, incoming: Incoming) -> bool:
        """Whether a picture was recorded, and no other was since."""
        if incoming.subject == LOGO:
            tenant = await self._bus.state(Tenant, incoming.tenant, incoming.tenant)
            return tenant is not None and tenant.logo_id == incoming.picture_id
        person_id = incoming.subject.removeprefix(avatar_of(""))
        person = await self._bus.person(person_id, incoming.tenant)
        return person.avatar_id == incoming.picture_id

    def _hold(self, incoming: Incoming, drawn: bytes) -> str:
        digest = hashlib.sha256(drawn).hexdigest()
        with tempfile.NamedTemporaryFile(dir=self._scratch, prefix=PREFIX) as file:
            file.write(drawn)
            file.flush()
            key = picture_key(incoming.tenant, digest)
            stored = StoredFile(key, Path(file.name), MEDIA_TYPE, len(drawn))
            self._references.hold(incoming.owner, [stored])
        return digest


def _settled(picture_id: str) -> str:
    return f"picture/{picture_id}"


def _incoming(owner: str) -> Incoming:
    _, tenant, subject = owner.split("/", 2)
    subject, _, picture_id = subject.rpartition("/")
    return Incoming(tenant, subject, picture_id)


def _check_type(path: Path) -> None:
    """Refuse what is no image before a decoder sees it, by the codes that pages are refused by."""
    with path.open("rb") as file:
        kind = sniff(file.read(SNIFFED_BYTES))
    match kind:
        case "executable":
            raise ImageRefused("disguised_executable", "a program instead of an image")
        case "archive":
            raise ImageRefused("nested_archive", "an archive instead of an image")
        case "unknown":
            raise ImageRefused("type_mismatch", "no image of a known kind")
        case _:
            return

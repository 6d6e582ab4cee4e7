"""Pictures of people and organisations: what may be asked, and the job that follows a change."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from commands.kernel import Command, Context, Job, NewId, command, job, policy
from domain.kernel import Event
from domain.people import AvatarChanged, Person
from domain.tenancy import LogoChanged

Digest = Annotated[str, Meta(min_length=64, max_length=64, pattern=r"^[0-9a-f]{64}$(?!\n)")]

LOGO = "logo"
"""The subject of an organisation's picture."""


def avatar_of(person_id: str) -> str:
    """The subject of a person's picture."""
    return f"avatar/{person_id}"


@command(anybody=True, actor=Person)
class ChangeAvatar(Command):
    """Take another picture of oneself, which is already in the blob store."""

    picture_id: NewId = ""
    sha256: Digest

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if person.avatar != self.sha256:
            yield AvatarChanged(
                person_id=ctx.actor,
                picture_id=self.picture_id,
                sha256=self.sha256,
                replaced=person.avatar_id,
            )


@command(delete="/me/avatar", actor=Person)
class RemoveAvatar(Command):
    """Have no picture of oneself any more."""

    def decide(self, person: Person, ctx: Context) -> Iterator[Event]:
        if person.avatar_id:
            yield AvatarChanged(person_id=ctx.actor, replaced=person.avatar_id)


@command(needs="tenancy.administer")
class ChangeLogo(Command):
    """Take another logo for one's organisation, which is already in the blob store."""

    picture_id: NewId = ""
    sha256: Digest

    def decide(self, ctx: Context) -> Iterator[Event]:
        if ctx.tenant.logo != self.sha256:
            yield LogoChanged(
                tenant_id=ctx.tenant_id,
                picture_id=self.picture_id,
                sha256=self.sha256,
                replaced=ctx.tenant.logo_id,
            )


@command(delete="/tenant/logo", needs="tenancy.administer")
class RemoveLogo(Command):
    """Have no logo for one's organisation any more."""

    def decide(self, ctx: Context) -> Iterator[Event]:
        if ctx.tenant.logo_id:
            yield LogoChanged(tenant_id=ctx.tenant_id, replaced=ctx.tenant.logo_id)


@job
class SettlePicture(Job):
    """Keep a picture that was recorded, and let go of the one that it replaces."""

    subject: str
    picture_id: str
    replaced: str


@policy(AvatarChanged)
def settle_avatar(event: AvatarChanged) -> Iterator[Job]:
    """What was recorded is kept; what nobody shows any more is not."""
    yield SettlePicture(
        subject=avatar_of(event.person_id), picture_id=event.picture_id, replaced=event.replaced
    )


@policy(LogoChanged)
def settle_logo(event: LogoChanged) -> Iterator[Job]:
    """What was recorded is kept; what nobody shows any more is not."""
    yield SettlePicture(subject=LOGO, picture_id=event.picture_id, replaced=event.replaced)

"""What may have happened, for scenarios to begin with."""

from datetime import UTC, datetime

from domain.appeals import AppealAccepted, AppealLodged, AppealRejected
from domain.catalogue import (
    ChapterApproved,
    ChapterDeleted,
    ChapterProcessed,
    ChapterRefused,
    ChapterRejected,
    ChapterUploaded,
    Finding,
    Page,
    PagesRecorded,
    SeriesCreated,
    SeriesPublished,
    SlugClaimed,
)
from domain.kernel import Event
from domain.memberships import InvitationAccepted, InvitationSent, InvitationWithdrawn
from domain.people import (
    AccountLeft,
    AvatarChanged,
    EmailAdded,
    EmailRequested,
    IdentityClaimed,
    IdentityLinked,
    PersonBanned,
    identity_at,
)
from domain.tenancy import (
    MAIN,
    AdministratorAppointed,
    LogoChanged,
    RoleDefined,
    TenantOpened,
)

ARCHIVE = "series/the-lamp/0/1/c1.zip"


def created(by: str = "ana", title: str = "The Lamp", slug: str = "the-lamp") -> SeriesCreated:
    return SeriesCreated(
        series_id="s1",
        slug=slug,
        title=title,
        kind="manga",
        status="ongoing",
        rating="safe",
        language="en",
        created_by=by,
    )


slug_claimed = SlugClaimed(slug="the-lamp", series_id="s1")
published = SeriesPublished(series_id="s1")


def uploaded(by: str = "ana") -> ChapterUploaded:
    return ChapterUploaded(
        chapter_id="c1",
        series_id="s1",
        number=1.0,
        language="en",
        archive=ARCHIVE,
        archive_sha256="0" * 64,
        archive_bytes=1_000,
        uploaded_by=by,
    )


def page(number: int = 1) -> Page:
    return Page(
        number=number,
        name=f"{number}.jpg",
        sha256=f"{number:064x}",
        extension="jpg",
        width=800,
        height=1_150,
        bytes=10_000,
        thumbnail_sha256=f"{number + 1_000:064x}",
        thumbnail_bytes=900,
    )


pages = PagesRecorded(chapter_id="c1", pages=(page(),))
processed = ChapterProcessed(chapter_id="c1", page_count=1)
refused = ChapterRefused(
    chapter_id="c1", uploaded_by="ana", archive=ARCHIVE, findings=(Finding("no_pages"),)
)
approved = ChapterApproved(chapter_id="c1", archive=ARCHIVE)
rejected = ChapterRejected(chapter_id="c1", archive=ARCHIVE, reason="blurred")
deleted = ChapterDeleted(chapter_id="c1", archive=ARCHIVE)


opened = TenantOpened(tenant_id="school", name="A School", plan="basic")
avatar_changed = AvatarChanged(person_id="ana", picture_id="a1", sha256="a" * 64)
logo_changed = LogoChanged(tenant_id=MAIN, picture_id="l1", sha256="b" * 64)
role_defined = RoleDefined(tenant_id="school", role="uploader", permissions=())


IDENTITY = identity_at("https://accounts.example.org", "ana-there")
identity_linked = (
    EmailAdded(person_id="ana", email="ana@example.org", confirmed=True),
    IdentityClaimed(identity=IDENTITY, person_id="ana"),
    IdentityLinked(
        person_id="ana",
        identity_id="l1",
        issuer="https://accounts.example.org",
        subject="ana-there",
        email="ana@example.org",
    ),
)


def banned(person: str = "ana", by: str = "meder", until: datetime | None = None) -> PersonBanned:
    return PersonBanned(person_id=person, reason="spam", until=until, banned_by=by)


BAN_END = datetime(2026, 1, 2, 12, tzinfo=UTC)

appointed = AdministratorAppointed(tenant_id=MAIN, person_id="aida")
lodged = AppealLodged(
    appeal_id="ana-1", person_id="ana", ban=1, banned_by="meder", text="It was not me."
)
accepted = AppealAccepted(appeal_id="ana-1", person_id="ana", note="Sorry.")
appeal_rejected = AppealRejected(appeal_id="ana-1", person_id="ana", reason="It was.")


def email_added(*, confirmed: bool = False) -> EmailAdded:
    return EmailAdded(person_id="ana", email="ana@example.org", confirmed=confirmed)


email_requested = EmailRequested(
    person_id="ana", email="new@example.org", asked_at=datetime(2026, 1, 1, tzinfo=UTC)
)
invited = InvitationSent(
    invitation_id="v1",
    email="dina@example.org",
    roles=("uploader",),
    language="en",
    message="Come in.",
    sent_by="aida",
    sent_at=datetime(2026, 1, 1, tzinfo=UTC),
)
withdrawn = InvitationWithdrawn(invitation_id="v1")
invitation_accepted = InvitationAccepted(invitation_id="v1", person_id="dina")
left = AccountLeft(person_id="ana")


def pending(by: str = "ana") -> tuple[Event, ...]:
    """A chapter that waits for a decision."""
    return (created(by), uploaded(by), pages, processed)

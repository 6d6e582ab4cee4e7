"""The rules of series and chapters."""

import pytest
from msgspec.structs import replace

from commands.catalogue import (
    PAGES_PER_EVENT,
    ApproveChapter,
    CreateSeries,
    DeleteChapter,
    PublishSeries,
    RecordPages,
    RefuseChapter,
    RejectChapter,
    ReviseSeries,
    UnpublishSeries,
    UploadChapter,
)
from commands.kernel import SYSTEM, Command
from domain.catalogue import (
    ChapterUploaded,
    Finding,
    PagesRecorded,
    SeriesCreated,
    SeriesRevised,
    SeriesUnpublished,
    SlugClaimed,
    slugify,
)
from domain.kernel import Event
from tests.histories import (
    approved,
    banned,
    created,
    deleted,
    page,
    pending,
    processed,
    published,
    refused,
    rejected,
    slug_claimed,
    uploaded,
)
from tests.scenario import NEW, GivenEvents

LAMP = CreateSeries(title="The Lamp", kind="manga", status="ongoing", rating="safe", language="en")
APPROVE = ApproveChapter(chapter_id="c1")
REJECT = RejectChapter(chapter_id="c1", reason="blurred")
DELETE = DeleteChapter(chapter_id="c1")
UPLOAD = UploadChapter(series_id="s1", number=2.5, archive_sha256="0" * 64, archive_bytes=9)


def series(slug: str) -> SeriesCreated:
    return SeriesCreated(
        series_id=NEW,
        slug=slug,
        title="The Lamp",
        kind="manga",
        status="ongoing",
        rating="safe",
        language="en",
        created_by="ana",
    )


def test_a_series_claims_its_slug(given: GivenEvents) -> None:
    given().when(LAMP, by="ana").then(
        SlugClaimed(slug="the-lamp", series_id=NEW), series("the-lamp")
    )


def test_a_slug_that_is_taken_gets_the_ids_tail(given: GivenEvents) -> None:
    given(slug_claimed, created()).when(LAMP, by="ana").then(
        SlugClaimed(slug="the-lamp-new-1", series_id=NEW), series("the-lamp-new-1")
    )


def test_a_reader_creates_no_series(given: GivenEvents) -> None:
    given().when(LAMP, by="nur").then_rejected("permission_denied")


def test_somebody_without_an_account_does_nothing(given: GivenEvents) -> None:
    given().when(LAMP, by="nobody").then_rejected("unknown_account")


def test_a_banned_person_does_nothing(given: GivenEvents) -> None:
    given(banned("ana")).when(LAMP, by="ana").then_rejected("banned")


def test_only_what_changes_is_recorded(given: GivenEvents) -> None:
    change = ReviseSeries(series_id="s1", title="The Lamp", status="completed")
    given(created()).when(change, by="ana").then(SeriesRevised(series_id="s1", status="completed"))


def test_nobody_revises_anothers_series(given: GivenEvents) -> None:
    change = ReviseSeries(series_id="s1", title="Mine")
    given(created(), published).when(change, by="ben").then_rejected("not_your_series")


def test_nobody_revises_what_they_do_not_see(given: GivenEvents) -> None:
    change = ReviseSeries(series_id="s1", title="Mine")
    given(created()).when(change, by="ben").then_rejected("series_not_found")


def test_a_moderator_revises_any_series(given: GivenEvents) -> None:
    change = ReviseSeries(series_id="s1", title="Yours")
    given(created()).when(change, by="meder").then(SeriesRevised(series_id="s1", title="Yours"))


def test_a_moderator_publishes(given: GivenEvents) -> None:
    given(created()).when(PublishSeries(series_id="s1"), by="meder").then(published)


def test_publishing_twice_is_harmless(given: GivenEvents) -> None:
    given(created(), published).when(PublishSeries(series_id="s1"), by="meder").then_nothing()


def test_an_uploader_does_not_publish(given: GivenEvents) -> None:
    given(created()).when(PublishSeries(series_id="s1"), by="ana").then_rejected(
        "permission_denied"
    )


def test_a_series_is_hidden_again(given: GivenEvents) -> None:
    why = "Its licence ended."
    given(created(), published).when(UnpublishSeries(series_id="s1", reason=why), by="meder").then(
        SeriesUnpublished(series_id="s1", reason=why)
    )


def test_hiding_what_is_not_ones_own_takes_a_reason(given: GivenEvents) -> None:
    given(created(), published).when(UnpublishSeries(series_id="s1"), by="meder").then_rejected(
        "reason_required"
    )


def test_hiding_ones_own_takes_none(given: GivenEvents) -> None:
    given(created(by="meder"), published).when(UnpublishSeries(series_id="s1"), by="meder").then(
        SeriesUnpublished(series_id="s1")
    )


def test_hiding_what_is_hidden_is_harmless(given: GivenEvents) -> None:
    given(created()).when(UnpublishSeries(series_id="s1"), by="meder").then_nothing()


def test_what_does_not_exist_is_not_found(given: GivenEvents) -> None:
    given().when(PublishSeries(series_id="s9"), by="meder").then_rejected("series_not_found")


def chapter_of(by: str) -> ChapterUploaded:
    return ChapterUploaded(
        chapter_id=NEW,
        series_id="s1",
        number=2.5,
        language="en",
        archive="series/the-lamp/0/2.5/new-1.zip",
        archive_sha256="0" * 64,
        archive_bytes=9,
        uploaded_by=by,
    )


def test_an_upload_takes_the_series_language(given: GivenEvents) -> None:
    given(created(), published).when(UPLOAD, by="ben").then(chapter_of("ben"))


@pytest.mark.parametrize("by", ["ana", "meder"])
def test_an_unpublished_series_takes_chapters_of_its_creator_and_moderators(
    given: GivenEvents, by: str
) -> None:
    given(created("ana")).when(UPLOAD, by=by).then(chapter_of(by))


def test_an_unpublished_series_does_not_exist_for_other_uploaders(given: GivenEvents) -> None:
    given(created("ana")).when(UPLOAD, by="ben").then_rejected("series_not_found")


def test_nor_does_one_that_was_hidden_again(given: GivenEvents) -> None:
    hidden = SeriesUnpublished(series_id="s1")
    given(created("ana"), published, hidden).when(UPLOAD, by="ben").then_rejected(
        "series_not_found"
    )


def test_an_upload_needs_its_series(given: GivenEvents) -> None:
    given().when(UPLOAD, by="ana").then_rejected("series_not_found")


def test_pages_are_recorded_in_events_of_bounded_size(given: GivenEvents) -> None:
    many = tuple(page(number) for number in range(1, PAGES_PER_EVENT + 2))
    given(created(), uploaded()).when(RecordPages(chapter_id="c1", pages=many), by=SYSTEM).then(
        PagesRecorded(chapter_id="c1", pages=many[:PAGES_PER_EVENT]),
        PagesRecorded(chapter_id="c1", pages=many[PAGES_PER_EVENT:]),
        type(processed)(chapter_id="c1", page_count=len(many)),
    )


def test_pages_of_a_deleted_chapter_are_not_recorded(given: GivenEvents) -> None:
    report = RecordPages(chapter_id="c1", pages=(page(),))
    given(created(), uploaded(), deleted).when(report, by=SYSTEM).then_nothing()


def test_people_record_no_pages(given: GivenEvents) -> None:
    report = RecordPages(chapter_id="c1", pages=(page(),))
    given(created(), uploaded()).when(report, by="aida").then_rejected("permission_denied")


def test_an_archive_is_refused_with_its_findings(given: GivenEvents) -> None:
    report = RefuseChapter(chapter_id="c1", findings=(Finding("no_pages"),))
    given(created(), uploaded()).when(report, by=SYSTEM).then(refused)


def test_a_refusal_comes_once(given: GivenEvents) -> None:
    report = RefuseChapter(chapter_id="c1", findings=(Finding("no_pages"),))
    given(created(), uploaded(), refused).when(report, by=SYSTEM).then_nothing()


def test_a_moderator_approves(given: GivenEvents) -> None:
    given(*pending()).when(APPROVE, by="meder").then(approved)


def test_approving_twice_is_harmless(given: GivenEvents) -> None:
    given(*pending(), approved).when(APPROVE, by="meder").then_nothing()


def test_nobody_approves_their_own_upload(given: GivenEvents) -> None:
    given(*pending(by="meder")).when(APPROVE, by="meder").then_rejected("own_upload")


def test_nobody_rejects_their_own_upload(given: GivenEvents) -> None:
    given(*pending(by="meder")).when(REJECT, by="meder").then_rejected("own_upload")


@pytest.mark.parametrize("decision", [APPROVE, REJECT])
def test_what_is_being_processed_is_not_decided(given: GivenEvents, decision: Command) -> None:
    given(created(), uploaded()).when(decision, by="meder").then_rejected("chapter_not_pending")


def test_what_is_approved_is_not_rejected(given: GivenEvents) -> None:
    given(*pending(), approved).when(REJECT, by="meder").then_rejected("chapter_not_pending")


def test_what_is_rejected_is_not_approved(given: GivenEvents) -> None:
    given(*pending(), rejected).when(APPROVE, by="meder").then_rejected("chapter_not_pending")


def test_a_moderator_rejects_with_a_reason(given: GivenEvents) -> None:
    given(*pending()).when(REJECT, by="meder").then(rejected)


def test_rejecting_twice_is_harmless(given: GivenEvents) -> None:
    given(*pending(), rejected).when(REJECT, by="meder").then_nothing()


def test_an_uploader_decides_nothing(given: GivenEvents) -> None:
    given(*pending()).when(APPROVE, by="ben").then_rejected("permission_denied")


@pytest.mark.parametrize("decision", [APPROVE, REJECT])
def test_what_is_deleted_is_not_decided(given: GivenEvents, decision: Command) -> None:
    given(*pending(), deleted).when(decision, by="meder").then_rejected("chapter_deleted")


def test_the_uploader_deletes(given: GivenEvents) -> None:
    given(*pending()).when(DELETE, by="ana").then(deleted)


def test_a_moderator_deletes(given: GivenEvents) -> None:
    given(*pending(), approved).when(replace(DELETE, reason="Stolen."), by="meder").then(
        replace(deleted, reason="Stolen.")
    )


def test_a_moderator_who_deletes_says_why(given: GivenEvents) -> None:
    given(*pending(), approved).when(DELETE, by="meder").then_rejected("reason_required")


def test_another_uploader_does_not_delete(given: GivenEvents) -> None:
    shown = (*pending(), approved, published)
    given(*shown).when(DELETE, by="ben").then_rejected("not_your_chapter")


@pytest.mark.parametrize(
    "then", [(), (published,), (approved,), (rejected, published), (approved, published, deleted)]
)
def test_nobody_deletes_what_they_do_not_see(given: GivenEvents, then: tuple[Event, ...]) -> None:
    given(*pending(), *then).when(DELETE, by="ben").then_rejected("chapter_not_found")


def test_what_is_not_there_is_not_deleted(given: GivenEvents) -> None:
    given(created()).when(DELETE, by="ben").then_rejected("chapter_not_found")


def test_deleting_twice_is_harmless(given: GivenEvents) -> None:
    given(*pending(), deleted).when(DELETE, by="ana").then_nothing()


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("The Lamp", "the-lamp"),
        ("  Ночь -- és día!  ", "ночь-és-día"),
        ("???", "untitled"),
        ("a" * 79 + " b", "a" * 79),
        ("\U00010330" * 80, "\U00010330" * 50),
    ],
)
def test_a_slug_is_a_short_name_of_letters_and_hyphens(title: str, slug: str) -> None:
    assert slugify(title) == slug

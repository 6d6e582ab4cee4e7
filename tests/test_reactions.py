"""Policies: what follows from an event follows once, and what cannot follow holds up nothing."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from psycopg import AsyncConnection
from psycopg_pool import PoolTimeout

from commands.bus import Contended
from commands.catalogue import DiscardArchive, RefuseChapter, ReleasePages, ReviseSeries
from commands.kernel import POLICIES, Command, Job, PolicySpec
from commands.log import APPEND, Append, LogUnavailable, NewEvent, encode_batch
from commands.people.bans import BanPerson
from domain.catalogue import ChapterRefused, Finding, SeriesRevised
from domain.people import PersonBanned
from runtime import reactions
from runtime.followers import read_standings, retry_policies
from runtime.reactions import Deferred
from tests.database import Database
from tests.processes import until
from tests.workshop import Workshop

PROCESS = "catalogue.ProcessArchive"
BAN = "people.ban_malicious_uploader"
POISON = "poison"
FOLLOWS = "follows an event that was set aside"


class Crash(BaseException):
    """The worker dies here."""


def refuse_as_malicious(place: Workshop, chapter: str) -> None:
    finding = Finding("overlapping_entries")
    place.ask(RefuseChapter(chapter_id=chapter, findings=(finding,), malicious=True))


def cut(database: Database, connection: AsyncConnection[Any]) -> None:
    """Cut a connection at the server."""
    with psycopg.connect(database.superuser) as superuser:
        superuser.execute("SELECT pg_terminate_backend(%s, 10000)", (connection.info.backend_pid,))


def test_policies_act_once_when_the_worker_dies_between_commands_and_bookmark(place: Workshop):
    refuse_as_malicious(place, place.upload(1))

    async def crash(connection: AsyncConnection[Any], jobs: list[Deferred]) -> None:
        await place.defer(connection, jobs)
        if place.events(PersonBanned):
            raise Crash

    for _ in range(2):
        with pytest.raises(Crash):
            place.react(crash)
        assert place.jobs() == []
        assert place.query("SELECT DISTINCT position FROM projections.policies") == [(0,)]
    place.react()
    place.react()
    ((refused_at, _, refused),) = place.events(ChapterRefused)
    ((_, command_id, banned),) = place.events(PersonBanned)
    assert command_id == f"policy:{BAN}:{refused_at}:0"
    assert banned.reason == f"hostile archive (overlapping_entries): {refused.chapter_id}"
    assert [name for name, _, _ in place.jobs()] == [
        PROCESS,
        "catalogue.DiscardArchive",
        "people.SendLetter",
    ]


@pytest.mark.parametrize("queued", [False, True])
def test_jobs_and_bookmark_are_written_together(place: Workshop, queued: bool):
    place.upload(1)

    async def be_cut_off(connection: AsyncConnection[Any], jobs: list[Deferred]) -> None:
        if queued:
            await place.defer(connection, jobs)
        cut(place.database, connection)
        await place.defer(connection, jobs)

    with pytest.raises((psycopg.OperationalError, ConnectorException)):
        place.react(be_cut_off)
    assert (place.jobs(), dead_letters(place)) == ([], [])
    place.react()
    place.react()
    assert [name for name, _, _ in place.jobs()] == [PROCESS]


def test_a_policy_that_says_something_else_than_before_does_not_act_twice(place: Workshop):
    refuse_as_malicious(place, place.upload(1))
    ((refused_at, _, _),) = place.events(ChapterRefused)
    before = BanPerson(person_id="ana", reason="what the policy said before it was changed")
    place.ask(before, key=f"policy:{BAN}:{refused_at}:0")
    place.react()
    ((_, _, banned),) = place.events(PersonBanned)
    assert banned.reason == before.reason


class Follower:
    """A policy of the tests about revised series, broken for some titles until it is mended."""

    def __init__(self) -> None:
        self.broken = True
        self.spec = PolicySpec(name="tests.follow", event=SeriesRevised, react=self.react)

    def react(self, event: SeriesRevised) -> Iterator[Job]:
        yield DiscardArchive(archive=str(event.title))
        if event.title == POISON and self.broken:
            raise ValueError(POISON)


def follow_elsewhere(event: SeriesRevised) -> Iterator[Job]:
    yield ReleasePages(chapter_id=str(event.title))


ELSEWHERE = PolicySpec(name="tests.follow_elsewhere", event=SeriesRevised, react=follow_elsewhere)


@pytest.fixture
def follower() -> Follower:
    return Follower()


def retitle(place: Workshop, *titles: str) -> None:
    for title in titles:
        place.ask(ReviseSeries(series_id=place.series, title=title), by="ana")


def followed(place: Workshop, policy: str = "tests.follow") -> list[str]:
    """The titles that a policy asked for jobs about, in order."""
    return [
        next(iter(args["job"].values()))
        for _, args, _ in place.jobs()
        if args["origin"]["policy"] == policy
    ]


def dead_letters(place: Workshop) -> Sequence[tuple[Any, ...]]:
    return place.query(
        "SELECT policy, position, stream, error FROM projections.policy_dead_letters"
        " ORDER BY policy, position"
    )


def positions(place: Workshop) -> list[int]:
    return [position for position, _, _ in place.events(SeriesRevised)]


def test_an_event_that_a_policy_cannot_react_to_holds_its_stream_for_that_policy_alone(
    place: Workshop, follower: Follower
):
    retitle(place, "first", POISON)
    held, place.series = place.series, place.new_series("two")
    retitle(place, "other")
    place.series = held
    retitle(place, "last")
    place.react(policies=[follower.spec, ELSEWHERE])
    assert followed(place) == ["first", "other"]
    assert followed(place, ELSEWHERE.name) == ["first", POISON, "other", "last"]
    _, poisoned, _, last = positions(place)
    assert dead_letters(place) == [
        ("tests.follow", poisoned, f"series-{held}", "ValueError('poison')"),
        ("tests.follow", last, f"series-{held}", FOLLOWS),
    ]
    standing = {one.name: one for one in read_standings(place.database.app, "policy")}
    assert (standing["tests.follow"].lag, standing["tests.follow"].dead_letters) == (0, 2)
    assert (standing[ELSEWHERE.name].lag, standing[ELSEWHERE.name].dead_letters) == (0, 0)


def test_a_stream_stays_held_when_the_worker_starts_again(place: Workshop, follower: Follower):
    retitle(place, POISON)
    place.react(policies=[follower.spec])
    follower.broken = False
    retitle(place, "last")
    place.react(policies=[follower.spec])
    assert followed(place) == []
    assert [error for *_, error in dead_letters(place)] == ["ValueError('poison')", FOLLOWS]


def test_a_retry_that_fails_again_is_set_aside_again(place: Workshop, follower: Follower):
    retitle(place, POISON, "last")
    place.react(policies=[follower.spec])
    before = dead_letters(place)
    assert retry_policies(place.database.app, "tests.follow") == 2
    place.react(policies=[follower.spec])
    assert dead_letters(place) == before
    assert followed(place) == []


def test_a_retry_does_not_wait_until_nothing_else_is_to_be_reacted_to(
    place: Workshop, follower: Follower
):
    retitle(place, POISON)
    place.react(policies=[follower.spec])
    follower.broken = False
    retry_policies(place.database.app)
    place.series = place.new_series("two")
    retitle(place, "other")
    place.react(policies=[follower.spec], steps=1)
    assert followed(place) == [POISON, "other"]


def test_a_running_worker_reacts_in_order_to_what_is_retried(
    place: Workshop, follower: Follower, monkeypatch: pytest.MonkeyPatch
):
    said: list[str] = []

    def react(event: SeriesRevised) -> Iterator[Job]:
        jobs = list(follower.react(event))
        said.append(str(event.title))
        yield from jobs

    spec = PolicySpec(name="tests.follow", event=SeriesRevised, react=react)
    monkeypatch.setitem(POLICIES, spec.name, spec)
    with place.at_work():
        retitle(place, "first", POISON, "third")
        until(lambda: len(dead_letters(place)) == 2)
        follower.broken = False
        assert retry_policies(place.database.app) == 2
        until(lambda: dead_letters(place) == [])
        retitle(place, "last")
        until(place.all_is_done)
    assert said == ["first", POISON, "third", "last"]


def test_a_retried_answer_repeats_nothing_that_was_done_before(place: Workshop):
    too_long = "x" * 70_000

    def react(event: SeriesRevised) -> Iterable[Command | Job]:
        if event.title == "begin":
            yield ReviseSeries(series_id=place.series, description="the first command")
            yield DiscardArchive(archive="of the answer")
            yield ReviseSeries(series_id=place.series, description=too_long)

    spec = PolicySpec(name="tests.answer", event=SeriesRevised, react=react)
    retitle(place, "begin")
    for _ in range(2):
        place.react(policies=[spec])
        ((_, _, _, error), *_) = dead_letters(place)
        assert error.startswith("EventTooLarge(")
        retry_policies(place.database.app)
    too_long = "shorter"
    place.react(policies=[spec])
    place.react(policies=[spec])
    assert dead_letters(place) == []
    described = [event.description for _, _, event in place.events(SeriesRevised)[1:]]
    assert described == ["the first command", "shorter"]
    assert followed(place, "tests.answer") == ["of the answer"]


def append(place: Workshop, stream: str, kind: str, body: str) -> None:
    """Append an event as another version of the code wrote it."""
    given = Append(
        tenant="main",
        command_id=f"given-{kind}",
        name="tests.Given",
        actor="meder",
        correlation_id="given",
        events=[NewEvent(stream, kind, body)],
    )
    place.query(APPEND, encode_batch([given]))


def test_an_event_that_cannot_be_decoded_is_set_aside(place: Workshop, follower: Follower):
    append(place, "series-broken", "catalogue.SeriesRevised", '{"title": 7}')
    retitle(place, "last")
    place.react(policies=[follower.spec])
    ((_, _, stream, error),) = dead_letters(place)
    assert stream == "series-broken"
    assert error.startswith("ValidationError(")
    assert followed(place) == ["last"]


def test_a_command_about_a_stream_with_an_event_nobody_knows_is_set_aside(place: Workshop):
    refuse_as_malicious(place, place.upload(1))
    append(place, "person-ana", "people.Unheard", "{}")
    place.react()
    ((policy, _, _, error),) = dead_letters(place)
    assert (policy, error) == (BAN, "UnknownEventType('people.Unheard')")
    assert [name for name, _, _ in place.jobs()] == [PROCESS, "catalogue.DiscardArchive"]


def test_a_job_that_the_queue_will_never_take_is_set_aside(place: Workshop):
    def react(event: SeriesRevised) -> Iterator[Job]:
        yield DiscardArchive(archive="a\0b" if event.title == POISON else str(event.title))

    spec = PolicySpec(name="tests.follow", event=SeriesRevised, react=react)
    first, place.series = place.series, place.new_series("two")
    retitle(place, POISON)
    place.series = first
    retitle(place, "last")
    place.react(policies=[spec])
    assert len(dead_letters(place)) == 1
    assert followed(place) == ["last"]


@pytest.mark.parametrize(
    "error",
    [
        LogUnavailable(),
        PoolTimeout(),
        Contended("people.BanPerson"),
        psycopg.errors.AdminShutdown(),
        psycopg.errors.ReadOnlySqlTransaction(),
    ],
    ids=repr,
)
def test_an_outage_sets_nothing_aside(
    place: Workshop, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    refuse_as_malicious(place, place.upload(1))

    async def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place.bus, "handle", fail)
        with pytest.raises(type(error)):
            place.react()
    assert (dead_letters(place), place.jobs()) == ([], [])
    place.react()
    assert len(place.events(PersonBanned)) == 1


def test_a_worker_that_lacks_a_policy_leaves_its_bookmark_where_it_is(
    place: Workshop, follower: Follower
):
    place.react(policies=[follower.spec, ELSEWHERE])
    retitle(place, "first")
    place.react(policies=[ELSEWHERE])
    place.react(policies=[follower.spec, ELSEWHERE])
    assert followed(place) == followed(place, ELSEWHERE.name) == ["first"]


def leases(place: Workshop) -> list[bool]:
    """Whether each of those who follow the log may react to it, or waits until it may."""
    rows = place.query(
        "SELECT granted FROM pg_locks JOIN pg_database d ON d.oid = database"
        " WHERE locktype = 'advisory' AND datname = current_database() AND objid = %s"
        " ORDER BY granted",
        vars(reactions)["_LEASE"],
    )
    return [granted for (granted,) in rows]


def test_of_two_workers_one_reacts_and_the_other_takes_over(place: Workshop, follower: Follower):
    with ExitStack() as second:
        with place.reacting(follower.spec):
            until(lambda: leases(place) == [True])
            second.enter_context(place.reacting(follower.spec))
            until(lambda: leases(place) == [False, True])
            retitle(place, "first")
            until(lambda: followed(place) == ["first"])
        retitle(place, "second")
        until(lambda: followed(place) == ["first", "second"])
        assert leases(place) == [True]

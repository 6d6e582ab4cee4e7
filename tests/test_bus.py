"""The bus on a real log: decisions that hold, beside another process that decides as well."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from msgspec import structs

from commands import bus as bus_module
from commands.bus import Bus, Envelope, KeyReused, Outcome
from commands.catalogue import (
    ApproveChapter,
    CreateSeries,
    PublishSeries,
    RecordPages,
    RejectChapter,
    UnpublishSeries,
    UploadChapter,
)
from commands.connections import TenantPool
from commands.kernel import (
    COMMANDS,
    SYSTEM,
    Banned,
    Command,
    NotFound,
    PermissionDenied,
    UnknownActor,
)
from commands.log import LogReader, LogWriter
from commands.people import CreateAccount
from commands.people.bans import BanPerson, UnbanPerson
from commands.vault import KeyDestroyed, Vault
from domain.catalogue import Chapter, Series
from domain.kernel import Recorded, Rejected
from tests.database import MASTER_KEY, Database

Events = list[tuple[int, str, str, str]]


class WatchedReader(LogReader):
    """Remembers which streams were read, and from which version on."""

    def __init__(self, pool: TenantPool, vault: Vault) -> None:
        super().__init__(pool, vault)
        self.reads: list[tuple[str, int]] = []

    async def stream(self, tenant: str, stream: str, *, after: int = 0) -> list[Recorded]:
        if stream != "tenant-main":  # which nothing is recorded of, and every command asks about
            self.reads.append((stream, after))
        return await super().stream(tenant, stream, after=after)


class Process:
    """A bus with a writer, a reader and a memory of its own, as another process has them."""

    def __init__(self, dsn: str) -> None:
        self._pool = TenantPool(dsn, open=False, max_size=4)
        self._writer = LogWriter(dsn)
        self.vault = Vault(MASTER_KEY, self._pool)
        self.reader = WatchedReader(self._pool, self.vault)
        self.bus = Bus(
            self._writer, self.reader, self.vault, lambda: datetime.now(UTC), lambda: uuid4().hex
        )

    async def do(self, command: Command, by: str = SYSTEM, key: str | None = None) -> Outcome:
        return await self.bus.handle(command, Envelope(actor=by, command_id=key))

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Process"]:
        async with self._pool:
            await self.vault.start()
            yield self
        self._writer.close()


Scenario = Callable[[Process, Process], Awaitable[None]]


def play(database: Database, scenario: Scenario) -> None:
    """Run a scenario with two processes, on a log where a few people have accounts."""

    async def main() -> None:
        async with Process(database.app).running() as a, Process(database.app).running() as b:
            people: dict[str, str] = {
                "mara": "moderator",
                "mike": "moderator",
                "uma": "uploader",
                "rita": "reader",
                "adam": "administrator",
            }
            for name, role in people.items():
                await a.do(account(name, role))
            await scenario(a, b)

    asyncio.run(main())


def account(name: str, role: str) -> CreateAccount:
    return CreateAccount(person_id=name, username=name, roles=(role,))


def series(series_id: str = "", title: str = "Manas") -> CreateSeries:
    return CreateSeries(
        series_id=series_id,
        title=title,
        kind="manga",
        status="ongoing",
        rating="safe",
        language="ky",
    )


def chapter(chapter_id: str, series_id: str = "s") -> UploadChapter:
    return UploadChapter(
        chapter_id=chapter_id,
        series_id=series_id,
        number=1,
        archive_sha256="0" * 64,
        archive_bytes=1,
    )


def events(database: Database, where: str = "") -> Events:
    """Position, stream, type and actor of the events of a stream, or of all."""
    with psycopg.connect(database.app) as connection:
        return connection.execute(
            "SELECT position, stream, type, actor FROM log.events"
            " WHERE %(stream)s IN ('', stream) ORDER BY position",
            {"stream": where},
        ).fetchall()


def types(database: Database, stream: str) -> list[str]:
    return [type_ for _, _, type_, _ in events(database, stream)]


def test_a_decision_on_a_stream_that_moved_is_made_again(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("s"), by="uma")
        await b.do(chapter("c"), by="uma")
        await b.do(RecordPages(chapter_id="c", pages=()))
        await a.do(ApproveChapter(chapter_id="c"), by="mara")
        with pytest.raises(Rejected, match="chapter_not_pending"):
            await b.do(RejectChapter(chapter_id="c", reason="blurred"), by="mike")

    play(database, scenario)
    assert types(database, "chapter-c")[-1] == "catalogue.ChapterApproved"


def test_a_moved_state_is_read_on_from_where_it_stood(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("s"))
        await b.do(PublishSeries(series_id="s"))
        await a.do(UnpublishSeries(series_id="s"))
        await a.do(PublishSeries(series_id="s"))
        outcome = await b.do(UnpublishSeries(series_id="s"))
        assert b.reader.reads == [("series-s", 0), ("series-s", 2)]
        assert outcome.position == events(database)[-1][0]

    play(database, scenario)
    assert [name.partition(".")[2] for name in types(database, "series-s")] == [
        "SeriesCreated",
        "SeriesPublished",
        "SeriesUnpublished",
        "SeriesPublished",
        "SeriesUnpublished",
    ]


def test_a_refusal_is_never_given_on_remembered_states(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("s"), by="uma")
        await b.do(chapter("c"), by="uma")
        await a.do(RecordPages(chapter_id="c", pages=()))
        await b.do(ApproveChapter(chapter_id="c"), by="mara")
        await b.do(BanPerson(person_id="mara", reason="spam"))
        await a.do(UnbanPerson(person_id="mara"))
        await b.do(PublishSeries(series_id="s"), by="mara")

    play(database, scenario)
    assert types(database, "series-s")[-1] == "catalogue.SeriesPublished"


def test_doing_nothing_is_never_decided_on_remembered_states(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("s"))
        await b.do(PublishSeries(series_id="s"))
        await a.do(UnpublishSeries(series_id="s"))
        await b.do(PublishSeries(series_id="s"))

    play(database, scenario)
    assert types(database, "series-s")[-1] == "catalogue.SeriesPublished"


def test_a_key_has_one_outcome_however_often_it_comes(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        outcomes = await asyncio.gather(
            *(process.do(series(), by="uma", key="k") for _ in range(25) for process in (a, b))
        )
        assert len(set(outcomes)) == 1
        assert (outcomes[0].id, outcomes[0].position) == created(database)

    play(database, scenario)


def created(database: Database) -> tuple[str, int]:
    """The series that was created, if it was one."""
    ((position, stream, _, _),) = [e for e in events(database) if e[2].endswith("SeriesCreated")]
    return stream.removeprefix("series-"), position


def test_a_key_is_not_for_another_request(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        await a.do(series(), by="uma", key="k")
        with pytest.raises(KeyReused):
            await a.do(series(title="Semetey"), by="uma", key="k")
        with pytest.raises(KeyReused):
            await b.do(series(), by="mara", key="k")
        await b.do(series(title="Semetey"), by="uma", key="l")

    play(database, scenario)


def test_a_rejection_is_kept_for_its_key(database: Database) -> None:
    approval = ApproveChapter(chapter_id="c")

    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("s"), by="uma")
        await a.do(chapter("c"), by="uma")
        for process, pages in ((a, ()), (b, None), (a, None)):
            with pytest.raises(Rejected) as refusal:
                await process.do(approval, by="mara", key="k")
            assert refusal.value.code == "chapter_not_pending"
            assert refusal.value.details == {"status": "processing"}
            if pages is not None:
                await a.do(RecordPages(chapter_id="c", pages=pages))
        await b.do(approval, by="mara", key="l")

    play(database, scenario)
    assert types(database, "chapter-c")[-1] == "catalogue.ChapterApproved"


def test_a_key_keeps_its_answer_when_its_request_would_be_refused_by_now(
    database: Database,
) -> None:
    ban, another = (BanPerson(person_id="rita", reason=reason) for reason in ("spam", "noise"))

    async def scenario(a: Process, b: Process) -> None:
        first = await a.do(ban, by="mara", key="k")
        await a.do(UnbanPerson(person_id="rita"), by="mara")
        with psycopg.connect(database.superuser) as connection:
            connection.execute("UPDATE people.keys SET wrapped = NULL WHERE subject = 'rita'")
        assert await b.do(ban, by="mara", key="k") == first
        with pytest.raises(KeyDestroyed):
            await b.do(ban, by="mara", key="l")
        await a.do(BanPerson(person_id="mara", reason="spam"), by="adam")
        assert await b.do(ban, by="mara", key="k") == first
        with pytest.raises(KeyReused):
            await b.do(another, by="mara", key="k")
        with pytest.raises(KeyDestroyed):
            await b.do(ban, by="mike", key="k")

    play(database, scenario)


def test_a_rehearsal_refuses_what_has_no_answer_yet(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        before = events(database)
        for by, refusal in (("uma", NotFound), ("rita", PermissionDenied)):
            with pytest.raises(refusal):
                await a.bus.rehearse(chapter("c"), Envelope(actor=by, command_id="k"))
        await a.do(series("s"), by="mara")
        await a.do(PublishSeries(series_id="s"), by="mara")
        await b.bus.rehearse(chapter("c"), Envelope(actor="uma"))
        await a.do(chapter("c"), by="uma", key="k")
        assert len(events(database)) == len(before) + 4
        await a.do(UnpublishSeries(series_id="s"), by="mara")
        await b.bus.rehearse(chapter("c"), Envelope(actor="uma", command_id="k"))
        with pytest.raises(NotFound):
            await b.bus.rehearse(chapter("d"), Envelope(actor="uma", command_id="l"))

    play(database, scenario)


def test_nobody_acts_after_their_ban(database: Database) -> None:
    random = Random(20)
    results: list[Any] = []

    async def scenario(a: Process, b: Process) -> None:
        for number in range(40):
            name = f"p{number}"
            await a.do(account(name, "uploader"))
            await b.bus.person(name, "main")
            asked: list[tuple[Process, Command, str]]
            asked = [(process, series(), name) for process in (a, b) for _ in range(5)]
            asked.insert(
                random.randrange(len(asked)), (a, BanPerson(person_id=name, reason="r"), SYSTEM)
            )
            results.extend(
                await asyncio.gather(
                    *(process.do(command, by=by) for process, command, by in asked),
                    return_exceptions=True,
                )
            )

    play(database, scenario)
    log = events(database)
    bans = {
        stream: position for position, stream, type_, _ in log if type_ == "people.PersonBanned"
    }
    assert len(bans) == 40
    assert not [e for e in log if e[0] > bans.get(f"person-{e[3]}", len(log))]
    assert {type(result) for result in results} == {Outcome, Banned}


def test_the_actors_account_is_checked_whatever_else_is_read_by_the_actor(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = structs.replace(COMMANDS[PublishSeries], reads={"actor": Series})
    monkeypatch.setitem(COMMANDS, PublishSeries, spec)

    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("mara"))
        await b.bus.person("mara", "main")
        await a.do(BanPerson(person_id="mara", reason="spam"))
        with pytest.raises(Banned):
            await b.do(PublishSeries(series_id="mara"), by="mara")

    play(database, scenario)


@pytest.mark.parametrize("series_id", ["nowhere", "", "\x00", "a b", "x" * 10_000, "\ud800"])
def test_an_id_that_names_nothing(database: Database, series_id: str) -> None:
    async def scenario(a: Process, b: Process) -> None:
        with pytest.raises(NotFound) as missing:
            await b.do(PublishSeries(series_id=series_id))
        assert missing.value.code == "series_not_found"
        assert await b.bus.state(Series, series_id, "main") is None
        assert {stream for stream, _ in b.reader.reads} <= {"series-nowhere"}

    play(database, scenario)


def test_who_may_ask(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("s"), by="uma")
        await a.do(chapter("c"), by="uma")
        with pytest.raises(PermissionDenied, match=r"catalogue\.publish"):
            await a.do(PublishSeries(series_id="s"), by="uma")
        with pytest.raises(PermissionDenied, match=r"catalogue\.create"):
            await a.do(series(), by="rita")
        with pytest.raises(PermissionDenied, match=SYSTEM):
            await a.do(RecordPages(chapter_id="c", pages=()), by="adam")
        with pytest.raises(UnknownActor):
            await a.do(PublishSeries(series_id="s"), by="nobody")
        await a.do(RecordPages(chapter_id="c", pages=()))
        assert (await b.bus.state(Chapter, "c", "main")) is not None

    play(database, scenario)


def test_tenants_do_not_see_each_other(database: Database) -> None:
    async def scenario(a: Process, b: Process) -> None:
        await a.do(series("s"))
        assert await a.bus.state(Series, "s", "other") is None
        with pytest.raises(NotFound):
            await a.bus.handle(PublishSeries(series_id="s"), Envelope(actor=SYSTEM, tenant="other"))

    play(database, scenario)


def test_what_was_used_longest_ago_is_forgotten_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(a: Process, b: Process) -> None:
        for number in (1, 2, 3):
            await a.do(series(f"s{number}"))
        monkeypatch.setattr(bus_module, "CACHED_STREAMS", 2)
        for command in (
            PublishSeries(series_id="s1"),
            PublishSeries(series_id="s2"),
            UnpublishSeries(series_id="s1"),
            PublishSeries(series_id="s3"),
            PublishSeries(series_id="s1"),
            UnpublishSeries(series_id="s2"),
        ):
            await b.do(command)
        assert b.reader.reads == [(f"series-s{number}", 0) for number in (1, 2, 3, 2)]

    play(database, scenario)

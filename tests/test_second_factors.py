"""Second factors: codes by the clock, recovery codes, and what a sign-in asks for."""

import asyncio
from base64 import b32decode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.totp import TOTP

from api.limits import BOTH
from api.secondfactors import sweep_factors
from api.totp import step_of, uri_of
from commands.kernel import SYSTEM
from commands.people.secondfactors import (
    AddSecondFactor,
    RemoveSecondFactor,
    RenewRecoveryCodes,
    UseRecoveryCode,
)
from commands.people.sessions import StartSession
from domain.people import (
    RecoveryCodesRenewed,
    RecoveryCodeUsed,
    SecondFactorAdded,
    SecondFactorRemoved,
    SessionStarted,
)
from runtime.settings import Settings
from runtime.wiring import open_pool
from tests.database import Database, Server
from tests.processes import until
from tests.scenario import AT, NEW, GivenEvents
from tests.site import PASSWORD, Site, good, refused, running_site

FACTOR = "/auth/second-factor"
ANOTHER = "another password of the tests"

ADDED = SecondFactorAdded(person_id="ana", factor_id="f1")
REMOVED = SecondFactorRemoved(person_id="ana", factor_id="f1")
USED = RecoveryCodeUsed(person_id="ana", code_id="r1")
ADD = AddSecondFactor(person_id="ana", factor_id="f1")
REMOVE = RemoveSecondFactor(person_id="ana", factor_id="f1")
USE = UseRecoveryCode(person_id="ana", code_id="r1")
RENEW = RenewRecoveryCodes(person_id="ana", renewals=0)


# rules


def test_a_second_factor_is_added(given: GivenEvents) -> None:
    given().when(ADD, by=SYSTEM).then(ADDED)


def test_a_second_factor_is_added_once(given: GivenEvents) -> None:
    given(ADDED).when(ADD, by=SYSTEM).then_nothing()


def test_there_is_one_second_factor(given: GivenEvents) -> None:
    another = AddSecondFactor(person_id="ana", factor_id="f2")
    given(ADDED).when(another, by=SYSTEM).then_rejected("second_factor_on")


def test_a_second_factor_is_removed(given: GivenEvents) -> None:
    given(ADDED).when(REMOVE, by=SYSTEM).then(REMOVED)


def test_what_was_added_since_is_not_removed(given: GivenEvents) -> None:
    since = SecondFactorAdded(person_id="ana", factor_id="f2")
    given(ADDED, REMOVED, since).when(REMOVE, by=SYSTEM).then_nothing()


def test_recovery_codes_are_renewed(given: GivenEvents) -> None:
    given(ADDED).when(RENEW, by=SYSTEM).then(RecoveryCodesRenewed(person_id="ana"))


def test_without_a_second_factor_there_are_no_recovery_codes(given: GivenEvents) -> None:
    given(ADDED, REMOVED).when(RENEW, by=SYSTEM).then_rejected("second_factor_off")


def test_a_recovery_code_is_used_once(given: GivenEvents) -> None:
    given(ADDED, USED).when(USE, by=SYSTEM).then_nothing()


@pytest.mark.parametrize("shown", ["", "f0"])
def test_no_session_starts_without_the_second_factor(given: GivenEvents, shown: str) -> None:
    start = StartSession(person_id="ana", kind="token", second_factor=shown)
    given(ADDED).when(start, by=SYSTEM).then_rejected("second_factor_required")


def test_a_session_starts_with_the_second_factor(given: GivenEvents) -> None:
    start = StartSession(person_id="ana", kind="token", second_factor="f1")
    started = SessionStarted(session_id=NEW, person_id="ana", kind="token")
    given(ADDED).when(start, by=SYSTEM).then(started)


def test_nobody_does_this_for_somebody_else(given: GivenEvents) -> None:
    given(ADDED).when(REMOVE, by="aida").then_rejected("permission_denied")


# codes by the clock

RFC_SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("seconds", "code"),
    [
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ],
)
def test_codes_are_those_of_the_standard(seconds: int, code: str) -> None:
    assert step_of(code, RFC_SECRET, datetime.fromtimestamp(seconds, UTC)) == seconds // 30


@pytest.mark.parametrize("off", range(-3, 4))
def test_a_clock_may_be_one_step_off(off: int) -> None:
    at = datetime.fromtimestamp(1_234_567_890, UTC)
    code = code_at(RFC_SECRET, at + timedelta(seconds=30 * off))
    found = step_of(code, RFC_SECRET, at)
    assert found == (1_234_567_890 // 30 + off if abs(off) <= 1 else None)


@pytest.mark.parametrize("code", ["", "12345", "1234567", "é" * 6, "١٢٣٤٥٦", "      "])
def test_what_is_no_code_is_none(code: str) -> None:
    assert step_of(code, RFC_SECRET, AT) is None


def test_an_app_takes_the_secret_from_an_address() -> None:
    address = urlsplit(uri_of(RFC_SECRET, "aida", "Our & Site: one"))
    assert (address.scheme, address.netloc) == ("otpauth", "totp")
    assert address.path == "/Our%20%26%20Site%3A%20one:aida"
    assert "+" not in address.query
    said = {name: value for name, (value,) in parse_qs(address.query).items()}
    assert b32decode(said.pop("secret")) == RFC_SECRET
    assert said == {"digits": "6", "algorithm": "SHA1", "issuer": "Our & Site: one", "period": "30"}


def code_at(secret: bytes, at: datetime) -> str:
    return TOTP(secret, 6, SHA1(), 30).generate(at.timestamp()).decode()  # noqa: S303 as apps do


# over HTTP


class Member:
    """Somebody with an address, who signs in with a second factor."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.username = f"factor-{site.newcomer('reader').username}"
        self.email = f"{self.username}@example.org"
        said = {"username": self.username, "email": self.email, "password": PASSWORD}
        good(site.anonymous.post("/auth/register", json=said))
        self.signed_in = bearer(good(self.log_in()))
        self.id: str = good(self.ask("GET", "/auth/me")).json()["id"]
        self.secret = b""
        self.recovery: list[str] = []

    def log_in(
        self, client: httpx.Client | None = None, password: str = PASSWORD, **how: Any
    ) -> httpx.Response:
        said = {"username": self.username, "password": password, **how}
        return (client or self.site.anonymous).post("/auth/login", json=said)

    def ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        client = self.site.anonymous
        return client.request(method, path, json=body or None, headers=self.signed_in)

    def begin(self) -> bytes:
        said = good(self.ask("POST", FACTOR, password=PASSWORD)).json()
        assert said["secret"] in said["uri"]
        return b32decode(said["secret"])

    def switch_on(self) -> None:
        self.secret = self.begin()
        confirmed = good(self.ask("POST", f"{FACTOR}/confirm", code=self.code()))
        self.recovery = confirmed.json()["recovery_codes"]
        self.forget_steps()

    def code(self, off: int = 0) -> str:
        return code_at(self.secret, datetime.now(UTC) + timedelta(seconds=30 * off))

    def forget_steps(self) -> None:
        """Let this step's code be taken again, instead of waiting for the next one."""
        with psycopg.connect(self.site.settings.dsn) as connection:
            connection.execute(
                "UPDATE people.second_factors SET last_step = 0 WHERE person_id = %s", (self.id,)
            )

    def state(self) -> tuple[bool, int]:
        said = good(self.ask("GET", FACTOR)).json()
        return said["enabled"], said["recovery_codes"]

    def events(self) -> list[str]:
        trail = self.site.trail(f"person-{self.id}")
        return [one["type"].removeprefix("people.") for one in trail]


def bearer(answer: httpx.Response) -> dict[str, str]:
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture
def member(site: Site) -> Member:
    """Somebody without a second factor, so far."""
    return Member(site)


@pytest.fixture
def careful(member: Member) -> Member:
    """Somebody with one."""
    member.switch_on()
    return member


def raced(times: int, ask: Callable[[], httpx.Response]) -> list[int]:
    """The statuses of requests that are sent at once."""
    with ThreadPoolExecutor(times) as threads:
        asked = [threads.submit(ask) for _ in range(times)]
    return sorted(one.result().status_code for one in asked)


def test_nothing_changes_before_the_first_code(member: Member) -> None:
    assert member.state() == (False, 0)
    member.begin()
    assert member.state() == (False, 0)
    good(member.log_in())


def test_from_the_first_code_on_the_password_alone_is_not_enough(
    site: Site, member: Member
) -> None:
    member.switch_on()
    assert member.state() == (True, 10)
    answer = member.log_in()
    refused(answer, 401, "second_factor_required")
    assert "set-cookie" not in answer.headers
    refused(member.log_in(password="a wrong one", code=member.code()), 401, "invalid_credentials")
    good(member.log_in(code=member.code()))
    assert good(member.log_in(code=member.recovery[0], session=True)).json()["csrf_token"]
    site.anonymous.cookies.clear()
    assert member.events()[-2:] == ["SecondFactorAdded", "RecoveryCodeUsed"]
    site.letter(member.email, "second_factor_added")


@pytest.mark.parametrize("wrong", ["000000", "12345", "nonsense", "a" * 40, "é", "aaaa-aaaa-aaaa"])
def test_a_wrong_code_is_refused(careful: Member, wrong: str) -> None:
    refused(careful.log_in(code=wrong), 401, "second_factor_wrong")


def test_a_code_of_another_time_is_refused(careful: Member) -> None:
    for off in (-3, 3):
        refused(careful.log_in(code=careful.code(off)), 401, "second_factor_wrong")


def test_the_first_code_has_to_be_the_apps(member: Member) -> None:
    refused(member.ask("POST", f"{FACTOR}/confirm", code="000000"), 422, "second_factor_not_begun")
    member.secret = member.begin()
    wrong = code_at(b"another secret of 20", datetime.now(UTC))
    refused(member.ask("POST", f"{FACTOR}/confirm", code=wrong), 422, "second_factor_wrong")
    assert member.state() == (False, 0)
    good(member.ask("POST", f"{FACTOR}/confirm", code=member.code()))


def test_a_secret_is_void_once_another_was_asked_for(member: Member) -> None:
    member.secret = member.begin()
    code = member.code()
    member.begin()
    refused(member.ask("POST", f"{FACTOR}/confirm", code=code), 422, "second_factor_wrong")


def test_a_code_is_taken_once_also_by_another_process(site: Site, careful: Member) -> None:
    beside, code = site.api_beside(), careful.code()
    good(careful.log_in(code=code))
    for client in (site.anonymous, beside):
        refused(careful.log_in(client, code=code), 401, "second_factor_wrong")
    refused(careful.log_in(code=careful.code(-1)), 401, "second_factor_wrong")


def test_the_code_that_switched_it_on_signs_nobody_in(member: Member) -> None:
    member.secret = member.begin()
    code = member.code()
    good(member.ask("POST", f"{FACTOR}/confirm", code=code))
    refused(member.log_in(code=code), 401, "second_factor_wrong")


def test_of_racing_sign_ins_by_one_code_one_wins(site: Site, careful: Member) -> None:
    both = (site.anonymous, site.api_beside())
    for code in (careful.code(), careful.recovery[3]):
        clients = iter(both * 3)
        statuses = raced(
            6, lambda code=code, clients=clients: careful.log_in(next(clients), code=code)
        )
        assert statuses == [200, *[401] * 5]
    assert careful.events().count("RecoveryCodeUsed") == 1


def test_of_racing_confirmations_one_wins(site: Site, member: Member) -> None:
    member.secret = member.begin()
    code = member.code()
    with ThreadPoolExecutor(2) as threads, psycopg.connect(site.settings.dsn) as connection:
        connection.execute(
            "SELECT FROM people.second_factors WHERE person_id = %s FOR UPDATE", (member.id,)
        )
        asked = [
            threads.submit(member.ask, "POST", f"{FACTOR}/confirm", code=code) for _ in range(2)
        ]
        until(lambda: waiting(site) == 2)
        connection.commit()
        assert sorted(one.result().status_code for one in asked) == [200, 422]
    assert (member.state(), member.events().count("SecondFactorAdded")) == ((True, 10), 1)


def waiting(site: Site) -> int:
    """How many requests wait for somebody who changes a second factor."""
    with psycopg.connect(site.settings.dsn) as connection:
        (found,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database() AND query LIKE '%people.second_factors%'"
        ).fetchone() or (0,)
    return found


def test_a_recovery_code_is_good_once_however_it_is_typed(careful: Member) -> None:
    first, second, *_ = careful.recovery
    assert len(set(careful.recovery)) == 10
    good(careful.log_in(code=first.replace("-", " ").upper()))
    refused(careful.log_in(code=first), 401, "second_factor_wrong")
    assert careful.state() == (True, 9)
    good(careful.log_in(code=second))
    assert careful.state() == (True, 8)


def test_nobody_uses_somebody_elses_codes(site: Site, careful: Member) -> None:
    other = Member(site)
    other.switch_on()
    for code in (other.code(), other.recovery[0]):
        refused(careful.log_in(code=code), 401, "second_factor_wrong")


def test_a_secret_in_the_place_of_another_opens_nothing(site: Site, careful: Member) -> None:
    """Who can write to the database alone can't give somebody a secret that they know."""
    other = Member(site)
    other.switch_on()
    with psycopg.connect(site.settings.dsn) as connection:
        connection.execute(
            "UPDATE people.second_factors SET secret ="
            " (SELECT secret FROM people.second_factors WHERE person_id = %s) WHERE person_id = %s",
            (other.id, careful.id),
        )
    assert careful.log_in(code=other.code()).status_code == 500


def test_renewed_recovery_codes_are_the_only_ones(careful: Member) -> None:
    old = careful.recovery
    answer = careful.ask("POST", f"{FACTOR}/recovery-codes", password="a wrong one")
    refused(answer, 422, "current_password_wrong")
    answer = good(careful.ask("POST", f"{FACTOR}/recovery-codes", password=PASSWORD))
    new: list[str] = answer.json()["recovery_codes"]
    assert len({*old, *new}) == 20
    refused(careful.log_in(code=old[0]), 401, "second_factor_wrong")
    good(careful.log_in(code=new[0]))
    assert careful.state() == (True, 9)
    assert careful.events()[-2:] == ["RecoveryCodesRenewed", "RecoveryCodeUsed"]


def test_without_a_second_factor_there_is_nothing_to_renew_or_to_remove(member: Member) -> None:
    answer = member.ask("POST", f"{FACTOR}/recovery-codes", password=PASSWORD)
    refused(answer, 422, "second_factor_off")
    answer = member.ask("DELETE", FACTOR, password=PASSWORD, code="000000")
    refused(answer, 422, "second_factor_off")


def test_it_is_switched_off_by_the_password_and_a_code(site: Site, careful: Member) -> None:
    wrong = {"password": "a wrong one", "code": careful.code()}
    refused(careful.ask("DELETE", FACTOR, **wrong), 422, "current_password_wrong")
    wrong = {"password": PASSWORD, "code": "000000"}
    refused(careful.ask("DELETE", FACTOR, **wrong), 422, "second_factor_wrong")
    assert careful.state()[0]
    good(careful.ask("DELETE", FACTOR, password=PASSWORD, code=careful.code()))
    assert careful.state() == (False, 0)
    good(careful.log_in())
    site.letter(careful.email, "second_factor_removed")
    assert careful.events()[-1] == "SecondFactorRemoved"
    careful.switch_on()
    good(careful.log_in(code=careful.code()))


def test_another_is_not_begun_before_it_is_off(careful: Member) -> None:
    refused(careful.ask("POST", FACTOR, password=PASSWORD), 422, "second_factor_on")
    answer = careful.ask("POST", f"{FACTOR}/confirm", code=careful.code())
    refused(answer, 422, "second_factor_on")


def test_it_is_begun_by_who_knows_the_password(site: Site, member: Member) -> None:
    answer = member.ask("POST", FACTOR, password="a wrong one")
    refused(answer, 422, "current_password_wrong")
    answer = site.anonymous.post(FACTOR, json={"password": PASSWORD})
    refused(answer, 401, "not_signed_in")


def test_a_forgotten_password_does_not_switch_it_off(site: Site, careful: Member) -> None:
    good(site.anonymous.post("/auth/password-reset", json={"email": careful.email}))
    said = {"token": site.letter(careful.email, "password_reset"), "password": ANOTHER}
    good(site.anonymous.post("/auth/password-reset/confirm", json=said))
    refused(careful.log_in(password=ANOTHER), 401, "second_factor_required")
    good(careful.log_in(password=ANOTHER, code=careful.code()))


def test_no_secret_of_it_is_kept_as_it_is(site: Site, careful: Member) -> None:
    good(careful.log_in(code=careful.recovery[0]))
    until(lambda: bool(site.letters(careful.email, "second_factor_added")))
    tables = [
        "log.events",
        "log.commands",
        "people.second_factors",
        "people.recovery_codes",
        "jobs.procrastinate_jobs",
        "jobs.procrastinate_events",
    ]
    with psycopg.connect(site.settings.dsn) as connection:
        rows: list[Any] = []
        for table in tables:
            rows += connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
    kept = "\n".join(row[0] for row in rows)
    code = careful.recovery[0]
    for secret in (careful.secret.hex(), code, code.replace("-", "")):
        assert secret not in kept
        assert secret.encode().hex() not in kept


def test_what_was_never_confirmed_is_forgotten(database: Database) -> None:
    async def sweep() -> None:
        async with open_pool(Settings(dsn=database.app)) as pool:
            await sweep_factors(pool)

    with psycopg.connect(database.app, autocommit=True) as connection:
        for name, made, confirmed in (("new", 0, None), ("begun", 2, None), ("on", 2, 2)):
            connection.execute(
                "INSERT INTO people.second_factors"
                " (id, person_id, tenant, secret, created_at, confirmed_at) VALUES (%s, 'ana',"
                " 'main', '', now() - make_interval(days => %s),"
                " now() - make_interval(days => %s))",
                (name, made, confirmed),
            )
        asyncio.run(sweep())
        left = connection.execute("SELECT id FROM people.second_factors ORDER BY id").fetchall()
        assert left == [("new",), ("on",)]


# waits


@pytest.fixture(scope="module")
def guarded(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site on which those who fail have to wait."""
    folder = tmp_path_factory.mktemp("guarded")
    with (
        postgres.database() as database,
        running_site(database, folder, rate_limits="reads=30000/day") as site,
    ):
        yield site


def test_wrong_codes_wait_under_whatever_name(guarded: Site) -> None:
    member = Member(guarded)
    member.switch_on()
    names = [member.username, member.email, member.email.upper()]
    for turn in range(BOTH.free + 1):
        member.username = names[turn % 3]
        refused(member.log_in(code="000000"), 401, "second_factor_wrong")
    for code in ("000000", member.code()):
        refused(member.log_in(code=code), 429, "too_many_requests")
    until(lambda: member.log_in(code=member.recovery[0]).is_success)


def test_a_password_that_was_right_is_no_failure(guarded: Site) -> None:
    member = Member(guarded)
    member.switch_on()
    for _ in range(BOTH.free + 2):
        refused(member.log_in(), 401, "second_factor_required")
    good(member.log_in(code=member.code()))


def test_who_knows_the_password_does_not_forgive_themselves_wrong_codes(guarded: Site) -> None:
    member = Member(guarded)
    member.switch_on()
    for _ in range(BOTH.free + 1):
        good(member.ask("POST", f"{FACTOR}/recovery-codes", password=PASSWORD))
        answer = member.ask("DELETE", FACTOR, password=PASSWORD, code="000000")
        refused(answer, 422, "second_factor_wrong")
    answer = member.ask("DELETE", FACTOR, password=PASSWORD, code="000000")
    refused(answer, 429, "too_many_requests")


def test_a_password_is_not_tried_out_where_somebody_is_signed_in(guarded: Site) -> None:
    member = Member(guarded)
    for _ in range(BOTH.free + 1):
        answer = member.ask("POST", FACTOR, password="a wrong one")
        refused(answer, 422, "current_password_wrong")
    refused(member.ask("POST", FACTOR, password=PASSWORD), 429, "too_many_requests")

"""Passwords: how they are hashed, by how many at once, and which are refused."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.client import HTTPConnection
from typing import Any, TypeVar

import httpx
import psycopg
import pytest
from argon2 import PasswordHasher, Type, extract_parameters

from api.commonwords import is_common
from api.passwords import AT_ONCE, NICENESS, WAITING, Passwords, PasswordsBusy
from domain.kernel import Rejected
from runtime.settings import Settings
from runtime.wiring import open_pool
from tests.database import Database
from tests.site import PASSWORD, Site, good, refused

T = TypeVar("T")

OLD = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=4)


def with_passwords(database: Database, work: Callable[[Passwords], Awaitable[T]]) -> T:
    """What is done with a database's passwords."""

    async def run() -> T:
        async with open_pool(Settings(dsn=database.app)) as pool:
            passwords = Passwords(pool)
            try:
                return await work(passwords)
            finally:
                passwords.close()

    return asyncio.run(run())


def stored(database: Database, person_id: str) -> str:
    with psycopg.connect(database.app) as connection:
        (found,) = connection.execute(
            "SELECT hash FROM people.credentials WHERE person_id = %s", (person_id,)
        ).fetchall()
    return found[0]


def store(database: Database, person_id: str, hashed: str) -> None:
    with psycopg.connect(database.app) as connection:
        connection.execute(
            "INSERT INTO people.credentials (person_id, hash) VALUES (%s, %s)", (person_id, hashed)
        )


def test_a_password_is_kept_as_owasp_recommends(database: Database) -> None:
    with_passwords(database, lambda passwords: passwords.keep("ana", PASSWORD))
    used = extract_parameters(stored(database, "ana"))
    assert (used.type, used.memory_cost, used.time_cost, used.parallelism) == (
        Type.ID,
        19 * 1024,
        2,
        1,
    )
    assert len(stored(database, "ana")) > 80


@pytest.mark.parametrize("password", [PASSWORD, "another one"])
def test_a_hash_of_other_days_is_made_anew_by_the_right_password_alone(
    database: Database, password: str
) -> None:
    store(database, "ana", OLD.hash(PASSWORD))
    before = stored(database, "ana")
    right = with_passwords(database, lambda passwords: passwords.matches("ana", password))
    assert bool(right) == (password == PASSWORD)
    assert (extract_parameters(stored(database, "ana")).memory_cost == 19 * 1024) == bool(right)
    assert (stored(database, "ana") == before) == (not right)
    again = with_passwords(database, lambda passwords: passwords.matches("ana", PASSWORD))
    assert again == (right or again)
    assert again


def test_a_password_that_changes_meanwhile_is_not_put_back(database: Database) -> None:
    store(database, "ana", OLD.hash(PASSWORD))

    async def change(passwords: Passwords) -> datetime | None:
        checking = asyncio.create_task(passwords.matches("ana", PASSWORD))
        await asyncio.gather(checking, passwords.keep("ana", "quite another phrase"))
        return await passwords.matches("ana", "quite another phrase")

    assert with_passwords(database, change)


def test_a_hash_that_is_none_matches_nothing(database: Database) -> None:
    store(database, "ana", "nonsense")
    for person in ("ana", "nobody", None):
        assert not with_passwords(
            database,
            lambda passwords, person=person: passwords.matches(person, PASSWORD),
        )


def test_beyond_its_queue_nothing_is_taken_and_after_it_all_is_as_before(
    database: Database,
) -> None:
    async def flood(passwords: Passwords) -> tuple[list[Any], datetime | None]:
        await passwords.keep("ana", PASSWORD)
        attempts = [passwords.matches(None, PASSWORD) for _ in range(AT_ONCE + WAITING + 7)]
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        return answers, await passwords.matches("ana", PASSWORD)

    answers, after = with_passwords(database, flood)
    assert [isinstance(one, PasswordsBusy) for one in answers].count(True) == 7
    assert answers.count(None) == AT_ONCE + WAITING
    assert after


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="threads have a priority on Linux alone")
def test_hashing_stands_back_for_what_reads(database: Database) -> None:
    async def priorities(passwords: Passwords) -> tuple[int, int]:
        await passwords.matches(None, PASSWORD)
        threads: ThreadPoolExecutor = vars(passwords)["_threads"]
        niceness = threads.submit(os.getpriority, os.PRIO_PROCESS, 0).result()
        return niceness, os.getpriority(os.PRIO_PROCESS, 0)

    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert with_passwords(database, priorities) == (max(before, NICENESS), before)


def test_a_flood_of_sign_ins_is_told_to_come_back_and_reads_go_on(site: Site) -> None:
    server = httpx.URL(site.url)
    flood = [HTTPConnection(server.host, server.port, timeout=60) for _ in range(4 * WAITING)]
    for number, one in enumerate(flood):  # all are sent before the first answer is read
        body = json.dumps({"username": f"nobody-{number}", "password": PASSWORD})
        one.request("POST", "/api/v1/auth/login", body, {"Content-Type": "application/json"})
    good(site.anonymous.get("/series"))
    answers = [one.getresponse() for one in flood]
    busy = [answer for answer in answers if answer.status == 503]
    assert busy
    for answer in busy:
        assert json.loads(answer.read())["error"]["code"] == "sign_in_busy"
        assert int(answer.headers["Retry-After"]) > 0
    assert {answer.status for answer in answers} == {401, 503}
    for one in flood:
        one.close()


@pytest.mark.parametrize(
    "password",
    [
        "password123",
        "Password2024!",
        "P@ssw0rd2024",
        "passwordpassword",
        "iloveyou1234",
        "qwertyuiop",
        "QWERTYUIOP",
        "1234567890",
        "0987654321",
        "abcdefghij",
        "1qaz2wsx3edc",
        "asdfghjkl;'",
        "йцукенгшщз",
        "aaaaaaaaaaaa",
        "abababababab",
        "x7f!x7f!x7f!",
        "welcome welcome",
        "letmein-letmein-99",
        "changeme12345",
        "administrator1",
        "dragonmonkey99",
        "19900101199",
        "password" * 25,
    ],
)
def test_what_everybody_tries_first_is_common(password: str) -> None:
    assert is_common(password)


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "a long password",
        "another password",
        "correct horse battery staple",
        "kM4-vQ9x_Zt1",
        "мөңгүлүү жайлоодо",
        "كلمة طويلة لا يعرفها أحد",
        "password of my grandmother's goat",
        "loveyou" * 28 + "zzqk",
    ],
)
def test_what_not_everybody_tries_is_not_common(password: str) -> None:
    assert not is_common(password)


@pytest.mark.parametrize("password", ["aidana's lamp", "AIDANA-secret-77", "xxaidanaxx99"])
def test_a_password_with_ones_own_name_in_it_is_common(password: str) -> None:
    assert is_common(password, ["aidana"])
    assert not is_common("a lamp in the hall", ["al"])


def test_a_common_password_is_refused_with_a_code_of_its_own(site: Site) -> None:
    body = {"username": "easily-guessed", "password": "Password2024!", "roles": ["reader"]}
    answer = site.client("administrator").post("/people", json=body)
    refused(answer, 422, "password_common")
    good(site.client("administrator").post("/people", json=body | {"password": PASSWORD}))


def test_nothing_is_kept_of_a_password_that_is_refused(database: Database) -> None:
    with pytest.raises(Rejected, match="password_common"):
        with_passwords(
            database, lambda passwords: passwords.keep("ana", "aidana's own lamp", "aidana")
        )
    with psycopg.connect(database.app) as connection:
        assert connection.execute("SELECT FROM people.credentials").fetchall() == []


def test_nobody_is_given_a_password_made_of_their_own_name(site: Site) -> None:
    account = {"username": "cholponata", "password": "cholponata-1", "roles": ["reader"]}
    answer = site.client("administrator").post("/people", json=account)
    refused(answer, 422, "password_common")

"""Personal API tokens: what programs may do in a person's name, and until when."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import httpx
import psycopg
import pytest

from api.apitokens import REST_SECONDS, is_well_formed, sweep_api_tokens
from commands.access import LONGEST, CreateToken, RevokeToken
from commands.catalogue import CreateSeries, PublishSeries
from commands.kernel import COMMANDS, SYSTEM, PermissionDenied, authorize
from domain.access import TokenCreated, TokenRevoked
from domain.people import Person as Account
from domain.tenancy import Tenant
from runtime.settings import Settings
from runtime.wiring import open_pool
from tests.database import Database
from tests.histories import banned
from tests.processes import until
from tests.scenario import AT, GivenEvents
from tests.site import PASSWORD, Person, Site, archive, good, new_series, refused

TOKENS = "/auth/tokens"
MODERATOR: tuple[str, ...] = ("moderator",)
UPLOADER: tuple[str, ...] = ("uploader",)

SOON = AT + timedelta(days=30)
CREATE = CreateToken(
    api_token_id="t1", person_id="ana", name="CI", scopes=("catalogue.upload",), expires_at=SOON
)
CREATED = TokenCreated(
    api_token_id="t1", person_id="ana", name="CI", scopes=("catalogue.upload",), expires_at=SOON
)
REVOKE = RevokeToken(api_token_id="t1", person_id="ana")
REVOKED = TokenRevoked(api_token_id="t1", person_id="ana")


# rules


def test_a_token_is_made(given: GivenEvents) -> None:
    given().when(CREATE, by=SYSTEM).then(CREATED)


def test_a_token_is_made_once(given: GivenEvents) -> None:
    given(CREATED).when(CREATE, by=SYSTEM).then_nothing()


def test_a_token_does_no_more_than_its_person(given: GivenEvents) -> None:
    more = CreateToken(
        api_token_id="t1",
        person_id="ana",
        name="CI",
        scopes=("catalogue.upload", "people.ban"),
        expires_at=SOON,
    )
    given().when(more, by=SYSTEM).then_rejected("scope_not_held")


@pytest.mark.parametrize(
    ("expires_at", "code"),
    [(AT, "expiry_in_the_past"), (AT + LONGEST + timedelta(seconds=1), "expiry_too_far")],
)
def test_a_token_ends(given: GivenEvents, expires_at: datetime, code: str) -> None:
    command = CreateToken(
        api_token_id="t1", person_id="ana", name="CI", scopes=(), expires_at=expires_at
    )
    given().when(command, by=SYSTEM).then_rejected(code)


def test_who_is_banned_makes_no_token(given: GivenEvents) -> None:
    given(banned("ana")).when(CREATE, by=SYSTEM).then_rejected("banned")


def test_a_token_is_revoked(given: GivenEvents) -> None:
    given(CREATED).when(REVOKE, by=SYSTEM).then(REVOKED)


def test_a_token_is_revoked_once(given: GivenEvents) -> None:
    given(CREATED, REVOKED).when(REVOKE, by=SYSTEM).then_nothing()


def test_what_was_revoked_before_is_not_made(given: GivenEvents) -> None:
    given(REVOKED).when(CREATE, by=SYSTEM).then_rejected("not_signed_in")


def test_nobody_makes_tokens_for_somebody_else(given: GivenEvents) -> None:
    given().when(CREATE, by="aida").then_rejected("permission_denied")


# over HTTP


def make(client: httpx.Client, *scopes: str, **fields: Any) -> httpx.Response:
    expires_at = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    said = {"name": "CI", "scopes": list(scopes), "expires_at": expires_at}
    return client.post(TOKENS, json=said | fields)


def made(person: Person, *scopes: str) -> tuple[str, dict[str, str]]:
    """A token's id, and the header that it is sent in."""
    answer = good(make(person.client, *scopes)).json()
    return answer["id"], {"Authorization": f"Bearer {answer['token']}"}


def listed(person: Person) -> list[dict[str, Any]]:
    return good(person.client.get(TOKENS)).json()["results"]


def is_good(client: httpx.Client, header: dict[str, str]) -> bool:
    """Whether a token is taken; anything but yes and no is an error."""
    answer = client.get("/auth/me", headers=header)
    assert answer.status_code in (200, 401), answer.text
    return answer.is_success


def test_a_token_is_shown_once_and_known_by_its_looks(site: Site) -> None:
    person = site.newcomer("uploader")
    answer = good(make(person.client, "catalogue.upload", name="Айгүл's CI"))
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert re.fullmatch("imp_[0-9a-f]{56}", token)
    assert is_well_formed(token)
    assert not is_well_formed(token[:-1] + ("0" if token[-1] != "0" else "1"))
    (one,) = listed(person)
    assert one.keys() == {"id", "name", "scopes", "created_at", "last_used_at", "expires_at"}
    assert (one["id"], one["name"], one["scopes"]) == (
        answer.json()["id"],
        "Айгүл's CI",
        ["catalogue.upload"],
    )
    assert one["last_used_at"] is None
    header = {"Authorization": f"bearer  {token}"}
    me = good(site.anonymous.get("/auth/me", headers=header)).json()
    assert (me["username"], me["permissions"]) == (person.username, ["catalogue.upload"])
    assert listed(person)[0]["last_used_at"] is not None


def test_a_token_does_what_its_scopes_say_and_nothing_else(site: Site) -> None:
    person, client = site.newcomer("moderator"), site.anonymous
    series, pending = site.series(), site.pending(site.series())
    _, uploading = made(person, "catalogue.upload")
    _, approving = made(person, "catalogue.approve")
    form: dict[str, Any] = {"data": {"number": "1"}, "files": {"archive": archive()}}
    path = f"/series/{series}/chapters"
    good(client.post(path, **form, headers=uploading))
    refused(client.post(path, **form, headers=approving), 403, "permission_denied")
    for path in (f"/chapters/{pending}/approval", f"/chapters/{pending}/rejection"):
        answer = client.post(
            path, json={"reason": "?"} if "rej" in path else None, headers=uploading
        )
        refused(answer, 403, "permission_denied")
    refused(client.get("/moderation/queue", headers=uploading), 403, "permission_denied")
    refused(client.post("/series", json=new_series(), headers=uploading), 403, "permission_denied")
    good(client.post(f"/chapters/{pending}/approval", headers=approving))
    trail = site.trail(f"chapter-{pending}")
    assert trail[-1]["actor"] == person.id
    assert trail[-1]["causation_id"].startswith("token:")


def test_without_a_scope_a_token_reads_what_its_person_reads_without_permission(
    site: Site,
) -> None:
    person = site.newcomer("administrator")
    _, header = made(person)
    for path in ("/auth/me", "/series", "/me/uploads"):
        good(site.anonymous.get(path, headers=header))
    for path in ("/moderation/queue", "/audit/events"):
        refused(site.anonymous.get(path, headers=header), 403, "permission_denied")
    said = {"username": "nobody-else", "password": PASSWORD, "roles": ["reader"]}
    answer = site.anonymous.post("/people", json=said, headers=header)
    refused(answer, 403, "permission_denied")


def test_what_is_kept_of_an_answer_is_not_given_for_a_lesser_token(site: Site) -> None:
    person = site.newcomer("uploader")
    _, creating = made(person, "catalogue.create")
    _, nothing = made(person)
    said, key = new_series(), {"Idempotency-Key": person.id}
    good(site.anonymous.post("/series", json=said, headers=creating | key))
    answer = site.anonymous.post("/series", json=said, headers=nothing | key)
    refused(answer, 403, "permission_denied")


def test_no_token_changes_ones_account(site: Site) -> None:
    """Every route below `/auth/` but one, and every command that asks for no permission."""
    person = site.newcomer("administrator")
    _, header = made(person, "people.create")
    document = good(site.anonymous.get("/schema/openapi.json")).json()
    asked = 0
    for address, item in document["paths"].items():
        path = address.removeprefix("/api/v1").replace("{", "").replace("}", "")
        for method in item.keys() & {"get", "post", "put", "patch", "delete"}:
            own = path.startswith("/auth/") or (method, path) == ("patch", "/me")
            if not own or "security" not in item[method] or path == "/auth/me":
                continue
            asked += 1
            answer = site.anonymous.request(method, path, headers=header)
            refused(answer, 403, "token_not_enough")
    assert asked > 12
    assert len(listed(person)) == 1


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"scopes": ["people.ban"]}, 422, "scope_not_held"),
        ({"scopes": ["no.such"]}, 422, "scope_not_held"),
        ({"scopes": ["*"]}, 400, "validation_failed"),
        ({"name": ""}, 400, "validation_failed"),
        ({"expires_at": None}, 400, "validation_failed"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 422, "expiry_in_the_past"),
        ({"expires_at": "9999-01-01T00:00:00Z"}, 422, "expiry_too_far"),
        ({"person_id": "somebody"}, 400, "validation_failed"),
    ],
)
def test_what_is_no_token_to_be_had_is_refused(
    site: Site, wrong: dict[str, Any], status: int, code: str
) -> None:
    person = site.newcomer("uploader")
    refused(make(person.client, **wrong), status, code)
    assert listed(person) == []


def test_nobody_has_too_many_tokens(site: Site) -> None:
    person = site.newcomer("reader")
    for _ in range(50):
        good(make(person.client))
    refused(make(person.client), 422, "too_many_tokens")
    good(person.client.delete(f"{TOKENS}/{listed(person)[0]['id']}"))
    good(make(person.client))


@pytest.mark.parametrize(
    "token", ["imp_", "imp_nonsense", "imp_" + "0" * 56, "imp_" + "é" * 56, "IMP_" + "0" * 56]
)
def test_what_is_no_token_is_nobody(site: Site, token: str) -> None:
    answer = site.anonymous.get("/series", headers={b"Authorization": b"Bearer " + token.encode()})
    refused(answer, 401, "not_signed_in")


def test_a_token_of_right_form_that_nobody_was_given_is_nobody(site: Site) -> None:
    secret = "0" * 48
    unknown = f"imp_{secret}{crc32(secret.encode()):08x}"
    assert is_well_formed(unknown)
    answer = site.anonymous.get("/series", headers={"Authorization": f"Bearer {unknown}"})
    refused(answer, 401, "not_signed_in")


def test_a_token_is_neither_a_cookie_nor_a_refresh_token(site: Site) -> None:
    _, header = made(site.newcomer("reader"))
    token = header["Authorization"].removeprefix("Bearer ")
    answer = site.anonymous.get("/auth/me", headers={"Cookie": f"session={token}"})
    refused(answer, 401, "not_signed_in")
    answer = site.anonymous.post("/auth/refresh", json={"refresh_token": token})
    refused(answer, 401, "not_signed_in")


def test_a_permission_that_is_taken_away_is_taken_from_the_token() -> None:
    scopes = frozenset({"catalogue.create", "catalogue.publish"})
    before, after = (Account(username="ana", roles=one) for one in (MODERATOR, UPLOADER))
    assert authorize(COMMANDS[PublishSeries], before, Tenant(), AT, scopes) == scopes
    assert authorize(COMMANDS[CreateSeries], after, Tenant(), AT, scopes) == {"catalogue.create"}
    with pytest.raises(PermissionDenied):
        authorize(COMMANDS[PublishSeries], after, Tenant(), AT, scopes)


def test_a_ban_binds_whoever_acts_by_a_token(site: Site) -> None:
    person = site.newcomer("uploader")
    _, header = made(person, "catalogue.create")
    beside = site.api_beside()
    for client in (site.anonymous, beside):
        good(client.post("/series", json=new_series(), headers=header))
    site.ask("moderator", "POST", f"/people/{person.id}/ban", reason="Spam.")
    for client in (site.anonymous, beside):
        refused(client.post("/series", json=new_series(), headers=header), 403, "banned")
        refused(client.get("/series", headers=header), 403, "banned")
    site.ask("moderator", "POST", f"/people/{person.id}/unban")
    good(beside.post("/series", json=new_series(), headers=header))


def test_a_revoked_token_is_good_for_nothing_at_once(site: Site) -> None:
    person, other, beside = site.newcomer("reader"), site.newcomer("reader"), site.api_beside()
    token, header = made(person)
    _, kept = made(person)
    assert is_good(site.anonymous, header)
    assert is_good(beside, header)
    refused(other.client.delete(f"{TOKENS}/{token}"), 404, "api_token_not_found")
    assert is_good(site.anonymous, header)
    assert good(person.client.delete(f"{TOKENS}/{token}")).status_code == 204
    assert not is_good(site.anonymous, header)
    until(lambda: not is_good(beside, header))
    refused(person.client.delete(f"{TOKENS}/{token}"), 404, "api_token_not_found")
    assert is_good(beside, kept)
    assert [one["type"] for one in site.trail(f"api_token-{token}")] == [
        "access.TokenCreated",
        "access.TokenRevoked",
    ]


def test_other_processes_are_told_at_once(site: Site) -> None:
    """They would find it out a second later by themselves, which this does not wait for."""
    person = site.newcomer("reader")
    token, _ = made(person)
    with psycopg.connect(site.settings.dsn, autocommit=True) as connection:
        connection.execute("LISTEN imprimatur_sessions")
        good(person.client.delete(f"{TOKENS}/{token}"))
        told = [one.payload for one in connection.notifies(timeout=10, stop_after=1)]
    assert told == [token]


def test_it_is_known_even_where_no_notification_came(site: Site) -> None:
    token, header = made(site.newcomer("reader"))
    assert is_good(site.anonymous, header)
    with psycopg.connect(site.settings.dsn) as connection:
        connection.execute(
            "UPDATE people.api_tokens SET revoked_at = clock_timestamp() WHERE id = %s", (token,)
        )
    until(lambda: not is_good(site.anonymous, header), REST_SECONDS / 2)


def test_a_token_ends_by_itself(site: Site) -> None:
    person = site.newcomer("reader")
    soon = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    token = good(make(person.client, expires_at=soon)).json()["token"]
    header = {"Authorization": f"Bearer {token}"}
    assert is_good(site.anonymous, header)
    until(lambda: not is_good(site.anonymous, header), REST_SECONDS / 2)  # though it is remembered
    assert listed(person) == []


def test_who_signs_out_everywhere_revokes_the_tokens_too(site: Site) -> None:
    person, beside = site.newcomer("reader"), site.api_beside()
    _, header = made(person)
    assert is_good(beside, header)
    good(person.client.post("/auth/logout-all"))
    assert not is_good(site.anonymous, header)
    until(lambda: not is_good(beside, header))


def test_who_signs_out_keeps_the_tokens(site: Site) -> None:
    person = site.newcomer("reader")
    _, header = made(person)
    good(person.client.post("/auth/logout"))
    assert is_good(site.anonymous, header)


def test_a_changed_password_revokes_the_tokens(site: Site) -> None:
    person = site.newcomer("reader")
    token, header = made(person)
    said = {"current_password": PASSWORD, "password": "another password of the tests"}
    good(person.client.post("/auth/password", json=said))
    assert not is_good(site.anonymous, header)
    assert site.trail(f"api_token-{token}")[-1]["type"] == "access.TokenRevoked"


def test_no_token_outlives_a_sign_out_that_races_it(site: Site) -> None:
    """Of what an ending session still makes, nothing is good afterwards."""
    for _ in range(5):
        person = site.newcomer("reader")
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(make, person.client) for _ in range(5)]
            ended = threads.submit(person.client.post, "/auth/logout-all")
        good(ended.result())
        for answer in (one.result() for one in asked):
            assert answer.status_code in (201, 401), answer.text
            if answer.is_success:
                header = {"Authorization": f"Bearer {answer.json()['token']}"}
                assert not is_good(site.anonymous, header)


def test_a_session_that_is_being_ended_makes_no_token(site: Site) -> None:
    person = site.newcomer("reader")
    with ThreadPoolExecutor(1) as threads, psycopg.connect(site.settings.dsn) as connection:
        connection.execute(
            "UPDATE people.sessions SET revoked_at = clock_timestamp() WHERE person_id = %s",
            (person.id,),
        )
        asked = threads.submit(make, person.client)
        until(lambda: is_waited_for(site))
        connection.commit()
        refused(asked.result(), 401, "not_signed_in")


def is_waited_for(site: Site) -> bool:
    """Whether a request waits for somebody who changes the same row."""
    with psycopg.connect(site.settings.dsn) as connection:
        found = connection.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND query LIKE 'INSERT INTO people.api_tokens%'"
        )
        return found.fetchone() is not None


def test_what_ended_long_ago_is_forgotten(database: Database) -> None:
    rows = [("new", "1 day", None), ("over", "-2 days", None), ("revoked", "1 day", "-31 days")]

    async def sweep() -> None:
        async with open_pool(Settings(dsn=database.app)) as pool:
            await sweep_api_tokens(pool)

    with psycopg.connect(database.app, autocommit=True) as connection:
        for name, expires, revoked in rows:
            connection.execute(
                "INSERT INTO people.api_tokens"
                " (id, digest, person_id, tenant, scopes, expires_at, revoked_at) VALUES (%s, %s,"
                " 'ana', 'main', '{}', now() + %s::interval, now() + %s::interval)",
                (name, name.encode(), expires, revoked),
            )
        asyncio.run(sweep())
        assert connection.execute("SELECT id FROM people.api_tokens").fetchall() == [("new",)]


def test_no_token_is_kept_as_it_is(site: Site) -> None:
    person = site.newcomer("uploader")
    answer = good(make(person.client, name="Айгүл's laptop")).json()
    good(person.client.delete(f"{TOKENS}/{answer['id']}"))
    with psycopg.connect(site.settings.dsn) as connection:
        rows: list[Any] = []
        for table in ("log.events", "log.commands", "people.api_tokens"):
            rows += connection.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
    kept = "\n".join(row[0] for row in rows)
    token: str = answer["token"]
    for secret in (token, token[4:], token[4:-8], "Айгүл"):
        assert secret not in kept
        assert secret.encode().hex() not in kept

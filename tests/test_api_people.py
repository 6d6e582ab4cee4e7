"""Accounts from outside: signing in, tokens, and bans that hold from their position on."""

import hmac
import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import httpx
import jwt
import pytest

from api.tokens import Tokens
from domain.tenancy import ROLES
from ingest import samples
from tests.processes import until
from tests.site import PASSWORD, SECRET, Person, Site, access_token, good, new_series, refused

ACCESS_KEY = hmac.new(SECRET.encode(), b"access", "sha256").hexdigest()
KEY_ID = hmac.new(SECRET.encode(), b"kid", "sha256").hexdigest()[:12]


def log_in(site: Site, username: str, password: str = PASSWORD) -> httpx.Response:
    return site.anonymous.post("/auth/login", json={"username": username, "password": password})


def test_a_person_signs_in_and_reads_their_own_account(site: Site) -> None:
    person = site.newcomer("moderator")
    answer = good(log_in(site, person.username)).json()
    assert answer.keys() == {"access_token", "refresh_token", "token_type", "expires_in"}
    assert answer["token_type"] == "Bearer"
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == answer["expires_in"]
    for scheme in ("Bearer", "bearer", "BEARER"):
        header = {"Authorization": f"{scheme} {answer['access_token']}"}
        me = good(site.anonymous.get("/auth/me", headers=header)).json()
        assert me == {
            "id": person.id,
            "username": person.username,
            "roles": ["moderator"],
            "permissions": sorted(ROLES["moderator"]),
            "email": "",
            "email_confirmed": False,
            "name": "",
            "language": "en",
            "time_zone": "UTC",
            "avatar": None,
        }


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("reader", "a wrong password"),
        ("reader", ""),
        ("reader", PASSWORD.upper()),
        ("reader", PASSWORD + " "),
        ("Reader", PASSWORD),
        ("nobody-at-all", PASSWORD),
        ("", PASSWORD),
        ("a b", PASSWORD),
        ("../reader", PASSWORD),
    ],
)
def test_a_wrong_name_and_a_wrong_password_are_refused_alike(
    site: Site, username: str, password: str
) -> None:
    answer = log_in(site, username, password)
    refused(answer, 401, "invalid_credentials")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def signed(key: str = ACCESS_KEY, algorithm: str = "HS256", **claims: Any) -> str:
    """A token with these claims, and the site's own signature unless said otherwise."""
    return jwt.encode(claims, key, algorithm, headers={"kid": KEY_ID})


def test_a_token_that_is_not_the_sites_own_and_in_time_is_none(site: Site) -> None:
    person, now = site["administrator"].id, datetime.now(UTC)
    right = site.client("administrator").headers["Authorization"].partition(" ")[2]
    claims: dict[str, Any] = jwt.decode(right, options={"verify_signature": False})
    header, body, signature = right.split(".")
    none = signed("", "none", **claims)

    def altered(**some: Any) -> str:
        return signed(**claims | some)

    def without(claim: str) -> str:
        return signed(**{name: value for name, value in claims.items() if name != claim})

    wrong = {
        "expired": altered(exp=claims["iat"] - 1),
        "another site's": access_token(person, now, "x" * 40),
        "for another audience": altered(aud="another"),
        "for another audience too": altered(aud=["another", claims["aud"]]),
        "for no audience": without("aud"),
        "without end": without("exp"),
        "of nobody": without("sub"),
        "of no session": without("sid"),
        "for no tenant": without("tenant"),
        "of two sessions": altered(sid=["a", "b"]),
        "under no key": jwt.encode(claims, ACCESS_KEY, "HS256"),
        "under another key": jwt.encode(claims, ACCESS_KEY, "HS256", headers={"kid": "another"}),
        "signed with another key": signed("x" * 64, **claims),
        "unsigned": none,
        "unsigned, with a signature": f"{none}{signature}",
        "changed": f"{header}.{body[:-2]}AA.{signature}",
        "another algorithm": signed(algorithm="HS512", **claims),
        "signed with the secret itself": signed(SECRET, **claims),
        "a preview signature": Tokens(SECRET).preview(person, now),
        "nonsense": "a.b.c",
        "endless": "a" * 8_000,
    }
    good(site.anonymous.get("/auth/me", headers={"Authorization": f"Bearer {signed(**claims)}"}))
    for name, token in wrong.items():
        for path in ("/auth/me", "/series"):
            header_line = {"Authorization": f"Bearer {token}"}
            answer = site.anonymous.get(path, headers=header_line)
            assert answer.status_code == 401, name
            refused(answer, 401, "not_signed_in")


def test_a_token_that_was_good_is_not_when_it_has_expired(site: Site) -> None:
    token = access_token(site["reader"].id, datetime.now(UTC) - timedelta(seconds=597))
    client = {"Authorization": f"Bearer {token}"}
    good(site.anonymous.get("/auth/me", headers=client))
    until(lambda: site.anonymous.get("/auth/me", headers=client).status_code == 401)


@pytest.mark.parametrize("header", ["", "Basic YWlkYTphaWRh", "Bearer", "Token x", "null"])
def test_another_way_of_signing_in_is_refused_also_where_none_is_needed(
    site: Site, header: str
) -> None:
    for path in ("/auth/me", "/series", "/me/uploads"):
        answer = site.anonymous.get(path, headers={"Authorization": header})
        refused(answer, 401, "not_signed_in")


def test_a_token_of_an_account_that_is_not_there_is_refused(site: Site) -> None:
    token = access_token("nobody", datetime.now(UTC))
    answer = site.anonymous.get("/auth/me", headers={"Authorization": f"Bearer {token}"})
    refused(answer, 401, "unknown_account")


def test_only_an_administrator_makes_accounts(site: Site) -> None:
    body = {"username": "made-by-nobody", "password": PASSWORD, "roles": ["reader"]}
    refused(site.anonymous.post("/people", json=body), 401, "not_signed_in")
    for by in ("reader", "uploader", "moderator", "auditor"):
        refused(site.client(by).post("/people", json=body), 403, "permission_denied")
    refused(log_in(site, "made-by-nobody"), 401, "invalid_credentials")


@pytest.mark.parametrize(
    "wrong",
    [
        {"username": "Capital"},
        {"username": "a b"},
        {"username": ""},
        {"username": "x" * 33},
        {"username": "трудно"},
        {"password": "short"},
        {"password": "x" * 201},
        {"password": None},
        {"roles": []},
        {"roles": ["reader"] * 11},
        {"roles": "reader"},
        {"admin": True},
    ],
)
def test_an_account_that_cannot_be_is_refused(site: Site, wrong: dict[str, Any]) -> None:
    body = {"username": "somebody-new", "password": PASSWORD, "roles": ["reader"]} | wrong
    answer = site.client("administrator").post("/people", json=body)
    refused(answer, 400, "validation_failed")


def test_a_user_name_is_taken_once_and_its_password_stays(site: Site) -> None:
    person = site.newcomer("reader")
    body = {"username": person.username, "password": "another password", "roles": ["reader"]}
    refused(site.client("administrator").post("/people", json=body), 422, "username_taken")
    good(log_in(site, person.username))
    refused(log_in(site, person.username, "another password"), 401, "invalid_credentials")


def test_no_password_enters_the_log(site: Site) -> None:
    site.newcomer("reader")
    for event in site.events():
        assert PASSWORD not in str(event)
        assert "argon2" not in str(event)


def ban(site: Site, person: Person, by: str = "moderator", **body: Any) -> httpx.Response:
    return site.client(by).post(f"/people/{person.id}/ban", json={"reason": "Spam."} | body)


def test_a_banned_person_is_refused_everything_until_the_ban_is_lifted(site: Site) -> None:
    person = site.newcomer("uploader")
    series = site.series(person.username)
    good(ban(site, person))

    def attempts() -> list[httpx.Response]:
        return [
            log_in(site, person.username),
            person.client.post("/series", json=new_series()),
            person.client.patch(f"/series/{series}", json={"title": "Banned"}),
            person.client.post(f"/series/{series}/chapters", files={"archive": b"PK"}),
            person.client.get("/auth/me"),
            person.client.get("/me/uploads"),
            person.client.get("/series"),
        ]

    signing_in, *others = attempts()
    assert refused(signing_in, 403, "banned")["details"].pop("appeal_token")
    for answer in others:
        assert refused(answer, 403, "banned")["details"] == {"reason": "Spam.", "until": None}
    site.ask("moderator", "POST", f"/people/{person.id}/unban", reason="A mistake.")
    assert [answer.status_code for answer in attempts()] == [200, 201, 200, 400, 200, 200, 200]


def test_a_ban_ends_at_its_moment(site: Site) -> None:
    person = site.newcomer("uploader")
    until_then = datetime.now(UTC) + timedelta(seconds=3)
    good(ban(site, person, until=until_then.isoformat()))
    details = refused(log_in(site, person.username), 403, "banned")["details"]
    assert datetime.fromisoformat(details["until"]) == until_then
    until(lambda: log_in(site, person.username).is_success)
    assert datetime.now(UTC) >= until_then
    good(person.client.post("/series", json=new_series()))


def test_no_command_that_races_a_ban_is_recorded_after_it(site: Site) -> None:
    person = site.newcomer("uploader")
    series = site.series(person.username)
    begun = Event()

    def hammer(worker: int) -> list[int]:
        with httpx.Client(base_url=site.anonymous.base_url, timeout=60) as client:
            client.headers["Authorization"] = person.client.headers["Authorization"]
            statuses: list[int] = []
            for number in itertools.count():
                body = {"description": f"{worker} {number}"}
                statuses.append(client.patch(f"/series/{series}", json=body).status_code)
                begun.set()
                if statuses[-1] != 200:
                    return statuses
        return []

    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(hammer, worker) for worker in range(4)]
        begun.wait()
        until(lambda: len(site.events(actor=person.id)) > 20)
        banned_at = good(ban(site, person)).json()["position"]
        statuses = [one.result() for one in working]
    assert {one[-1] for one in statuses} == {403}
    written = [event["position"] for event in site.events(actor=person.id)]
    assert max(written) < banned_at
    assert len(written) == sum(len(one) - 1 for one in statuses) + 2  # created, and its slug taken


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": ""},
        {"reason": " "},
        {"reason": "x" * 1_001},
        {"reason": "Spam.", "until": "tomorrow"},
        {"reason": "Spam.", "until": "2999-01-01T00:00:00"},
        {"reason": "Spam.", "until": 10**30},
        {"reason": "Spam.", "for": "ever"},
    ],
)
def test_a_ban_needs_a_reason_and_a_moment_that_is_one(site: Site, body: dict[str, Any]) -> None:
    answer = site.client("moderator").post(f"/people/{site['reader'].id}/ban", json=body)
    refused(answer, 400, "validation_failed")
    good(log_in(site, "reader"))


def test_bans_have_limits(site: Site) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    refused(ban(site, site["moderator"]), 422, "own_ban")
    refused(ban(site, site["administrator"]), 422, "administrator_protected")
    refused(ban(site, site["reader"], until=yesterday), 422, "until_in_the_past")
    refused(ban(site, site["other"], by="uploader"), 403, "permission_denied")
    refused(ban(site, Person("nobody", "nobody", site.anonymous)), 404, "person_not_found")
    answer = site.client("moderator").post(f"/people/{site['moderator'].id}/unban", json={})
    refused(answer, 422, "own_ban")


def test_a_hostile_archive_bans_its_uploader_and_a_malformed_one_does_not(site: Site) -> None:
    person = site.newcomer("uploader")
    series = site.series()
    address = f"/series/{series}/chapters"

    def hand_in(content: bytes) -> str:
        files = {"archive": ("chapter.zip", content)}
        answer = person.client.post(address, data={"number": "1"}, files=files)
        chapter = good(answer).json()["id"]
        site.await_report(chapter)
        return chapter

    hand_in(b"PK\3\4 and nothing that follows from it")
    good(log_in(site, person.username))
    chapter = hand_in(samples.overlapping())
    until(lambda: log_in(site, person.username).status_code == 403)
    reason = refused(log_in(site, person.username), 403, "banned")["details"]["reason"]
    assert chapter in reason
    *_, banned = site.trail(f"person-{person.id}")
    assert (banned["actor"], banned["type"]) == ("system", "people.PersonBanned")


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_what_it_may_and_nothing_else(site: Site, role: str) -> None:
    person = site.newcomer(role)
    series = site.series(published=False)
    asked = {
        "catalogue.create": person.client.post("/series", json=new_series()),
        "catalogue.upload": person.client.post(f"/series/{series}/chapters"),
        "catalogue.publish": person.client.post(f"/series/{series}/publication"),
        "catalogue.approve": person.client.post("/chapters/none/approval"),
        "moderation.read": person.client.get("/moderation/queue"),
        "people.ban": person.client.post("/people/none/ban", json={"reason": "None."}),
        "people.read": person.client.get("/people?search=a"),
        "people.administer": person.client.get("/admin/roles"),
        "tenancy.administer": person.client.patch("/tenant", json={"name": "One"}),
        "people.create": person.client.post("/people", json=new_account(role)),
        "audit.read": person.client.get("/audit/events?limit=1"),
    }
    allowed = {name for name, answer in asked.items() if answer.status_code != 403}
    assert allowed == ROLES[role]


def new_account(made_by: str) -> dict[str, Any]:
    return {"username": f"made-by-{made_by}", "password": PASSWORD, "roles": ["reader"]}


def test_a_key_used_again_with_another_password_is_refused(site: Site) -> None:
    account = {"username": "with-a-key", "password": "the first password", "roles": ["reader"]}
    headers = {"Idempotency-Key": "an-account-with-a-key"}
    administrator = site.client("administrator")
    first = administrator.post("/people", json=account, headers=headers)
    again = administrator.post("/people", json=account, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    other = account | {"password": "another password"}
    refused = administrator.post("/people", json=other, headers=headers)
    assert refused.json()["error"]["code"] == "idempotency_key_reused"

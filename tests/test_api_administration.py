"""Administration from outside: accounts, roles, bans that end, appeals, and the security log."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from api.limits import DEFAULTS
from api.messages import LANGUAGES
from tests.processes import until
from tests.site import PASSWORD, Site, addressee, good, kind_of, refused

WHY = "As agreed."


class Member:
    """Somebody with an address, who registered by themselves."""

    def __init__(self, site: Site, language: str = "en") -> None:
        self.site = site
        self.username = f"member-{uuid4().hex[:12]}"
        self.email = f"{self.username}@example.org"
        said = {"username": self.username, "email": self.email, "password": PASSWORD}
        good(site.anonymous.post("/auth/register", json=said | {"language": language}))
        self.client = self.sign_in()
        self.id: str = good(self.site.anonymous.get("/auth/me", headers=self.client)).json()["id"]

    def log_in(self, password: str = PASSWORD, **headers: str) -> httpx.Response:
        said = {"username": self.username, "password": password}
        return self.site.anonymous.post("/auth/login", json=said, headers=headers)

    def sign_in(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {good(self.log_in()).json()['access_token']}"}

    def me(self) -> httpx.Response:
        return self.site.anonymous.get("/auth/me", headers=self.client)

    def letters(self, kind: str) -> list[str]:
        """The texts of the letters of a kind that came."""
        return [
            letter.get_content() if (letter := one.get_body(("plain",))) else ""
            for one in self.site.outbox()
            if addressee(one) == self.email and kind_of(one) == kind
        ]

    def letter(self, kind: str) -> str:
        until(lambda: bool(self.letters(kind)))
        return " ".join(self.letters(kind)[0].split())


def account(site: Site, person_id: str) -> dict[str, Any]:
    return site.get("administrator", f"/admin/users/{person_id}")


def switch(site: Site, person_id: str, *, on: bool, by: str = "administrator") -> httpx.Response:
    said = {"is_active": on, "reason": WHY}
    return site.client(by).patch(f"/admin/users/{person_id}/toggle-active", json=said)


def ban(site: Site, person_id: str, by: str = "moderator", **fields: Any) -> None:
    site.ask(by, "POST", f"/people/{person_id}/ban", **{"reason": "Spam & <more>.", **fields})


# accounts


def test_an_account_is_shown_with_all_that_administrators_need(site: Site) -> None:
    member = Member(site)
    ban(site, member.id)
    shown = account(site, member.id)
    assert datetime.fromisoformat(shown.pop("registered_at")) <= datetime.now(UTC)
    assert shown == {
        "id": member.id,
        "username": member.username,
        "name": "",
        "email": member.email,
        "email_confirmed": False,
        "roles": ["reader"],
        "permissions": [],
        "is_active": True,
        "ban": {"reason": "Spam & <more>.", "until": None, "banned_by": site["moderator"].id},
    }


def test_accounts_are_found_by_each_filter(site: Site) -> None:
    mark = uuid4().hex[:8]
    people = [site.newcomer(role) for role in ("reader", "uploader", "moderator")]
    for person in people:
        good(person.client.patch("/me", json={"name": f"Ünï {mark}"}))
    good(switch(site, people[0].id, on=False))

    def found(**filters: Any) -> list[str]:
        page = site.get("administrator", "/admin/users", search=f"uni {mark}", **filters)
        assert page["count"] == len(page["results"])
        return [one["id"] for one in page["results"]]

    ids = [person.id for person in people]
    assert found() == ids[::-1]
    assert found(ordering="registered_at") == ids
    assert found(is_active="false") == ids[:1]
    assert found(is_active="true") == ids[:0:-1]
    assert found(role="moderator") == ids[2:]
    assert found(role="nobody") == []
    second = account(site, ids[1])["registered_at"]
    assert found(registered_since=second) == ids[:0:-1]
    assert found(registered_until=second) == ids[:1]
    page = site.get("administrator", "/admin/users", is_active="true", search=mark)
    assert page["filters_applied"] == {"is_active": True, "search": mark}


def test_administrators_find_an_account_by_its_address_and_moderators_do_not(site: Site) -> None:
    member = Member(site)
    good(site.anonymous.patch("/me", json={"name": "Aigul"}, headers=member.client))
    by_address = {"search": member.email}
    assert site.get("administrator", "/admin/users", **by_address)["count"] == 1
    assert site.get("moderator", "/people", **by_address)["count"] == 0
    (seen,) = site.get("moderator", "/people", search=member.username)["results"]
    assert seen == {"id": member.id, "username": member.username, "name": "Aigul"}
    assert site.get("moderator", f"/people/{member.id}") == seen


@pytest.mark.parametrize("path", ["/admin/users/nobody", "/people/nobody"])
def test_who_is_not_there_is_not_found(site: Site, path: str) -> None:
    refused(site.client("administrator").get(path), 404, "person_not_found")


@pytest.mark.parametrize(
    ("name", "value"),
    [("is_active", "perhaps"), ("role", "No Role"), ("registered_since", "now"), ("email", "a")],
)
def test_a_filter_that_means_nothing_is_refused(site: Site, name: str, value: str) -> None:
    answer = site.client("administrator").get("/admin/users", params={name: value})
    refused(answer, 400, "validation_failed")


@pytest.mark.parametrize("by", ["reader", "uploader", "moderator", "auditor"])
def test_only_administrators_administer(site: Site, by: str) -> None:
    client, who = site.client(by), f"/admin/users/{site['other'].id}"
    for answer in (
        client.get("/admin/users"),
        client.get(who),
        client.put(who, json={"roles": ["reader"], "reason": WHY}),
        switch(site, site["other"].id, on=False, by=by),
        client.post(f"{who}/reset-password", json={"reason": WHY}),
    ):
        refused(answer, 403, "permission_denied")


def test_roles_are_assigned_with_a_reason_that_auditors_read(site: Site) -> None:
    person = site.newcomer("reader")
    who = f"/admin/users/{person.id}"
    refused(person.client.get("/moderation/queue"), 403, "permission_denied")
    said = {"roles": ["moderator"], "permissions": ["audit.read"]}
    site.ask("administrator", "PUT", who, **said, reason=WHY)
    good(person.client.get("/moderation/queue"))
    good(person.client.get("/audit/events?limit=1"))
    assert account(site, person.id).items() >= said.items()
    *_, event = site.trail(f"person-{person.id}")
    assert event["type"] == "people.RolesAssigned"
    assert (event["actor_name"], event["data"]["reason"]) == ("administrator", WHY)
    answer = site.client("administrator").put(who, json={"roles": ["reader"]})
    assert "reason" in refused(answer, 400, "validation_failed")["field_errors"]


def test_an_account_switched_off_is_refused_at_once_and_its_sessions_do_not_come_back(
    site: Site,
) -> None:
    member, beside = Member(site), site.api_beside()
    good(beside.get("/auth/me", headers=member.client))
    good(switch(site, member.id, on=False))
    refused(beside.get("/auth/me", headers=member.client), 403, "account_deactivated")
    refused(member.log_in(), 403, "account_deactivated")
    until(lambda: bool(ended(site, member.id)))
    good(switch(site, member.id, on=True))
    assert not account(site, member.id)["ban"]
    refused(member.me(), 401, "not_signed_in")
    until(lambda: beside.get("/auth/me", headers=member.client).status_code == 401)
    good(member.log_in())


def ended(site: Site, person_id: str) -> list[str]:
    """Why a person's sessions ended."""
    events = site.events(type="people.SessionEnded")
    return [one["data"]["reason"] for one in events if one["data"]["person_id"] == person_id]


def test_a_reset_signs_out_everywhere_and_sends_a_letter(site: Site) -> None:
    member, key = Member(site), {"Idempotency-Key": uuid4().hex}
    address, said = f"/admin/users/{member.id}/reset-password", {"reason": WHY}
    administrator = site.client("administrator")
    first = good(administrator.post(address, json=said, headers=key))
    assert good(administrator.post(address, json=said, headers=key)).json() == first.json()
    token = site.letter(member.email, "password_reset")
    until(lambda: member.me().status_code == 401)
    assert ended(site, member.id) == ["reset_requested"]
    another = "another password of the tests"
    reset = {"token": token, "password": another}
    good(site.anonymous.post("/auth/password-reset/confirm", json=reset))
    good(member.log_in(another))
    (asked,) = [e for e in site.trail(f"person-{member.id}") if "Requested" in e["type"]]
    assert asked["data"]["requested_by"] == site["administrator"].id
    assert asked["data"]["reason"] == WHY
    assert len(site.letters(member.email, "password_reset")) == 1


def test_the_last_administrator_stays_one(site: Site) -> None:
    chief = f"/admin/users/{site['administrator'].id}"
    step_down = {"roles": ["reader"], "reason": WHY}
    answer = site.client("administrator").put(chief, json=step_down)
    refused(answer, 422, "last_administrator")
    good(site.client("administrator").get("/admin/users"))


# bans


def test_a_ban_is_lifted_on_time_with_nobody_asking(site: Site) -> None:
    member = Member(site)
    end = datetime.now(UTC) + timedelta(seconds=3)
    ban(site, member.id, until=end.isoformat())

    def lifted() -> list[dict[str, Any]]:
        events = site.events(stream=f"person-{member.id}", type="people.PersonUnbanned")
        assert all(datetime.fromisoformat(event["recorded_at"]) >= end for event in events)
        return events

    until(lambda: bool(lifted()))
    (event,) = lifted()
    assert event["actor"] == "system"
    until(lambda: account(site, member.id)["ban"] is None)


@pytest.mark.parametrize("language", LANGUAGES)
def test_whoever_is_banned_is_told_why_and_for_how_long(site: Site, language: str) -> None:
    member = Member(site, language)
    ban(site, member.id)
    assert "Spam & <more>." in member.letter("banned")
    ban(site, member.id, until="2999-01-31T12:00:00Z", reason="Again.")
    letter = member.letter("banned_until")
    assert "Again." in letter
    assert "2999" in letter or "٢٩٩٩" in letter


# appeals


def appeal(site: Site, member: Member, text: str = "It was not me.") -> httpx.Response:
    token = refused(member.log_in(), 403, "banned")["details"].get("appeal_token", "")
    return site.anonymous.post("/appeals", json={"token": token, "text": text})


@pytest.fixture
def decider(site: Site) -> str:
    """A moderator who has banned nobody."""
    return site.newcomer("moderator").username


def test_an_accepted_appeal_lets_the_person_back_in(site: Site, decider: str) -> None:
    member = Member(site)
    ban(site, member.id)
    one = good(appeal(site, member)).json()
    assert one["position"]
    shown = site.get(decider, "/moderation/appeals", status="open", page_size=100)["results"][-1]
    assert shown["person"] == {"id": member.id, "username": member.username}
    assert shown["ban"]["banned_by"]["username"] == "moderator"
    assert (shown["text"], shown["ban"]["reason"]) == ("It was not me.", "Spam & <more>.")
    address = f"/appeals/{shown['id']}/acceptance"
    own = site.client("moderator").post(address, json={"note": "Sorry."})
    refused(own, 422, "own_ban_decision")
    site.ask(decider, "POST", address, note="Sorry.")
    good(member.me())
    assert "Sorry." in member.letter("appeal_accepted")
    decided = site.get(decider, f"/moderation/appeals/{shown['id']}")
    assert (decided["status"], decided["answer"]) == ("accepted", "Sorry.")
    assert decided["decided_by"]["username"] == decider


def test_a_rejected_appeal_is_told_and_final(site: Site, decider: str) -> None:
    member = Member(site, "ky")
    ban(site, member.id)
    good(appeal(site, member))
    address = f"/appeals/{member.id}-1/rejection"
    refused(site.client(decider).post(address, json={}), 400, "validation_failed")
    site.ask(decider, "POST", address, reason="It was you.")
    assert "It was you." in member.letter("appeal_rejected")
    assert "appeal_token" not in refused(member.log_in(), 403, "banned")["details"]
    refused(member.me(), 403, "banned")


def test_an_appeal_takes_a_token_that_is_good_once(site: Site) -> None:
    member, other = Member(site), Member(site)
    ban(site, member.id)
    first = refused(member.log_in(), 403, "banned")["details"]["appeal_token"]
    second = refused(member.log_in(), 403, "banned")["details"]["appeal_token"]
    said = {"token": first, "text": "It was not me."}
    good(site.anonymous.post("/appeals", json=said))
    for token in (first, second, "nonsense", ""):
        again = site.anonymous.post("/appeals", json=said | {"token": token})
        refused(again, 422, "link_invalid")
    refused(other.log_in("a wrong password"), 401, "invalid_credentials")
    wrong = refused(member.log_in("a wrong password"), 401, "invalid_credentials")
    assert "details" not in wrong


def test_a_token_is_worth_nothing_once_the_ban_is_lifted(site: Site) -> None:
    member = Member(site)
    ban(site, member.id)
    token = refused(member.log_in(), 403, "banned")["details"]["appeal_token"]
    site.ask("moderator", "POST", f"/people/{member.id}/unban")
    answer = site.anonymous.post("/appeals", json={"token": token, "text": "It was not me."})
    refused(answer, 422, "not_banned")


# the security log


def incidents(site: Site, **filters: Any) -> list[dict[str, Any]]:
    return site.get("auditor", "/audit/security", page_size=100, **filters)["results"]


def awaited(site: Site, number: int, **filters: Any) -> list[dict[str, Any]]:
    """Incidents, once there are so many."""
    until(lambda: len(incidents(site, **filters)) >= number)
    return incidents(site, **filters)


def test_refusals_are_noted_with_who_and_from_where(site: Site) -> None:
    member = Member(site)
    program = {"User-Agent": f"tests/{uuid4().hex}"}
    failed = member.log_in("a wrong password", **program)
    denied = site.anonymous.get("/moderation/queue", headers=member.client | program)
    ban(site, member.id)
    banned = member.log_in(**program)
    found = awaited(site, 3, person=member.id)
    assert [(one["kind"], one["request_id"]) for one in found] == [
        ("sign_in_refused", banned.headers["X-Request-ID"]),
        ("permission_denied", denied.headers["X-Request-ID"]),
        ("sign_in_failed", failed.headers["X-Request-ID"]),
    ]
    for one in found:
        assert (one["times"], one["username"]) == (1, member.username)
        assert (one["address"], one["user_agent"]) == ("127.0.0.1", program["User-Agent"])
    (only,) = incidents(site, person=member.id, kind="permission_denied")
    assert incidents(site, person=member.id, since=only["at"]) == found[:2]
    assert incidents(site, person=member.id, until=only["at"]) == found[2:]


def test_nothing_readable_is_kept_of_where_somebody_asked_from(site: Site) -> None:
    program = f"tests/{uuid4().hex}"
    name = f"nobody-{uuid4().hex}"
    said = {"username": name, "password": "a password typed as a name"}
    site.anonymous.post("/auth/login", json=said, headers={"User-Agent": program})
    until(lambda: any(one["user_agent"] == program for one in incidents(site)))
    with psycopg.connect(site.settings.dsn) as connection:
        rows = connection.execute("SELECT i::text FROM security.incidents i").fetchall()
    kept = "\n".join(row[0] for row in rows)
    for secret in (program, name, "127.0.0.1"):
        assert secret not in kept


@pytest.mark.parametrize("by", ["reader", "uploader", "moderator"])
def test_only_auditors_read_it(site: Site, by: str) -> None:
    refused(site.client(by).get("/audit/security"), 403, "permission_denied")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE security.incidents SET kind = 'x'",
        "DELETE FROM security.incidents",
        "TRUNCATE security.incidents",
    ],
)
def test_nothing_in_it_is_changed(site: Site, change: str) -> None:
    with (
        psycopg.connect(site.settings.dsn) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(change.encode())


def test_a_lock_out_is_noted_with_whom_it_was_about(site: Site) -> None:
    member, beside = Member(site), site.api_beside(rate_limits=DEFAULTS)
    said = {"username": member.username, "password": "a wrong password"}

    def is_held() -> bool:
        return beside.post("/auth/login", json=said).status_code == 429

    until(is_held)
    (held, *_) = awaited(site, 1, person=member.id, kind="sign_in_held")
    assert (held["username"], held["address"]) == (member.username, "127.0.0.1")

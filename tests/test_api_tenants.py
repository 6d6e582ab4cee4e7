"""Several organisations on one site: which one a request is for, and that it sees no other."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from tests.processes import until
from tests.site import (
    DOMAIN,
    PASSWORD,
    Organisation,
    Site,
    access_token,
    archive,
    good,
    new_series,
    refused,
)


@pytest.fixture(scope="module")
def school(site: Site) -> Organisation:
    return site.organisation()


@pytest.fixture(scope="module")
def library(site: Site) -> Organisation:
    return site.organisation()


@pytest.fixture
def stranger(site: Site) -> Iterator[httpx.Client]:
    """A client that names nothing by itself."""
    with httpx.Client(base_url=site.anonymous.base_url, timeout=60) as client:
        yield client


def published(of: Organisation, title: str) -> str:
    """The slug of a series that an organisation's readers see."""
    series = good(of.client("uploader").post("/series", json=new_series(title=title))).json()["id"]
    answer = good(of.client("moderator").post(f"/series/{series}/publication"))
    now = {"X-Min-Position": answer.headers["X-Position"]}
    return good(of.anonymous.get(f"/series/{series}", headers=now)).json()["slug"]


def named(client: httpx.Client, how: str, tenant: str) -> httpx.Response:
    """The organisation that a request is for, when it names one in a way."""
    headers = {
        "host": {"Host": f"{tenant}.{DOMAIN}"},
        "host and port": {"Host": f"{tenant}.{DOMAIN.upper()}:8443"},
        "header": {"X-Tenant": tenant},
        "both": {"Host": f"{tenant}.{DOMAIN}", "X-Tenant": tenant},
    }
    return client.get("/tenant", headers=headers[how])


@pytest.mark.parametrize("how", ["host", "host and port", "header", "both"])
def test_a_request_names_its_organisation(
    stranger: httpx.Client, school: Organisation, how: str
) -> None:
    assert good(named(stranger, how, school.id)).json()["id"] == school.id
    refused(named(stranger, how, "no-such-school"), 404, "tenant_not_found")


def test_a_request_that_names_none_is_for_the_site_itself(stranger: httpx.Client) -> None:
    for host in ("127.0.0.1", DOMAIN, f"elsewhere-{DOMAIN}", "school.example"):
        answer = stranger.get("/tenant", headers={"Host": host})
        assert good(answer).json()["id"] == "main"


def test_a_request_that_names_two_is_refused(
    stranger: httpx.Client, school: Organisation, library: Organisation
) -> None:
    headers = {"Host": f"{school.id}.{DOMAIN}", "X-Tenant": library.id}
    refused(stranger.get("/series", headers=headers), 400, "tenant_ambiguous")


def test_a_token_says_which_organisation_it_is_for(
    stranger: httpx.Client, school: Organisation
) -> None:
    slug = published(school, "Told by the token")
    token = school.client("reader").headers["Authorization"]
    answer = stranger.get(f"/series/{slug}", headers={"Authorization": token})
    assert good(answer).json()["slug"] == slug
    refused(stranger.get(f"/series/{slug}"), 404, "series_not_found")


Confuse = Callable[[httpx.Client, Organisation], dict[str, str]]

CONFUSIONS: dict[str, Confuse] = {
    "host": lambda _, other: {"Host": f"{other.id}.{DOMAIN}"},
    "header": lambda _, other: {"X-Tenant": other.id},
    "header of the site": lambda _, other: {"X-Tenant": "main"},
}


@pytest.mark.parametrize("how", CONFUSIONS)
def test_a_token_of_one_organisation_opens_no_other(
    stranger: httpx.Client, school: Organisation, library: Organisation, how: str
) -> None:
    stranger.headers["Authorization"] = school.client("administrator").headers["Authorization"]
    headers = CONFUSIONS[how](stranger, library)
    for path in ("/auth/me", "/series", "/audit/events", "/admin/roles"):
        refused(stranger.get(path, headers=headers), 403, "signed_in_elsewhere")
    answer = stranger.post("/series", json=new_series(), headers=headers)
    refused(answer, 403, "signed_in_elsewhere")


@pytest.mark.parametrize("how", CONFUSIONS)
def test_a_cookie_of_one_organisation_opens_no_other(
    stranger: httpx.Client, school: Organisation, library: Organisation, how: str
) -> None:
    own = {"X-Tenant": school.id}
    body = {"username": f"reader-of-{school.id}", "password": PASSWORD, "session": True}
    good(stranger.post("/auth/login", json=body, headers=own))
    assert good(stranger.get("/auth/me", headers=own)).json()["username"] == body["username"]
    headers = CONFUSIONS[how](stranger, library)
    refused(stranger.get("/auth/me", headers=headers), 403, "signed_in_elsewhere")


def test_a_refresh_token_of_one_organisation_renews_in_no_other(
    stranger: httpx.Client, school: Organisation, library: Organisation
) -> None:
    body = {"username": f"reader-of-{school.id}", "password": PASSWORD}
    pair = good(stranger.post("/auth/login", json=body, headers={"X-Tenant": school.id})).json()
    renewal = {"refresh_token": pair["refresh_token"]}
    answer = stranger.post("/auth/refresh", json=renewal, headers={"X-Tenant": library.id})
    refused(answer, 403, "signed_in_elsewhere")


def test_an_account_signs_in_where_it_is_and_nowhere_else(
    school: Organisation, library: Organisation, site: Site
) -> None:
    body = {"username": f"reader-of-{school.id}", "password": PASSWORD}
    good(school.anonymous.post("/auth/login", json=body))
    for elsewhere in (library.anonymous, site.anonymous):
        refused(elsewhere.post("/auth/login", json=body), 401, "invalid_credentials")


def test_a_person_id_of_another_organisation_is_nobody_here(
    stranger: httpx.Client, school: Organisation, library: Organisation
) -> None:
    """With the site's own signature: as if the wall in signing in had been climbed."""
    person = school.people["administrator"].id
    token = access_token(person, datetime.now(UTC), tenant=library.id)
    stranger.headers["Authorization"] = f"Bearer {token}"
    refused(stranger.post("/series", json=new_series()), 401, "unknown_account")
    refused(stranger.get("/auth/me"), 401, "unknown_account")


def test_two_organisations_have_the_same_names_and_see_only_their_own(
    school: Organisation, library: Organisation
) -> None:
    for one in (school, library):
        assert published(one, "The Same Name") == "the-same-name"
    for one, other in ((school, library), (library, school)):
        (series,) = good(one.anonymous.get("/series?search=same+name")).json()["results"]
        refused(other.anonymous.get(f"/series/{series['id']}"), 404, "series_not_found")
        answer = other.client("moderator").post(f"/series/{series['id']}/publication")
        refused(answer, 404, "series_not_found")
        streams = f"/audit/streams/series-{series['id']}"
        refused(other.client("auditor").get(streams), 404, "stream_not_found")


def test_answers_in_memory_are_kept_apart(school: Organisation, library: Organisation) -> None:
    slug = published(school, "Kept in memory")
    for _ in "twice":
        assert good(school.anonymous.get(f"/series/{slug}")).json()["slug"] == slug
        refused(library.anonymous.get(f"/series/{slug}"), 404, "series_not_found")
        tags = [good(one.anonymous.get("/series")).headers["ETag"] for one in (school, library)]
        assert len(set(tags)) == 2


def test_a_chapter_is_examined_and_its_images_served_in_its_organisation(
    site: Site, school: Organisation, library: Organisation
) -> None:
    uploader, moderator = school.client("uploader"), school.client("moderator")
    series = good(uploader.post("/series", json=new_series())).json()["id"]
    good(moderator.post(f"/series/{series}/publication"))
    files = {"archive": ("chapter.zip", archive(), "application/zip")}
    answer = uploader.post(f"/series/{series}/chapters", data={"number": "1"}, files=files)
    chapter = good(answer).json()["id"]
    mine = lambda: good(uploader.get("/me/uploads")).json()["results"]  # noqa: E731
    until(lambda: any(one["status"] == "pending" for one in mine()))
    answer = good(moderator.post(f"/chapters/{chapter}/approval"))
    now = {"X-Min-Position": answer.headers["X-Position"]}
    pages = good(school.anonymous.get(f"/chapters/{chapter}", headers=now)).json()["pages"]
    image = pages[0]["url"]
    good(school.anonymous.get(site.url + image))
    refused(library.anonymous.get(site.url + image), 404, "image_not_found")
    keys = list(site.store.keys(f"{school.id}/"))
    assert len([key for key in keys if "/pages/" in key]) == 2 * len(pages)


def test_a_role_is_what_its_own_organisation_says(
    school: Organisation, library: Organisation
) -> None:
    administrator = school.client("administrator")
    definition = {"permissions": ["catalogue.create"], "reason": "Readers draw here."}
    good(administrator.put("/admin/roles/reader", json=definition))
    good(school.client("reader").post("/series", json=new_series()))
    refused(library.client("reader").post("/series", json=new_series()), 403, "permission_denied")
    good(administrator.request("DELETE", "/admin/roles/reader"))
    refused(school.client("reader").post("/series", json=new_series()), 403, "permission_denied")


def test_an_organisation_looks_as_its_administrator_says(school: Organisation) -> None:
    look = {"name": "Another Name", "primary_colour": "#102030"}
    answer = good(school.client("administrator").patch("/tenant", json=look))
    now = {"X-Min-Position": answer.headers["X-Position"]}
    seen = good(school.anonymous.get("/tenant", headers=now)).json()
    assert {name: seen[name] for name in look} == look
    refused(school.client("moderator").patch("/tenant", json=look), 403, "permission_denied")
    wrong = {"primary_colour": "red"}
    refused(school.client("administrator").patch("/tenant", json=wrong), 400, "validation_failed")


def test_who_may_register_is_the_organisations_rule(
    school: Organisation, library: Organisation
) -> None:
    good(school.client("administrator").patch("/tenant", json={"registration": "closed"}))
    account = {"username": "somebody-new", "email": "new@example.org", "password": PASSWORD}

    def is_closed() -> bool:
        return school.anonymous.post("/auth/register", json=account).status_code == 403

    until(is_closed)
    refused(school.anonymous.post("/auth/register", json=account), 403, "registration_closed")
    good(library.anonymous.post("/auth/register", json=account))

"""What describes a site: its OpenAPI document, the page for it, its health and its figures."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import psycopg
import pytest
import schemathesis
from prometheus_client.parser import text_string_to_metric_families

from commands.kernel import POLICIES
from projections.kernel import QUERIES
from runtime.registry import COMMANDS, MODELS
from tests.database import Database
from tests.processes import until
from tests.site import Site, good, refused, running_site

BAN = "people.ban_malicious_uploader"

METHODS = ("get", "post", "put", "patch", "delete")

ROUTES = {
    "POST /auth/login",
    "POST /auth/register",
    "POST /auth/email/confirm",
    "POST /auth/password",
    "POST /auth/password-reset",
    "POST /auth/password-reset/confirm",
    "PATCH /me",
    "POST /auth/refresh",
    "POST /auth/logout",
    "POST /auth/logout-all",
    "GET /auth/sessions",
    "DELETE /auth/sessions/{session_id}",
    "GET /auth/me",
    "GET /auth/google",
    "GET /auth/google/callback",
    "GET /auth/identities",
    "DELETE /auth/identities/{identity_id}",
    "POST /people",
    "POST /people/{person_id}/ban",
    "POST /people/{person_id}/unban",
    "GET /series",
    "POST /series",
    "GET /series/{series}",
    "PATCH /series/{series_id}",
    "POST /series/{series_id}/publication",
    "DELETE /series/{series_id}/publication",
    "POST /series/{series_id}/chapters",
    "PUT /series/{series_id}/chapters",
    "GET /chapters/{chapter_id}",
    "DELETE /chapters/{chapter_id}",
    "POST /chapters/{chapter_id}/approval",
    "POST /chapters/{chapter_id}/rejection",
    "GET /chapters/{chapter_id}/images/{name}",
    "GET /moderation/queue",
    "GET /moderation/series",
    "GET /me/series",
    "GET /me/uploads",
    "GET /audit/events",
    "GET /audit/streams/{stream}",
    "GET /health",
}


@pytest.fixture
def document(site: Site) -> dict[str, Any]:
    return good(site.anonymous.get("/schema/openapi.json")).json()


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by method and path."""
    return {
        f"{method.upper()} {path.removeprefix('/api/v1')}": item[method]
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item
    }


def test_the_document_is_valid_openapi_and_describes_every_route(
    document: dict[str, Any],
) -> None:
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()
    assert operations(document).keys() >= ROUTES


def test_every_operation_documents_what_it_may_answer(document: dict[str, Any]) -> None:
    ids = [one["operationId"] for one in operations(document).values()]
    assert len(set(ids)) == len(ids)
    for name, operation in operations(document).items():
        statuses = set(operation["responses"])
        assert statuses & {"200", "201", "202", "204", "302"}, name
        assert "503" in statuses, name
        if {"bearer": []} in operation.get("security", []):
            assert {"401", "403"} <= statuses, name
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= statuses, name
        if "{" in name:
            assert "404" in statuses, name
        assert operation["summary"], name


def test_every_error_is_documented_as_an_envelope(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for status, response in operation["responses"].items():
            if status >= "400" and (name, status) != ("GET /health", "503"):
                schema = response["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}, (name, status)


def test_a_site_that_is_not_ready_is_documented_as_what_it_says(document: dict[str, Any]) -> None:
    content = operations(document)["GET /health"]["responses"]["503"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Health"}


UPLOADS = ("POST /series/{series_id}/chapters", "PUT /series/{series_id}/chapters")
MAKING = {"POST /series", "POST /people", "POST /admin/invitations", *UPLOADS}
"""Commands whose answer says where what they made is found."""


def test_the_headers_of_commands_and_reads_are_documented(document: dict[str, Any]) -> None:
    reads, commands = set[str](), set[str]()
    for name, operation in operations(document).items():
        asked = {one["name"] for one in operation["parameters"] if one["in"] == "header"}
        assert "Accept-Language" in asked, name
        told = {status: set(one["headers"]) for status, one in operation["responses"].items()}
        (success, *_) = sorted(told)
        for status, headers in told.items():
            assert headers >= {"X-Request-ID", "RateLimit-Remaining", "RateLimit-Reset"}, name
            assert ("Retry-After" in headers) == (status in ("429", "503")), (name, status)
            assert ("WWW-Authenticate" in headers) == (status == "401"), (name, status)
        if asked & {"Idempotency-Key", "X-Correlation-ID"}:
            assert asked >= {"Idempotency-Key", "X-Correlation-ID"}, name
            assert "X-Position" in told[success], name
            assert ("Location" in told[success]) == (name in MAKING), name
            commands.add(name)
        if asked & {"X-Min-Position", "If-None-Match"}:
            assert asked >= {"X-Min-Position", "If-None-Match"}, name
            assert {"ETag"} <= told["304"] & told[success], name
            reads.add(name)
    declared = {f"{one.method} {one.path}" for one in COMMANDS.values() if one.method}
    assert commands == declared | MAKING | PICTURES
    assert reads == {f"GET {one.path}" for one in QUERIES.values()} | {IMAGES} | SHOWN


IMAGES = "GET /chapters/{chapter_id}/images/{name}"
PICTURES = {"PUT /me/avatar", "PUT /tenant/logo"}
SHOWN = {"GET /people/{person_id}/avatar", "GET /tenant/logo"}


def test_what_opens_an_image_and_parts_of_it_are_documented(document: dict[str, Any]) -> None:
    image = operations(document)[IMAGES]
    assert image["security"] == [{}, {"bearer": []}, {"cookie": []}]
    assert {"preview", "Range", "If-Range"} <= {one["name"] for one in image["parameters"]}
    assert {"206", "304", "416"} <= image["responses"].keys()
    assert {"Accept-Ranges", "Content-Range"} <= image["responses"]["206"]["headers"].keys()


def test_limits_are_documented(document: dict[str, Any]) -> None:
    listing = operations(document)["GET /series"]["parameters"]
    parameters = {one["name"]: one["schema"] for one in listing}
    assert parameters["page"]["minimum"] == 1
    assert (parameters["page_size"]["maximum"], parameters["page_size"]["default"]) == (100, 20)
    assert parameters["search"]["maxLength"] == 200
    assert set(parameters["kind"]["items"]["enum"]) > {"manga", "webtoon"}
    title = document["components"]["schemas"]["CreateSeries"]["properties"]["title"]
    assert (title["minLength"], title["maxLength"]) == (1, 200)


def test_a_body_is_required_where_a_command_needs_one(document: dict[str, Any]) -> None:
    bodies = {
        name: operation["requestBody"]
        for name, operation in operations(document).items()
        if "requestBody" in operation
    }
    optional = {name for name, body in bodies.items() if not body["required"]}
    assert optional == {
        "DELETE /chapters/{chapter_id}",
        "DELETE /series/{series_id}/publication",
        "DELETE /admin/invitations/{invitation_id}",
        "DELETE /admin/roles/{role}",
        "POST /appeals/{appeal_id}/acceptance",
        "POST /chapters/{chapter_id}/approval",
        "POST /people/{person_id}/unban",
    }
    for name, body in bodies.items():
        for media in body["content"].values():
            assert "null" not in str(media["schema"]), name


def test_what_a_text_cannot_say_is_not_documented_as_a_parameter(document: dict[str, Any]) -> None:
    for name, operation in operations(document).items():
        for parameter in operation.get("parameters", ()):
            assert parameter["schema"]["type"] != "null", name
            assert not {"oneOf", "anyOf"} & parameter["schema"].keys(), name


def test_head_answers_as_get_does_without_the_body(site: Site) -> None:
    chapter = site.approved(site.series(description="A long description. " * 100))
    image = site.get("anonymous", f"/chapters/{chapter}")["pages"][0]["url"]
    api = f"{site.url}/api/v1"
    for by, address in (
        ("anonymous", f"{api}/chapters/{chapter}"),
        ("moderator", f"{api}/chapters/{chapter}"),
        ("anonymous", site.url + image),
        ("anonymous", f"{api}/series/no-such-series"),
        ("anonymous", f"{api}/series?page=0"),
        ("anonymous", f"{api}/nothing"),
        ("anonymous", f"{api}/schema"),
        ("anonymous", f"{api}/schema/openapi.json"),
        ("reader", f"{api}/auth/me"),
        ("auditor", f"{api}/audit/events"),
    ):
        for encoding in ("identity", "gzip"):
            client, asked = site.client(by), {"Accept-Encoding": encoding}
            for _ in range(2):  # the second may come from memory
                full, head = client.get(address, headers=asked), client.head(address, headers=asked)
                assert (head.status_code, head.content) == (full.status_code, b""), address
                for name in ("content-type", "content-length", "etag", "vary", "cache-control"):
                    assert head.headers.get(name) == full.headers.get(name), (address, name)
    refused(site.anonymous.get("/auth/login"), 405, "method_not_allowed")
    assert site.anonymous.head("/auth/login").status_code == 405


class References(HTMLParser):
    """Every address that a page names, and every text that it runs."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag in ("script", "style")
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self._in_script:
            self.scripts.append(data)


@pytest.mark.parametrize("path", ["/schema", "/schema/"])
def test_the_page_for_it_loads_nothing_from_outside(site: Site, path: str) -> None:
    page = good(site.anonymous.get(path))
    assert page.headers["Content-Type"].startswith("text/html")
    references = References(page.text)
    assert references.addresses
    assert not re.findall(r"https?://[^\s\"']+", "".join(references.scripts))
    for address in references.addresses:
        assert_is_served_here(site, urljoin(f"{site.url}/api/v1{path}", address))


def assert_is_served_here(site: Site, address: str) -> None:
    assert urlsplit(address).netloc == urlsplit(site.url).netloc
    asset = good(httpx.get(address))
    if asset.headers["Content-Type"].startswith("text/css"):
        for one in re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")]+)", asset.text):
            assert one.startswith(("data:", "#")), one


def test_figures_are_told_to_prometheus(site: Site) -> None:
    site.anonymous.get("/chapters/none")
    answer = good(httpx.get(f"{site.url}/metrics"))
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = {one.name: one for one in text_string_to_metric_families(answer.text)}
    (up,) = families["imprimatur_database_up"].samples
    assert up.value == 1
    health = site.anonymous.get("/health").json()
    for name, label, told in (
        ("projection_lag", "model", "lag"),
        ("dead_letters", "model", "dead_letters"),
        ("policy_lag", "policy", "policy_lag"),
        ("policy_dead_letters", "policy", "policy_dead_letters"),
    ):
        samples = families[f"imprimatur_{name}"].samples
        assert {one.labels[label] for one in samples} == health[told].keys()
    (failed,) = families["imprimatur_failed_jobs"].samples
    assert failed.value == health["failed_jobs"] == 0
    counted = {
        (one.labels["path"], one.labels["status_code"])
        for one in families["imprimatur_requests"].samples
    }
    assert ("/api/v1/chapters/{chapter_id}", "404") in counted


def test_policies_and_given_up_jobs_are_told_and_what_is_retired_is_left_out(
    database: Database, tmp_path: Path
) -> None:
    with psycopg.connect(database.app, autocommit=True) as connection:
        connection.execute("INSERT INTO projections.policies (name) VALUES ('people.gone')")
    with running_site(database, tmp_path) as site:
        with psycopg.connect(database.app, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO projections.policy_dead_letters (policy, position, stream, error)"
                " VALUES (%s, 1, 'person-p1', 'broken')",
                (BAN,),
            )
            connection.execute("INSERT INTO projections.checkpoints VALUES ('catalogue', 3)")
            connection.execute("SET search_path TO jobs")
            connection.execute(
                "INSERT INTO jobs.procrastinate_jobs (queue_name, task_name, status)"
                " VALUES ('default', 'gone', 'failed')"
            )
        until(lambda: site.anonymous.get("/health").json()["policy_lag"].keys() == POLICIES.keys())
        health = good(site.anonymous.get("/health")).json()
    assert {name for name, number in health["policy_dead_letters"].items() if number} == {BAN}
    assert "catalogue_3" not in health["lag"]
    assert health["failed_jobs"] == 1


def test_a_healthy_site_says_how_far_its_read_models_are(site: Site) -> None:
    health = good(site.anonymous.get("/health")).json()
    assert (health["live"], health["ready"], health["database"]) == (True, True, "up")
    assert health["lag"].keys() == health["dead_letters"].keys()
    assert {name.rpartition("_")[0] for name in health["lag"]} == set(MODELS)

"""The files of the deployment agree with the code, and with each other."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit

import click
import pytest
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from msgspec import json

from api.app import MAX_BODY_BYTES, build_app
from api.guards import NOTHING_RUNS, PROTECTIVE
from api.messages import catalogue
from api.pictures import MAX_IMAGE_BYTES
from api.site import Site
from api.uploads import MAX_ARCHIVE_BYTES, MAX_FIELD_BYTES, MAX_FIELDS
from runtime.cli import cli
from runtime.mail.addresses import mail_server, sender
from runtime.migrate import APP_ROLE
from runtime.settings import PREFIX
from runtime.wiring import open_store
from tests.deployment import (
    COMPOSE,
    HEALTH_URL,
    HTTP,
    INTERNAL,
    PUBLIC,
    ROOT,
    SERVICES,
    copied,
    dockerfile,
    filled,
    health_words,
    is_one_shot,
    settings_of,
    size,
    text_of,
)

NEEDS = {
    "migrate": ("dsn", "admin_dsn"),
    "api": ("dsn", "secret", "master_key", "scratch_dir", "s3_bucket"),
    "projector": ("dsn", "master_key"),
    "worker": (
        "dsn",
        "master_key",
        "scratch_dir",
        "s3_bucket",
        "smtp_url",
        "mail_from",
        "public_url",
    ),
}
"""The services that run the image, and what each asks of its settings."""


def never_opened() -> AbstractAsyncContextManager[Site]:
    raise AssertionError("the routes are there before the site is")


def handlers(app: Litestar) -> Iterator[tuple[str, HTTPRouteHandler]]:
    """Every route of the application with an example of its address."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            yield re.sub(r"\{[^}]+\}", "x", route.path), handler


HANDLERS = list(handlers(build_app(never_opened)))
READABLE = {path for path, handler in HANDLERS if "GET" in handler.http_methods}


def check_command(words: list[str]) -> None:
    """Raises where the command line knows no such command or option."""
    program, *words = words
    assert program == "imprimatur"
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(program, words)


def test_every_command_is_one_of_the_command_line() -> None:
    assert {name for name, one in SERVICES.items() if "build" in one} == set(NEEDS)
    for name in NEEDS:
        check_command(SERVICES[name]["command"])
        assert SERVICES[name]["command"][1] == name
    for name in ("projector", "worker"):
        check_command(health_words(name))
    check_command(json.decode(" ".join(text_of("Dockerfile").split("CMD ")[1:]), type=list[str]))


def test_the_readme_tells_commands_that_exist() -> None:
    told = re.findall(r"run --rm (?:-T )?(\w+) (imprimatur .*)", text_of("deploy/README.md"))
    assert told
    for service, command in told:
        assert service in NEEDS
        check_command(command.split())


def test_every_setting_is_read_and_suffices() -> None:
    for name, needed in NEEDS.items():
        settings = settings_of(name)
        for setting in needed:
            settings.need(setting)
        if settings.s3_bucket:
            open_store(settings)
    for name in SERVICES.keys() - NEEDS:
        given: Mapping[str, Any] = SERVICES[name].get("environment", {})
        assert not [variable for variable in given if variable.startswith(PREFIX)]


def test_no_secret_is_written_down() -> None:
    secret = re.compile(r"PASSWORD|SECRET|DSN|SMTP_URL")
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable):
                assert ":?" in value, (name, variable)
    for instruction, *words in dockerfile():
        assert instruction not in ("ARG", "ENV") or not secret.search(" ".join(words))


def test_ports_agree() -> None:
    api = settings_of("api")
    assert api.host == "0.0.0.0"  # noqa: S104 inside its container
    (upstream,) = HTTP.all("upstream")
    assert upstream.values == ("api",)
    assert upstream.value("server") == f"api:{api.port}"
    assert [words[1:] for words in dockerfile() if words[0] == "EXPOSE"] == [[str(api.port)]]
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert published == {"nginx": [f"127.0.0.1:8080:{PUBLIC.value('listen')}"]}
    assert INTERNAL.value("listen") != PUBLIC.value("listen")


def test_health_is_asked_where_it_is_answered() -> None:
    def asked(name: str) -> tuple[str, str]:
        (found,) = HEALTH_URL.findall(" ".join(health_words(name)))
        return found

    port, path = asked("api")
    assert port == str(settings_of("api").port)
    assert path in READABLE
    port, path = asked("nginx")
    assert port == PUBLIC.value("listen")
    assert PUBLIC.location(path).value("return") == "200"
    port, path = asked("s3")
    command = SERVICES["s3"]["command"]
    assert command[command.index("--port") + 1] == f":{port}"
    assert command[command.index("--health") + 1] == path


def test_every_service_is_healthy_or_ends() -> None:
    for name, service in SERVICES.items():
        assert ("healthcheck" in service) != is_one_shot(name), name
        for awaited, condition in service.get("depends_on", {}).items():
            ending = "service_completed_successfully" if is_one_shot(awaited) else "service_healthy"
            assert condition == {"condition": ending}, (name, awaited)


FORM_BYTES = 2 * MAX_FIELDS * MAX_FIELD_BYTES
FILES = {
    "/api/v1/series/x/chapters": MAX_ARCHIVE_BYTES + FORM_BYTES,
    "/api/v1/me/avatar": MAX_IMAGE_BYTES + FORM_BYTES,
    "/api/v1/tenant/logo": MAX_IMAGE_BYTES + FORM_BYTES,
}
"""The largest bodies of the routes that take files."""


def test_nginx_hands_every_route_on() -> None:
    for path, handler in HANDLERS:
        if path == "/metrics":
            continue
        for address in (path, f"{path}/"):
            location = PUBLIC.location(address)
            assert location.value("proxy_pass") == "http://api", address
            if handler.resolve_request_max_body_size() is None:
                assert location.value("proxy_request_buffering") == "off", address
            limit = FILES.get(path, MAX_BODY_BYTES)
            assert size(location.value("client_max_body_size")) >= limit, address


def test_these_routes_take_files() -> None:
    """Otherwise the limits above would hold for none."""
    unlimited = {path for path, one in HANDLERS if one.resolve_request_max_body_size() is None}
    assert unlimited == FILES.keys()


def test_metrics_are_for_the_inside_only() -> None:
    assert "/metrics" in READABLE
    assert INTERNAL.location("/metrics").value("proxy_pass") == "http://api"
    for server, path in ((PUBLIC, "/metrics"), (PUBLIC, "/"), (INTERNAL, "/api/v1/health")):
        assert server.location(path).value("return") == "404"


def test_nginx_answers_in_the_words_of_the_api() -> None:
    answers = [one.all("return")[0].values for one in PUBLIC.all("location") if one.all("return")]
    envelopes = [(int(values[0]), json.decode(values[1])) for values in answers if len(values) > 1]
    assert {status for status, _ in envelopes} == {404, 413, 503}
    for _, envelope in envelopes:
        assert envelope.keys() == {"error", "timestamp", "request_id"}
        assert envelope["error"]["message"] == catalogue("en")[envelope["error"]["code"]]
    handled = {values for one in PUBLIC.all("error_page") for values in one.values}
    assert {"404", "413", "502", "504"} <= handled


def test_images_are_pinned() -> None:
    froms = [words[1] for words in dockerfile() if words[0] == "FROM"]
    assert len(froms) == 2
    for image in [*froms, *(service["image"] for service in SERVICES.values())]:
        assert re.search(r":v?\d+\.\d+[\w.-]*$", image), image


def test_the_image_runs_as_an_ordinary_user() -> None:
    stages = "\n".join(" ".join(words) for words in dockerfile()).split("FROM ")
    users = re.findall(r"^USER (\d+)", stages[-1], re.MULTILINE)
    assert users
    assert int(users[-1]) > 0
    assert f"--uid {users[-1]}" in stages[-1]
    scratch = settings_of("api").scratch_dir
    assert re.search(rf"install --directory --owner=imprimatur .* {scratch}$", stages[-1], re.M)


def test_the_image_holds_the_product_and_no_more() -> None:
    project = tomllib.loads(text_of("pyproject.toml"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(copied()) == {"pyproject.toml", "README.md", *packages}
    assert all((ROOT / source).exists() for source in copied())
    first, *others = text_of(".dockerignore").split()
    assert first == "*"
    assert {one for one in others if one.startswith("!")} == {f"!{one}" for one in copied()}
    installs = [words for words in dockerfile() if words[0] == "RUN" and "pip" in words]
    assert len(installs) == 3
    assert not {"--extra", "--all-extras", "--group"} & {word for one in installs for word in one}


def test_containers_can_change_their_volumes_only() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for volume in service.get("volumes", ()):
            source, target, *mode = volume.split(":")
            if source.startswith("."):
                assert (ROOT / source).is_file(), volume
                assert mode == ["ro"], volume
            else:
                assert source in COMPOSE["volumes"], volume
                assert mode == [], volume
            assert target not in service["tmpfs"], volume
    for name in ("api", "worker"):
        assert f"scratch:{settings_of(name).scratch_dir}" in SERVICES[name]["volumes"]


def test_only_nginx_stands_between_the_parts_and_the_outside() -> None:
    assert COMPOSE["networks"]["back"] == {"internal": True}
    outside = {name for name, one in SERVICES.items() if "front" in one.get("networks", ())}
    assert outside == {"nginx", "api"}
    assert SERVICES["nginx"]["networks"] == ["front"]


def test_letters_leave_by_the_worker_alone() -> None:
    assert COMPOSE["networks"]["out"] is None
    for name, service in SERVICES.items():
        assert ("out" in service.get("networks", ())) == (name == "worker"), name
        if name in NEEDS:
            assert bool(settings_of(name).smtp_url) == (name == "worker"), name
    settings = settings_of("worker")
    server = mail_server(settings.smtp_url)
    assert server.starttls
    assert server.password
    domain = urlsplit(settings.public_url).hostname
    assert sender(settings.mail_from).domain == domain
    told = text_of("deploy/README.md")
    for variable in ("DOMAIN", "SMTP_HOST", "SMTP_USER", "SMTP_PASSWORD"):
        assert re.search(rf"^{variable}=", told, re.MULTILINE), variable


def test_the_api_believes_what_nginx_says_of_the_client() -> None:
    front = COMPOSE["networks"]["front"]["ipam"]["config"]
    assert [one["subnet"] for one in front] == [settings_of("api").trusted_proxies]
    told = {one.values[0]: one.values[1] for one in HTTP.all("proxy_set_header")}
    assert told["X-Forwarded-For"] == "$proxy_add_x_forwarded_for"
    assert told["X-Forwarded-Proto"] == "$forwarded_proto"
    assert told["X-Forwarded-Host"] == ""


def test_nginx_lets_an_idle_connection_go_before_the_api_does() -> None:
    (upstream,) = HTTP.all("upstream")
    assert (
        int(upstream.value("keepalive_timeout").removesuffix("s")) < settings_of("api").slow_seconds
    )


def test_nginx_protects_its_own_answers_as_the_api_does() -> None:
    maps = {one.values: one.block for one in HTTP.all("map")}
    added = {one.values[0].lower(): one.values[1:] for one in HTTP.all("add_header")}
    api = {name.decode(): value.decode() for name, value in (*PROTECTIVE, NOTHING_RUNS)}
    assert added.keys() == api.keys()
    for name, (variable, always) in added.items():
        source = f"$upstream_http_{name.replace('-', '_')}"
        chosen = {one.name: one.values[0] for one in maps[source, variable]}
        assert (chosen, always) == ({"": api[name], "default": ""}, "always")
    for block in (PUBLIC, *PUBLIC.all("location")):
        assert not block.all("add_header")  # which would hide those of the outer block


def test_roles_and_passwords_of_the_database_agree() -> None:
    script = text_of("deploy/postgres-init.sql")
    given = SERVICES["postgres"]["environment"]
    passwords = {
        name: given[variable] for name, variable in re.findall(r"getenv (\w+) (\w+)", script)
    }
    roles = dict(re.findall(r"CREATE ROLE (\w+) LOGIN PASSWORD :'(\w+)'", script))
    owner, name = re.findall(r"CREATE DATABASE (\w+) OWNER (\w+)", script)[0][::-1]
    assert set(roles) == {APP_ROLE, owner}
    for service in NEEDS:
        dsn = urlsplit(settings_of(service).dsn)
        assert (dsn.username, dsn.password) == (APP_ROLE, passwords[roles[APP_ROLE]])
        assert (dsn.hostname, dsn.port, dsn.path) == ("postgres", 5432, f"/{name}")
    admin = urlsplit(settings_of("migrate").admin_dsn)
    assert (admin.username, admin.password) == (owner, passwords[roles[owner]])
    assert (admin.hostname, admin.path) == ("postgres", f"/{name}")
    knowing = {one for one in SERVICES if passwords[roles[owner]] in str(SERVICES[one])}
    assert knowing == {"postgres", "migrate"}
    assert f"--dbname={name}" in health_words("postgres")


def test_the_blob_store_is_the_one_that_is_asked() -> None:
    command = SERVICES["s3"]["command"]
    given = SERVICES["s3"]["environment"]
    for name in ("api", "worker"):
        settings = settings_of(name)
        assert settings.s3_endpoint == f"http://s3{command[command.index('--port') + 1]}"
        assert settings.s3_access_key == given["ROOT_ACCESS_KEY_ID"]
        assert settings.s3_secret_key == given["ROOT_SECRET_ACCESS_KEY"]
        assert SERVICES["bucket"]["entrypoint"][-1] == f"{command[-1]}/{settings.s3_bucket}"
    assert SERVICES["bucket"]["volumes"] == SERVICES["s3"]["volumes"] == [f"blobs:{command[-1]}"]


@pytest.mark.parametrize("text", ["${NAME}", "${NAME:?}", "${NAME:-}"])
def test_a_variable_says_what_it_is_for(text: str) -> None:
    with pytest.raises(AssertionError):
        filled([text])

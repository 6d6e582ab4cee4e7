"""Pictures of people and organisations from outside: taken in, shown, replaced, refused."""

import hashlib
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from PIL import Image

from api.pictures import MAX_IMAGE_BYTES
from domain.tenancy import MAIN
from ingest.keys import picture_key
from tests.database import Server
from tests.drawings import picture
from tests.hostile import png, png_bomb
from tests.processes import until
from tests.s3 import S3Server
from tests.site import Site, good, refused, running_site

BUCKET = "imprimatur"


@pytest.fixture(scope="module")
def s3_site(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose blobs are in a bucket."""
    with S3Server() as s3, postgres.database() as database:
        s3.create_bucket(BUCKET)
        with running_site(
            database,
            tmp_path_factory.mktemp("s3-pictures"),
            s3_bucket=BUCKET,
            s3_endpoint=s3.endpoint,
            s3_access_key=s3.access_key,
            s3_secret_key=s3.secret_key,
        ) as site:
            yield site


def drawn(kind: str = "PNG", size: tuple[int, int] = (300, 200), **options: Any) -> bytes:
    """An image that nobody has seen before."""
    colour = "#" + uuid4().hex[:6]
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **options)
    return file.getvalue()


def put(site: Site, by: str, path: str, content: bytes, **headers: str) -> httpx.Response:
    given = {"Content-Type": "application/octet-stream"} | headers
    return site.client(by).put(path, content=content, headers=given)


def shown(site: Site, by: str, address: str) -> Image.Image:
    return Image.open(BytesIO(good(site.client(by).get(site.url + address)).content))


def pictures(site: Site) -> set[str]:
    return set(site.store.keys(f"{MAIN}/pictures/"))


def key_of(address: str) -> str:
    return picture_key(MAIN, address.rpartition("=")[2])


def avatar(site: Site, by: str) -> str | None:
    return site.get(by, "/auth/me")["avatar"]


def test_a_person_has_a_picture(site: Site) -> None:
    follow_a_picture(site)


def test_a_person_has_a_picture_when_blobs_are_in_s3(s3_site: Site) -> None:
    follow_a_picture(s3_site)


def follow_a_picture(site: Site) -> None:
    """Taken in, shown to the others, replaced by another, and taken away."""
    somebody = site.newcomer("reader")
    name = somebody.username
    assert avatar(site, name) is None
    refused(site.client("reader").get(f"/people/{somebody.id}/avatar"), 404, "avatar_not_found")

    answer = good(put(site, name, "/me/avatar", drawn()))
    assert answer.headers["X-Position"] == str(answer.json()["position"])
    first = avatar(site, name)
    assert first is not None
    assert first.startswith(f"/api/v1/people/{somebody.id}/avatar?version=")
    assert shown(site, "reader", first).size == (256, 256)
    assert site.store.exists(key_of(first))

    good(site.client(name).put("/me/avatar", files={"image": ("me.jpg", drawn("JPEG"))}))
    second = avatar(site, name)
    assert second not in (None, first)
    until(lambda: not site.store.exists(key_of(first)))
    assert shown(site, "reader", second or "").format == "WEBP"

    site.ask(name, "DELETE", "/me/avatar")
    assert avatar(site, name) is None
    until(lambda: not site.store.exists(key_of(second or "")))
    refused(site.client("reader").get(f"/people/{somebody.id}/avatar"), 404, "avatar_not_found")
    changes = [one for one in site.trail(f"person-{somebody.id}") if "Avatar" in one["type"]]
    assert [one["actor"] for one in changes] == [somebody.id] * 3


def test_a_picture_is_the_upright_middle_without_remarks(site: Site) -> None:
    image = Image.new("RGB", (900, 300), "white")
    image.paste("red", (300, 0, 450, 300))  # after turning: the upper half of the middle
    image.paste("blue", (450, 0, 600, 300))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where I live"
    file = BytesIO()
    image.save(file, "JPEG", exif=exif, comment=b"where I live", quality=95)
    name = site.newcomer("reader").username
    good(put(site, name, "/me/avatar", file.getvalue()))
    content = good(site.client(name).get(site.url + (avatar(site, name) or ""))).content
    assert b"where I live" not in content
    assert b"EXIF" not in content
    with Image.open(BytesIO(content)) as seen:
        assert (seen.size, seen.format, dict(seen.getexif())) == ((256, 256), "WEBP", {})
        red, blue = (seen.convert("RGB").getpixel((128, at)) for at in (60, 196))
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert red[0] > 200 > 100 > red[2]
    assert blue[2] > 200 > 100 > blue[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "GIF"])
def test_every_kind_of_page_is_a_picture(site: Site, kind: str) -> None:
    good(put(site, "reader", "/me/avatar", picture(1, kind), **{"Content-Type": "image/png"}))
    assert shown(site, "reader", avatar(site, "reader") or "").size == (256, 256)


def test_a_logo_keeps_its_shape_and_its_transparency(site: Site) -> None:
    logo = Image.new("RGBA", (1024, 256), (0, 0, 0, 0))
    logo.paste((200, 0, 0, 255), (0, 0, 512, 256))
    file = BytesIO()
    logo.save(file, "PNG")
    good(put(site, "administrator", "/tenant/logo", file.getvalue()))
    address = site.get("anonymous", "/tenant")["logo"]
    with shown(site, "anonymous", address) as seen:
        assert seen.size == (512, 128)
        left, right = seen.convert("RGBA").getpixel((40, 64)), seen.getpixel((480, 64))
    assert isinstance(left, tuple)
    assert isinstance(right, tuple)
    assert (left[3], right[3]) == (255, 0)

    small = drawn("PNG", (64, 32))
    good(put(site, "administrator", "/tenant/logo", small))
    assert shown(site, "anonymous", site.get("anonymous", "/tenant")["logo"]).size == (64, 32)
    until(lambda: not site.store.exists(key_of(address)))
    site.ask("administrator", "DELETE", "/tenant/logo")
    assert site.get("anonymous", "/tenant")["logo"] is None
    refused(site.anonymous.get("/tenant/logo"), 404, "logo_not_found")


@pytest.mark.parametrize("by", ["reader", "moderator"])
def test_only_an_administrator_changes_the_logo(site: Site, by: str) -> None:
    refused(put(site, by, "/tenant/logo", drawn()), 403, "permission_denied")
    refused(site.client(by).delete("/tenant/logo"), 403, "permission_denied")


def test_pictures_are_for_who_is_signed_in(site: Site) -> None:
    person = site.newcomer("reader")
    good(put(site, person.username, "/me/avatar", drawn()))
    address = avatar(site, person.username) or ""
    refused(site.anonymous.get(site.url + address), 401, "not_signed_in")
    refused(put(site, "anonymous", "/me/avatar", drawn()), 401, "not_signed_in")
    site.ask("moderator", "POST", f"/people/{person.id}/ban", reason="Spam.")
    refused(put(site, person.username, "/me/avatar", drawn()), 403, "banned")
    refused(person.client.get(site.url + address), 403, "banned")


def test_a_picture_is_kept_for_ever_under_its_own_digest_alone(site: Site) -> None:
    person = site.newcomer("reader")
    good(put(site, person.username, "/me/avatar", drawn()))
    address = site.url + (avatar(site, person.username) or "")
    answer = good(person.client.get(address))
    digest = hashlib.sha256(answer.content).hexdigest()
    assert address.endswith(f"?version={digest}")
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
    assert answer.headers["Content-Type"] == "image/webp"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["ETag"] == f'"{digest}"'
    for version in ("", "?version=another"):
        plain = good(person.client.get(address.partition("?")[0] + version))
        assert (plain.headers["Cache-Control"], plain.content) == (
            "private, no-cache",
            answer.content,
        )
    again = person.client.get(address, headers={"If-None-Match": f'"{digest}"'})
    assert (again.status_code, again.content) == (304, b"")
    head = person.client.head(address)
    assert (head.status_code, head.headers["ETag"]) == (200, f'"{digest}"')


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "a bomb": (lambda: png_bomb(513), "image_bomb"),
    "many pixels": (lambda: png(50_000, 50_000, 2, b""), "image_too_large"),
    "cut off": (lambda: drawn("JPEG", (800, 800))[:2_000], "undecodable_image"),
    "an SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "type_mismatch"),
    "a PDF": (lambda: b"%PDF-1.7\n", "type_mismatch"),
    "a page": (lambda: b"<!doctype html><script>alert(1)</script>", "type_mismatch"),
    "a program": (lambda: b"\x7fELF" + bytes(100), "disguised_executable"),
    "an archive": (lambda: b"PK\3\4" + bytes(100), "nested_archive"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_image_is_refused_and_bans_nobody(site: Site, name: str) -> None:
    make, code = HOSTILE[name]
    person = site.newcomer("reader")
    before = pictures(site)
    answer = put(site, person.username, "/me/avatar", make(), **{"Content-Type": "image/png"})
    assert refused(answer, 422, "image_refused")["details"]["finding"] == code
    assert (pictures(site), site.arriving()) == (before, [])
    assert avatar(site, person.username) is None
    assert not any("Banned" in one["type"] for one in site.trail(f"person-{person.id}"))


def test_what_is_no_upload_of_an_image_is_refused(site: Site) -> None:
    client = site.client("reader")
    for kind in ("application/json", "application/zip", "text/html", "multipart/mixed"):
        answer = put(site, "reader", "/me/avatar", drawn(), **{"Content-Type": kind})
        refused(answer, 415, "unsupported_media_type")
    empty = refused(put(site, "reader", "/me/avatar", b""), 400, "validation_failed")
    assert empty["field_errors"].keys() == {"image"}
    other = client.put("/me/avatar", files={"picture": drawn()})
    assert refused(other, 400, "validation_failed")["field_errors"].keys() == {"image"}
    more = client.put("/me/avatar", files={"image": drawn()}, data={"person_id": "another"})
    assert refused(more, 400, "validation_failed")["field_errors"].keys() == {"person_id"}


@pytest.mark.parametrize("announced", [False, True])
def test_an_image_is_refused_at_the_byte_that_passes_the_limit(
    site: Site, *, announced: bool
) -> None:
    length = {"Content-Length": "9" * 9} if announced else {"Transfer-Encoding": "chunked"}
    request = site.begin("reader", "PUT", "/me/avatar", **{"Content-Type": "image/png"}, **length)
    if not announced:
        request.send_chunk(bytes(MAX_IMAGE_BYTES))
        assert not request.is_answered()
        request.send_chunk(b"\0")
    status, body = request.answer()
    assert (status, body["error"]["code"]) == (413, "too_large")
    assert body["error"]["details"] == {"limit": MAX_IMAGE_BYTES}


def holders(site: Site, address: str) -> list[str]:
    """Who holds the picture of an address, by the first part of their names."""
    with psycopg.connect(site.settings.dsn, autocommit=True) as connection:
        found = connection.execute(
            "SELECT split_part(owner, '/', 1) FROM ingest.blob_references WHERE key = %s",
            (key_of(address),),
        )
        return [first for (first,) in found.fetchall()]


def test_a_change_that_is_sent_again_is_one_change_and_one_blob(site: Site) -> None:
    person = site.newcomer("reader")
    key, content = {"Idempotency-Key": uuid4().hex}, drawn()
    first, again = (put(site, person.username, "/me/avatar", content, **key) for _ in "12")
    assert good(first).json() == good(again).json()
    other = put(site, person.username, "/me/avatar", drawn(), **key)
    refused(other, 422, "idempotency_key_reused")
    good(put(site, person.username, "/me/avatar", content))
    changes = [one for one in site.trail(f"person-{person.id}") if "Avatar" in one["type"]]
    assert len(changes) == 1
    address = avatar(site, person.username) or ""
    until(lambda: holders(site, address) == ["picture"])
    assert shown(site, "reader", address).size == (256, 256)


def test_two_people_of_one_face_each_keep_it(site: Site) -> None:
    content = drawn()
    ana, ben = site.newcomer("reader"), site.newcomer("reader")
    for one in (ana, ben):
        good(put(site, one.username, "/me/avatar", content))
    address = avatar(site, ana.username) or ""
    until(lambda: holders(site, address) == ["picture", "picture"])
    site.ask(ana.username, "DELETE", "/me/avatar")
    until(lambda: holders(site, address) == ["picture"])
    assert shown(site, "reader", avatar(site, ben.username) or "").size == (256, 256)

"""Pictures of people and organisations: taken as images of any kind, shown as small WebP files."""

import asyncio
from typing import Annotated, Any

from litestar import Response, get, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct

from api.commands import (
    SIGNED_IN,
    UNCHANGED,
    acceptance,
    accepted,
    envelope_of,
    errors,
)
from api.documents import OF_COMMANDS, OF_READS, WITH_ETAG, WITH_POSITION, documenting
from api.errors import AnyRequest, Refusal
from api.identity import signed_in, viewer_of
from api.parameters import NoParameters, from_texts
from api.queries import names_entity
from api.requests import ApiRequest
from api.site import Site, site_of
from api.storage import require_room
from api.tenants import tenant_of
from api.uploads import IncomingFile, announced_bytes, receive_body, receive_form
from commands.bus import NOTHING_APPENDED, Envelope
from commands.kernel import Command, PermissionDenied
from commands.pictures import LOGO, ChangeAvatar, ChangeLogo, avatar_of
from domain.people import Person
from domain.tenancy import Tenant
from ingest.blobs import BlobStore
from ingest.images import Drawing
from ingest.keys import picture_key
from ingest.pictures import MEDIA_TYPE, Incoming
from projections.kernel import API, Missing

MAX_IMAGE_BYTES = 5 * 1024 * 1024

IMAGE = "image"
"""The part of a form that is a picture's file."""

KINDS = ("image/jpeg", "image/png", "image/webp", "image/avif", "image/gif")
"""What is drawn anew; what an image is, its bytes say, and not its Content-Type."""

FOR_EVER = "max-age=31536000, immutable"

Version = Annotated[
    str, Meta(description="The digest of a picture, which may then be kept for ever")
]


class AvatarParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose picture, and which."""

    person_id: str
    version: Version = ""


class LogoParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which logo."""

    version: Version = ""


def avatar_address(person_id: str, sha256: str) -> str | None:
    """Where a person's picture is shown, None where there is none."""
    return f"{API}/people/{person_id}/avatar?version={sha256}" if sha256 else None


def _body() -> RequestBody:
    content = Schema(
        type=OpenAPIType.STRING,
        format=OpenAPIFormat.BINARY,
        description=f"An image, at most {MAX_IMAGE_BYTES} bytes",
    )
    form = Schema(type=OpenAPIType.OBJECT, required=[IMAGE], properties={IMAGE: content})
    bodies = {"multipart/form-data": form} | dict.fromkeys(KINDS, content)
    return RequestBody(
        content={kind: OpenAPIMediaType(schema=schema) for kind, schema in bodies.items()},
        required=True,
    )


UPLOAD_ANSWERS = acceptance(200) | errors(400, 401, 403, 404, 409, 413, 415, 422, 503)
PICTURE = {200: ResponseSpec(bytes, media_type=MEDIA_TYPE, generate_examples=False)}


@put(
    f"{API}/me/avatar",
    opt={"by_person": True},
    operation_id="changeAvatar",
    operation_class=documenting(takes=OF_COMMANDS, gives=WITH_POSITION, body=_body()),
    summary="Take another picture of oneself, of which the square in the middle is shown.",
    tags=["pictures"],
    responses=UPLOAD_ANSWERS,
    security=SIGNED_IN,
    request_max_body_size=None,
)
async def change_avatar(request: ApiRequest) -> ASGIResponse:
    envelope = envelope_of(request)
    await viewer_of(request)
    return await _take_in(request, envelope, avatar_of(envelope.actor), "avatar")


@put(
    f"{API}/tenant/logo",
    operation_id="changeLogo",
    operation_class=documenting(takes=OF_COMMANDS, gives=WITH_POSITION, body=_body()),
    summary="Take another logo for one's organisation.",
    tags=["pictures"],
    responses=UPLOAD_ANSWERS,
    security=SIGNED_IN,
    request_max_body_size=None,
)
async def change_logo(request: ApiRequest) -> ASGIResponse:
    envelope = envelope_of(request)
    if not (await viewer_of(request)).may("tenancy.administer"):
        raise PermissionDenied("tenancy.administer")
    return await _take_in(request, envelope, LOGO, "logo")


async def _take_in(
    request: ApiRequest, envelope: Envelope, subject: str, drawing: Drawing
) -> ASGIResponse:
    """Receive an image, draw it anew, and record what was drawn."""
    site = site_of(request)
    announced = announced_bytes(request, MAX_IMAGE_BYTES)
    await require_room(site, envelope.tenant, announced)
    with IncomingFile(site.scratch, IMAGE, MAX_IMAGE_BYTES) as file:
        await _receive(request, file)
        drawn = await site.pictures.draw(file.path, drawing)
    await require_room(site, envelope.tenant, len(drawn))
    incoming = Incoming(envelope.tenant, subject, site.new_id())
    return await _record(site, envelope, incoming, drawn)


async def _receive(request: ApiRequest, file: IncomingFile) -> None:
    kind, options = request.content_type
    if kind == "multipart/form-data":
        given = await receive_form(request.stream(), options.get("boundary", ""), file)
        from_texts(NoParameters, given.items())
    elif kind.startswith("image/") or kind == "application/octet-stream":
        await receive_body(request.stream(), file)
    else:
        raise Refusal(415, "unsupported_media_type")


async def _record(site: Site, envelope: Envelope, incoming: Incoming, drawn: bytes) -> ASGIResponse:
    """Store a picture, then append the command; where it is not what is shown, it goes again.

    Where nobody knows whether it was appended, the picture stays; the worker sweeps what is left.
    """
    sha256 = await site.pictures.hold(incoming, drawn)
    try:
        outcome = await site.bus.handle(_command(incoming, sha256), envelope)
    except NOTHING_APPENDED:
        await site.pictures.drop(incoming)
        raise
    if not await site.pictures.is_shown(incoming):  # a retry, or the picture that was there
        await site.pictures.drop(incoming)
    return accepted(outcome, 200)


def _command(incoming: Incoming, sha256: str) -> Command:
    kind = ChangeLogo if incoming.subject == LOGO else ChangeAvatar
    return kind(picture_id=incoming.picture_id, sha256=sha256)


@get(
    f"{API}/people/{{person_id:str}}/avatar",
    operation_id="getAvatar",
    operation_class=documenting(AvatarParameters, takes=OF_READS, gives=WITH_ETAG),
    opt={"parameters": AvatarParameters},
    summary="Get the picture of somebody of one's organisation.",
    tags=["pictures"],
    responses=PICTURE | UNCHANGED | errors(400, 401, 403, 404, 503),
    security=SIGNED_IN,
)
async def get_avatar(request: ApiRequest) -> Response[Any]:
    signed_in(request)
    await viewer_of(request)
    asked: AvatarParameters = request.parameters
    person = await site_of(request).bus.state(Person, asked.person_id, tenant_of(request))
    if person is None or not person.avatar:
        raise Missing("avatar")
    return await _shown(request, person.avatar, asked.version, "private")


@get(
    f"{API}/tenant/logo",
    operation_id="getLogo",
    operation_class=documenting(LogoParameters, takes=OF_READS, gives=WITH_ETAG),
    opt={"parameters": LogoParameters},
    summary="Get the logo of the organisation that the address belongs to.",
    tags=["pictures"],
    responses=PICTURE | UNCHANGED | errors(400, 401, 403, 404, 503),
)
async def get_logo(request: ApiRequest) -> Response[Any]:
    asked: LogoParameters = request.parameters
    tenant_id = tenant_of(request)
    tenant = await site_of(request).bus.state(Tenant, tenant_id, tenant_id)
    if tenant is None or not tenant.logo:
        raise Missing("logo")
    return await _shown(request, tenant.logo, asked.version, "public")


async def _shown(request: AnyRequest, sha256: str, version: str, seen_by: str) -> Response[Any]:
    """A picture, to be kept for ever under its own digest and asked about again under none."""
    kept = FOR_EVER if version == sha256 else "no-cache"
    headers = {"Cache-Control": f"{seen_by}, {kept}", "ETag": f'"{sha256}"'}
    if names_entity(request, headers["ETag"].encode()):
        return Response(None, status_code=304, headers=headers)
    key = picture_key(tenant_of(request), sha256)
    content = await asyncio.to_thread(_content, site_of(request).blobs, key)
    return Response(content, media_type=MEDIA_TYPE, headers=headers)


def _content(blobs: BlobStore, key: str) -> bytes:
    with blobs.open(key) as reader:
        return b"".join(reader)


HANDLERS = [change_avatar, change_logo, get_avatar, get_logo]

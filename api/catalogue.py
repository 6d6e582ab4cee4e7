"""What is not plain about the catalogue: archives coming in, images going out."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, cast

from litestar import Response, get, post, put
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import FromPath
from litestar.response import Stream
from litestar.response.base import ASGIResponse
from msgspec import Meta, Struct

from api.commands import (
    SIGNED_IN,
    SIGNED_IN_OR_NOT,
    UNCHANGED,
    acceptance,
    accepted,
    envelope_of,
    errors,
)
from api.documents import (
    OF_COMMANDS,
    OF_FILES,
    RANGE,
    WITH_ETAG,
    WITH_LOCATION,
    WITH_POSITION,
    WITH_RANGES,
    documenting,
)
from api.errors import AnyRequest, Refusal
from api.identity import viewer_of
from api.parameters import from_texts, schemas_of
from api.queries import names_any, names_entity, position_of
from api.requests import ApiRequest
from api.site import Site, site_of
from api.storage import require_room
from api.tenants import tenant_of
from api.uploads import (
    MAX_ARCHIVE_BYTES,
    IncomingFile,
    announced_bytes,
    receive_body,
    receive_form,
)
from commands.bus import NOTHING_APPENDED, Envelope
from commands.catalogue import UploadChapter
from commands.kernel import NotFound
from domain.catalogue import (
    ChapterNumber,
    Language,
    Series,
    Title,
    VolumeNumber,
    archive_key,
)
from ingest.blobs import BlobReader, ByteRange
from ingest.keys import page_key, tenant_key
from projections.catalogue import Catalogue, image_is_public
from projections.kernel import API, Viewer

IMMUTABLE = "max-age=31536000, immutable"
MEDIA_TYPES = {
    "jpg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "gif": "image/gif",
}


class ChapterFields(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is said about a chapter beside its archive."""

    number: ChapterNumber
    volume: VolumeNumber | None = None
    title: Title | None = None
    language: Language | None = None


class ImageParameters(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which image, and what opens it."""

    chapter_id: str
    name: str
    preview: Annotated[str, Meta(description="Opens a chapter that is not public yet")] = ""


FORM = Schema(
    type=OpenAPIType.OBJECT,
    required=["archive", "number"],
    properties={
        "archive": Schema(
            type=OpenAPIType.STRING,
            format=OpenAPIFormat.BINARY,
            description=f"A ZIP of images, at most {MAX_ARCHIVE_BYTES} bytes",
        ),
        **cast("Any", schemas_of(ChapterFields)),
    },
)
BYTES = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)


def _body(media_type: str, schema: Schema) -> RequestBody:
    return RequestBody(content={media_type: OpenAPIMediaType(schema=schema)}, required=True)


UPLOADED = {**WITH_POSITION, **WITH_LOCATION}
UPLOAD_ANSWERS = acceptance(202) | errors(400, 401, 403, 404, 409, 413, 415, 422, 503)


@post(
    f"{API}/series/{{series_id:str}}/chapters",
    status_code=202,
    operation_id="uploadChapter",
    operation_class=documenting(
        takes=OF_COMMANDS, gives=UPLOADED, body=_body("multipart/form-data", FORM)
    ),
    summary="Hand in a chapter as a multipart form.",
    tags=["catalogue"],
    responses=UPLOAD_ANSWERS,
    security=SIGNED_IN,
    request_max_body_size=None,
)
async def upload_chapter(series_id: FromPath[str], request: ApiRequest) -> ASGIResponse:
    site, envelope, series = await _admit(request, series_id)
    kind, options = request.content_type
    if kind != "multipart/form-data":
        raise Refusal(415, "unsupported_media_type")
    with IncomingFile(site.scratch) as file:
        given = await receive_form(request.stream(), options.get("boundary", ""), file)
        fields = from_texts(ChapterFields, given.items())
        return await _hand_in(site, envelope, series_id, series, fields, file)


@put(
    f"{API}/series/{{series_id:str}}/chapters",
    status_code=202,
    operation_id="uploadChapterBody",
    operation_class=documenting(
        ChapterFields, takes=OF_COMMANDS, gives=UPLOADED, body=_body("application/zip", BYTES)
    ),
    opt={"parameters": ChapterFields},
    summary="Hand in a chapter whose archive is the body.",
    tags=["catalogue"],
    responses=UPLOAD_ANSWERS,
    security=SIGNED_IN,
    request_max_body_size=None,
)
async def upload_chapter_body(series_id: FromPath[str], request: ApiRequest) -> ASGIResponse:
    site, envelope, series = await _admit(request, series_id)
    if request.content_type[0] not in ("application/zip", "application/octet-stream"):
        raise Refusal(415, "unsupported_media_type")
    with IncomingFile(site.scratch) as file:
        await receive_body(request.stream(), file)
        return await _hand_in(site, envelope, series_id, series, request.parameters, file)


async def _admit(request: AnyRequest, series_id: str) -> tuple[Site, Envelope, Series]:
    """Refuse before the archive is taken what would be refused after it."""
    envelope = envelope_of(request)
    announced = announced_bytes(request, MAX_ARCHIVE_BYTES)
    site = site_of(request)
    anything = UploadChapter(series_id=series_id, number=0, archive_sha256="", archive_bytes=0)
    await site.bus.rehearse(anything, envelope)
    series = await site.bus.state(Series, series_id, envelope.tenant)
    if series is None:
        raise NotFound("series")
    await require_room(site, envelope.tenant, announced)
    return site, envelope, series


async def _hand_in(
    site: Site,
    envelope: Envelope,
    series_id: str,
    series: Series,
    fields: ChapterFields,
    file: IncomingFile,
) -> ASGIResponse:
    """Store the archive, then append the command; where that is refused, the archive goes again.

    Where nobody knows whether it was appended, the archive stays; the worker sweeps what is left.
    """
    await require_room(site, envelope.tenant, file.size)
    chapter_id = site.new_id()
    archive = archive_key(series.slug, fields.volume, fields.number, chapter_id)
    key = tenant_key(envelope.tenant, archive)
    command = UploadChapter(
        chapter_id=chapter_id,
        series_id=series_id,
        number=fields.number,
        volume=fields.volume,
        title=fields.title,
        language=fields.language,
        archive_sha256=file.sha256,
        archive_bytes=file.size,
    )
    await asyncio.to_thread(site.blobs.put, key, file.path, "application/zip")
    try:
        outcome = await site.bus.handle(command, envelope)
    except NOTHING_APPENDED:
        await asyncio.to_thread(site.blobs.delete, key)
        raise
    if outcome.id != chapter_id:  # a retry, which was answered with the chapter made before
        await asyncio.to_thread(site.blobs.delete, key)
    return accepted(outcome, 202, f"{API}/chapters")


@get(
    f"{API}/chapters/{{chapter_id:str}}/images/{{name:str}}",
    operation_id="getImage",
    summary="Get a page's image or thumbnail.",
    tags=["catalogue"],
    operation_class=documenting(
        ImageParameters, takes=OF_FILES, gives={**WITH_ETAG, **WITH_RANGES}
    ),
    opt={"parameters": ImageParameters},
    responses={
        200: ResponseSpec(bytes, media_type="image/*", generate_examples=False),
        206: ResponseSpec(
            bytes, media_type="image/*", generate_examples=False, description="A range of it"
        ),
    }
    | UNCHANGED
    | errors(400, 401, 403, 404, 416, 503, 504),
    security=SIGNED_IN_OR_NOT,
)
async def get_image(request: ApiRequest) -> Response[Any]:
    site = site_of(request)
    image: ImageParameters = request.parameters
    wanted = position_of(request)
    if wanted is not None:
        await site.positions.reach(Catalogue, wanted)
    public = await _admit_image(request, image)
    headers = {
        "Cache-Control": f"{'public' if public else 'private'}, {IMMUTABLE}",
        "ETag": f'"{image.name}"',
        "Accept-Ranges": "bytes",
    }
    if names_any(request) or names_entity(request, headers["ETag"].encode()):
        return Response(None, status_code=304, headers=headers)
    wanted_bytes = _range(request, headers["ETag"])
    key = page_key(tenant_of(request), image.name)
    reader = await asyncio.to_thread(site.blobs.open, key, wanted_bytes)
    headers["Content-Length"] = str(reader.length)
    if wanted_bytes:
        first, _ = wanted_bytes
        headers["Content-Range"] = f"bytes {first}-{first + reader.length - 1}/{reader.size}"
    return Stream(
        _chunks(reader),
        media_type=MEDIA_TYPES[image.name.rpartition(".")[2]],
        status_code=206 if wanted_bytes else 200,
        headers=headers,
    )


def _range(request: AnyRequest, etag: str) -> ByteRange | None:
    """The range that is asked for; several, or the end of a file, are answered by all of it."""
    found = RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = int(found[1]), int(found[2]) if found[2] else None
    return None if last is not None and last < first else (first, last)


async def _admit_image(request: AnyRequest, image: ImageParameters) -> bool:
    """Whether anybody may see the image; raises Missing for whom it does not exist."""
    site, tenant = site_of(request), tenant_of(request)
    opened = site.tokens.opens(image.preview, image.chapter_id, site.clock())
    viewer = Viewer() if opened else await viewer_of(request)
    async with site.pool.of(tenant) as connection:
        return await image_is_public(
            connection, tenant, image.chapter_id, image.name, viewer, opened=opened
        )


def _chunks(reader: BlobReader) -> Iterator[bytes]:
    with reader:
        yield from reader


HANDLERS = [upload_chapter, upload_chapter_body, get_image]

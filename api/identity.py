"""Who sends a request."""

from api.errors import AnyRequest, Refusal
from api.site import site_of
from commands.kernel import check_standing
from projections.kernel import Viewer

TENANT = "main"


def claimed_person(request: AnyRequest) -> str | None:
    """The person whose token a request carries, None without one; a token that is bad is 401."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    person = site_of(request).tokens.person(token.strip()) if scheme.lower() == "bearer" else None
    if person is None:
        raise Refusal(401, "not_signed_in")
    return person


def signed_in(request: AnyRequest) -> str:
    """The person whose token a request carries; 401 without one."""
    person = claimed_person(request)
    if person is None:
        raise Refusal(401, "not_signed_in")
    return person


async def viewer_of(request: AnyRequest) -> Viewer:
    """The reader with the permissions of this moment; nobody in particular without a token."""
    person_id = claimed_person(request)
    if person_id is None:
        return Viewer()
    site = site_of(request)
    person = await site.bus.person(person_id, TENANT)
    check_standing(person, site.clock())
    return Viewer(person_id, person.permissions)

"""A real OpenID Connect provider on loopback: authlib's server, which checks codes and PKCE."""

import secrets
from base64 import urlsafe_b64encode
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Barrier, Thread
from time import time
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from authlib.oauth2.rfc6749 import AuthorizationServer, OAuth2Error, OAuth2Request, grants
from authlib.oauth2.rfc6749.errors import AccessDeniedError
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core import OpenIDCode
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from msgspec import Struct, json

CLIENT_ID = "client-of-the-tests"
CLIENT_SECRET = "client-secret-of-the-tests"


class User(Struct, frozen=True):
    """Somebody with an account at the provider."""

    sub: str
    email: str
    email_verified: Any = True
    name: str = ""


class Client:
    """The one client that the provider knows, as authlib asks about it."""

    def __init__(self, redirect_uri: str) -> None:
        self.redirect_uri = redirect_uri

    def get_client_id(self) -> str:
        return CLIENT_ID

    def get_default_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_allowed_scope(self, scope: str) -> str:
        return scope

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri == self.redirect_uri

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == CLIENT_SECRET

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "authorization_code"


class Code(Struct, frozen=True):
    """A code that was given out, and for what."""

    code: str
    user: User
    redirect_uri: str
    scope: str
    nonce: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def get_nonce(self) -> str:
        return self.nonce

    def get_auth_time(self) -> None:
        return None

    get_acr = get_amr = get_auth_time


class Provider:
    """What the provider knows, and how it is to lie."""

    def __init__(self, port: int) -> None:
        self.issuer = f"http://127.0.0.1:{port}"
        self.client = Client("")
        self.user = User("1", "nobody@example.org")
        self.codes: dict[str, Code] = {}
        self.issued: list[str] = []
        """Every code and token that was ever given out."""
        self.asked: list[str] = []
        self.keys = [new_key()]
        self.denies = False
        self.broken: set[str] = set()
        """The paths that answer by an error of the server."""
        self.lies: dict[str, Any] = {}
        """What ID tokens say instead of the truth; None leaves a claim out."""
        self.signs_with: Any = None
        self.unsigned = False
        self.algorithm = "RS256"
        self.waiting: Barrier | None = None
        """Where all who ask for tokens wait for each other."""
        self._server = _Server(self)

    def rotate(self) -> None:
        """Sign with a new key from now on, and publish no other."""
        self.keys = [new_key()]

    def metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
        }

    def id_token(self, claims: dict[str, Any]) -> str:
        said = {name: value for name, value in (claims | self.lies).items() if value is not None}
        if self.unsigned:
            parts = (json.encode({"alg": "none"}), json.encode(said), b"")
            return ".".join(urlsafe_b64encode(one).rstrip(b"=").decode() for one in parts)
        key = self.signs_with or self.keys[-1]
        header = {"alg": self.algorithm, "kid": self.keys[-1].kid}
        return jwt.encode(header, said, key, [self.algorithm])

    def answer(
        self, method: str, uri: str, headers: dict[str, str], form: dict[str, str]
    ) -> tuple[int, Any, list[tuple[str, str]]]:
        """The status, body and headers of an answer."""
        path = urlsplit(uri).path
        self.asked.append(path)
        if path in self.broken:
            return 500, {"error": "server_error"}, []
        if path == "/.well-known/openid-configuration":
            return 200, self.metadata(), []
        if path == "/jwks":
            return 200, KeySet([*self.keys]).as_dict(), []
        request = _Request(method, uri, headers, form)
        if path == "/authorize":
            return self._server.authorize(request, None if self.denies else self.user)
        if self.waiting is not None:
            self.waiting.wait(timeout=30)
        return self._server.token(request)


class _Request(OAuth2Request):
    """A request as authlib takes it."""

    def __init__(
        self, method: str, uri: str, headers: dict[str, str], form: dict[str, str]
    ) -> None:
        cast("Any", super()).__init__(method, uri, headers=headers)
        self._form = form
        self.payload: Any = BasicOAuth2Payload(dict(parse_qsl(urlsplit(uri).query)) | form)

    @property
    def args(self) -> Any:
        return dict(parse_qsl(urlsplit(self.uri).query))

    @property
    def form(self) -> dict[str, str]:
        return self._form


class _CodeGrant(grants.AuthorizationCodeGrant):
    server: Any
    TOKEN_ENDPOINT_AUTH_METHODS = ["client_secret_basic"]

    def save_authorization_code(self, code: str, request: Any) -> None:
        said = request.payload.data
        provider: Provider = self.server.provider
        provider.issued.append(code)
        provider.codes[code] = Code(
            code=code,
            user=request.user,
            redirect_uri=said["redirect_uri"],
            scope=said["scope"],
            nonce=said["nonce"],
            code_challenge=said["code_challenge"],
            code_challenge_method=said["code_challenge_method"],
        )

    def query_authorization_code(self, code: str, client: Any) -> Code | None:
        return self.server.provider.codes.get(code)

    def delete_authorization_code(self, authorization_code: Code) -> None:
        self.server.provider.codes.pop(authorization_code.code)

    def authenticate_user(self, authorization_code: Code) -> User:
        return authorization_code.user


class _IdTokens(OpenIDCode):
    def __init__(self, provider: Provider) -> None:
        super().__init__(require_nonce=True)
        self._provider = provider

    def exists_nonce(self, nonce: str, request: Any) -> bool:
        return any(code.nonce == nonce for code in self._provider.codes.values())

    def encode_id_token(self, token: Any, request: Any) -> str:
        code: Code = request.authorization_code
        now = int(time())
        about = {"sub": code.user.sub, "email": code.user.email, "name": code.user.name}
        said = {"iss": self._provider.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 300}
        verified = {"nonce": code.nonce, "email_verified": code.user.email_verified}
        id_token = self._provider.id_token(about | said | verified)
        self._provider.issued += [id_token, token["access_token"]]
        return id_token


class _Server(AuthorizationServer):
    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self.provider = provider
        untyped = cast("Any", self)
        untyped.register_token_generator("default", BearerTokenGenerator(_token))
        untyped.register_grant(_CodeGrant, [_IdTokens(provider), CodeChallenge(required=True)])

    def authorize(self, request: Any, user: User | None) -> Any:
        untyped = cast("Any", self)
        try:
            grant = untyped.get_consent_grant(request)
            if user is None:
                error = AccessDeniedError(redirect_uri=self.provider.client.redirect_uri)
                error.state = request.payload.state
                raise error
            return grant.create_authorization_response(grant.request.payload.redirect_uri, user)
        except OAuth2Error as error:
            return cast("Any", error)()

    def token(self, request: Any) -> Any:
        return cast("Any", self).create_token_response(request)

    def query_client(self, client_id: str) -> Any:
        return self.provider.client if client_id == CLIENT_ID else None

    def save_token(self, token: Any, request: Any) -> None:
        pass

    def create_oauth2_request(self, request: Any) -> Any:
        return request

    def handle_response(self, status: int, body: Any, headers: Any) -> Any:
        return status, body, headers

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        pass


def _token(**_: Any) -> str:
    return secrets.token_urlsafe(32)


def new_key() -> RSAKey:
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._answer(dict(parse_qsl(sent)))

    def _answer(self, form: dict[str, str]) -> None:
        uri = f"{self.provider.issuer}{self.path}"
        status, body, headers = self.provider.answer(
            self.command, uri, dict(self.headers.items()), form
        )
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if not any(name.lower() == "content-type" for name, _ in headers):
            self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode() if isinstance(body, str) else json.encode(body))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name is the library's
        pass


@contextmanager
def provider(redirect_uri: str = "", port: int = 0) -> Generator[Provider]:
    """A provider that serves while the block runs."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Handler) as server:
        made = Provider(server.server_port)
        made.client.redirect_uri = redirect_uri
        server.RequestHandlerClass = type("Handler", (_Handler,), {"provider": made})
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()

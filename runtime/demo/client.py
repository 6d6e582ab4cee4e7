"""A person in the story: an HTTP client that is signed in."""

from typing import Any, Self

import httpx

WAIT_SECONDS = 60.0


class StepFailed(Exception):
    """A step of the story did not hold."""


class Person:
    """Somebody who talks to the site over HTTP, and reads what they wrote."""

    def __init__(self, url: str, username: str = "") -> None:
        self.username = username
        self.id = ""
        self._position = 0
        self._client = httpx.Client(base_url=f"{url}/api/v1", timeout=WAIT_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def sign_in(self, password: str) -> Self:
        answer = self.ask("POST", "/auth/login", username=self.username, password=password)
        self._client.headers["Authorization"] = f"Bearer {answer['access_token']}"
        self.id = self.read("/auth/me")["id"]
        return self

    def ask(self, method: str, path: str, key: str = "", **body: Any) -> dict[str, Any]:
        """Send a command; under a key, so that the story told twice changes nothing twice."""
        headers = {"Idempotency-Key": key} if key else {}
        response = self._client.request(method, path, json=body or None, headers=headers)
        return self._taken(response)

    def upload(self, series: str, key: str, archive: bytes, **fields: str) -> str:
        """Hand in a chapter and return its id."""
        response = self._client.post(
            f"/series/{series}/chapters",
            data=fields,
            files={"archive": ("chapter.zip", archive, "application/zip")},
            headers={"Idempotency-Key": key},
        )
        return self._taken(response)["id"]

    def read(self, path: str, *, at: int = 0, **parameters: str) -> Any:
        """Read what is no older than what this person wrote, or than a position."""
        position = max(at, self._position)
        headers = {"X-Min-Position": str(position)} if position else {}
        return checked(self._client.get(path, params=parameters, headers=headers)).json()

    def attempt(self, path: str, body: dict[str, str]) -> httpx.Response:
        """Send a body and take whatever comes of it."""
        return self._client.post(path, json=body)

    def fetch(self, path: str) -> httpx.Response:
        """Get whatever there is at an address of the API, or its refusal."""
        return self._client.get(path.removeprefix("/api/v1"))

    @property
    def position(self) -> int:
        """The position that shows everything this person wrote."""
        return self._position

    def _taken(self, response: httpx.Response) -> dict[str, Any]:
        self._position = max(self._position, int(checked(response).headers.get("X-Position", "0")))
        return response.json()


def checked(response: httpx.Response) -> httpx.Response:
    """A response that is a success; raises StepFailed with what the site said otherwise."""
    if response.is_error:
        said = f"{response.request.method} {response.request.url.path}: {response.text}"
        raise StepFailed(f"{response.status_code} for {said}")
    return response

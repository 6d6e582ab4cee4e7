"""Answers kept under the position of their read model, so that what is kept is never outdated."""

from collections import OrderedDict

from msgspec import Struct

from projections.kernel import ReadModel

MAX_BYTES = 64 * 1024 * 1024


class Answer(Struct, frozen=True):
    """An encoded answer, and the change of its read model that it shows.

    `packed` is the same body under gzip, once somebody has asked for it.
    """

    model: type[ReadModel]
    changed: int
    body: bytes
    etag: bytes
    packed: bytes = b""


class AnswerCache:
    """Answers to what anybody may ask, by tenant and address; the oldest make room."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[tuple[str, str, bytes], Answer] = OrderedDict()

    def get(self, tenant: str, path: str, query: bytes) -> Answer | None:
        return self._answers.get((tenant, path, query))

    def put(self, tenant: str, path: str, query: bytes, answer: Answer) -> None:
        before = self._answers.pop((tenant, path, query), None)
        self._bytes += _size(query, answer) - (_size(query, before) if before else 0)
        self._answers[tenant, path, query] = answer
        while self._bytes > self._max_bytes:
            (_, _, oldest_query), oldest = self._answers.popitem(last=False)
            self._bytes -= _size(oldest_query, oldest)


def _size(query: bytes, answer: Answer) -> int:
    return len(answer.body) + len(answer.packed) + len(query) + 500

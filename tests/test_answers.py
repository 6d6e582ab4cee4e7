"""Answers kept in memory: as many as there is room for, and the oldest make it."""

from msgspec.structs import replace

from api.answers import Answer, AnswerCache
from domain.tenancy import MAIN
from projections.catalogue import Catalogue

KIB = Answer(Catalogue, 1, bytes(1_024), b"tag")


def kept(cache: AnswerCache, numbers: range) -> list[int]:
    return [number for number in numbers if cache.get(MAIN, f"/series/{number}", b"") is not None]


def filled(numbers: range, answer: Answer = KIB) -> AnswerCache:
    """A cache with room for some ten answers, after answers to these addresses were put in."""
    cache = AnswerCache(10 * 1_600)
    for number in numbers:
        cache.put(MAIN, f"/series/{number}", b"", answer)
    return cache


def test_the_oldest_answers_make_room() -> None:
    assert kept(filled(range(10)), range(10)) == list(range(10))
    assert kept(filled(range(25)), range(25)) == list(range(15, 25))


def test_a_question_is_counted_as_well_as_its_answer() -> None:
    cache = AnswerCache(10 * 1_600)
    for number in range(25):
        cache.put(MAIN, "/series", b"%d" % number * 10_000, KIB)
    assert [one for one in range(25) if cache.get(MAIN, "/series", b"%d" % one * 10_000)] == []


def test_an_answer_that_is_put_again_takes_the_room_of_one() -> None:
    cache = filled(range(10))
    for _ in range(100):
        cache.put(MAIN, "/series/3", b"", KIB)
    assert kept(cache, range(10)) == list(range(10))
    cache.put(MAIN, "/series/10", b"", KIB)
    assert kept(cache, range(11)) == list(range(1, 11))


def test_what_is_packed_is_counted() -> None:
    packed = replace(KIB, packed=bytes(1_600))
    assert kept(filled(range(10), packed), range(10)) == list(range(5, 10))


def test_an_answer_larger_than_all_the_room_is_not_kept() -> None:
    cache = filled(range(3))
    cache.put(MAIN, "/series", b"", replace(KIB, body=bytes(100_000)))
    assert cache.get(MAIN, "/series", b"") is None
    cache.put(MAIN, "/series/4", b"", KIB)
    assert kept(cache, range(5)) == [4]

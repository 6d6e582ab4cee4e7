"""Lists: pages, orderings, filters, and the search for beginnings of words."""

import operator
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.site import Site, refused

COUNT = 25
KINDS = ("manga", "manhwa", "manhua", "comic", "webtoon")
STATUSES = ("ongoing", "completed", "hiatus", "canceled")
RATINGS = ("safe", "suggestive", "explicit")


@pytest.fixture(scope="module")
def shelf(site: Site) -> str:
    """A category of COUNT series that differ in everything, and of nothing else."""
    category = f"Shelf {uuid4().hex}"
    for number in range(COUNT):
        series = site.series(
            title=f"{number * 7 % COUNT:02} of x{uuid4().hex}",
            kind=KINDS[number % 5],
            status=STATUSES[number % 4],
            rating=RATINGS[number % 3],
            categories=[category, f"Every {number % 2}", f"Third {number % 3}"],
        )
        if number % 10 == 0:
            site.approved(series)
    return category


def test_a_page_has_twenty_results_and_leads_to_the_next(site: Site, shelf: str) -> None:
    first = site.get("anonymous", "/series", category=shelf)
    assert first.keys() == {"count", "next", "previous", "results", "filters_applied"}
    assert (first["count"], len(first["results"]), first["previous"]) == (COUNT, 20, None)
    second = follow(site, first["next"])
    assert (second["count"], len(second["results"]), second["next"]) == (COUNT, 5, None)
    assert follow(site, second["previous"]) == first
    ids = {one["id"] for page in (first, second) for one in page["results"]}
    assert len(ids) == COUNT


def follow(site: Site, address: str) -> Any:
    """What is at an address that a list leads to."""
    return site.anonymous.get(site.url + address).json()


def test_pages_of_any_size_show_each_result_once(site: Site, shelf: str) -> None:
    whole = site.get("anonymous", "/series", category=shelf, page_size=100)
    assert (len(whole["results"]), whole["next"]) == (COUNT, None)
    for size in (1, 7, 25):
        page = site.get("anonymous", "/series", category=shelf, page_size=size)
        results = page["results"]
        while page["next"]:
            assert len(page["results"]) == size
            page = follow(site, page["next"])
            assert page["results"]
            results += page["results"]
        assert results == whole["results"]


def test_beyond_the_end_there_is_nothing(site: Site, shelf: str) -> None:
    for page in (3, 100_000):
        answer = site.get("anonymous", "/series", category=shelf, page=page)
        assert (answer["count"], answer["results"], answer["next"]) == (COUNT, [], None)


@pytest.mark.parametrize(
    ("path", "by"),
    [
        ("/series", "anonymous"),
        ("/me/series", "uploader"),
        ("/moderation/series", "moderator"),
        ("/moderation/queue", "moderator"),
        ("/me/uploads", "uploader"),
    ],
)
@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ("page", ["0", "-1", "100001", "1.5", "one", "", "9" * 30, "0x1"]),
        ("page_size", ["0", "-1", "101", "all", ""]),
        ("ordering", ["", "nothing", "password", "title,id", "--title"]),
        ("nothing", ["1", ""]),
        ("Page", ["1"]),
    ],
)
def test_a_parameter_that_means_nothing_is_refused(
    site: Site, path: str, by: str, parameter: str, values: list[str]
) -> None:
    for value in values:
        answer = site.client(by).get(path, params={parameter: value})
        error = refused(answer, 400, "validation_failed")
        assert error["field_errors"].keys() == {parameter}


@pytest.mark.parametrize("ordering", ["title", "created_at", "updated_at", "chapter_count"])
def test_series_come_in_the_order_that_is_asked_for(site: Site, shelf: str, ordering: str) -> None:
    by_field: Callable[[dict[str, Any]], Any] = operator.itemgetter(ordering)
    for wanted, downwards in ((ordering, False), (f"-{ordering}", True)):
        answer = site.get("anonymous", "/series", category=shelf, page_size=100, ordering=wanted)
        values = [by_field(one) for one in answer["results"]]
        assert values == sorted(values, reverse=downwards)
        assert len(set(values)) > 1


def test_the_latest_change_comes_first_unless_asked_otherwise(site: Site, shelf: str) -> None:
    plain = site.get("anonymous", "/series", category=shelf)
    asked = site.get("anonymous", "/series", category=shelf, ordering="-updated_at")
    assert plain["results"] == asked["results"]


@pytest.mark.parametrize(
    ("name", "values"), [("kind", KINDS), ("status", STATUSES), ("rating", RATINGS)]
)
def test_of_several_values_of_a_filter_any_will_do(
    site: Site, shelf: str, name: str, values: tuple[str, ...]
) -> None:
    series = site.get("anonymous", "/series", category=shelf, page_size=100)["results"]
    for wanted in ([values[0]], list(values[:2]), list(values)):
        answer = site.get("anonymous", "/series", category=shelf, page_size=100, **{name: wanted})
        expected = {one["id"] for one in series if one[name] in wanted}
        assert {one["id"] for one in answer["results"]} == expected
        assert answer["count"] == len(expected) > 0
        assert answer["filters_applied"] == {"category": [shelf], name: wanted}
    for wrong in ("nothing", "", values[0].upper(), ",".join(values)):
        answer = site.anonymous.get("/series", params={name: wrong})
        error = refused(answer, 400, "validation_failed")
        assert error["field_errors"].keys() == {name}


def test_of_several_categories_all_are_needed_in_any_case(site: Site, shelf: str) -> None:
    wanted = [shelf.upper(), "every 0", "third 1"]
    answer = site.get("anonymous", "/series", category=wanted, page_size=100)
    assert answer["count"] == sum(n % 2 == 0 and n % 3 == 1 for n in range(COUNT))
    for one in answer["results"]:
        assert {shelf, "Every 0", "Third 1"} == set(one["categories"])


def test_filters_of_every_kind_apply_together_and_stay_on_every_page(
    site: Site, shelf: str
) -> None:
    asked = {"category": shelf, "kind": ["manga", "comic"], "search": "0", "page_size": 2}
    page = site.get("anonymous", "/series", **asked)
    count, results = page["count"], page["results"]
    while page["next"]:
        page = follow(site, page["next"])
        results += page["results"]
    assert count == len(results) > 2
    for one in results:
        assert one["kind"] in asked["kind"]
        assert one["title"].startswith("0")


@pytest.mark.parametrize(
    ("title", "beginnings"),
    [
        ("The Lamplighter", ["lamp", "LAMPLIGHTER", "the lamp", "lamp the", "l"]),
        ("Чыңгыз хандын уулу", ["чың", "ХАНДЫН", "уулу чыңгыз"]),
        ("ألف ليلة وليلة", ["ليل", "ألف"]),
        ("Ἡ Ὀδύσσεια", ["ὀδύσ"]),
        ("Ciyaarta Xeebta", ["xeeb ciy"]),
        ("進撃の巨人", ["進撃", "進撃の巨人"]),
        ("나 혼자만 레벨업", ["혼자", "레벨"]),
        ("Straße nach Süden", ["STRASSE", "süd"]),
        ("It's 100% 'quoted' & \\escaped:*", ["quoted", "100", "escap"]),
    ],
)
def test_a_search_finds_beginnings_of_words(site: Site, title: str, beginnings: list[str]) -> None:
    series = site.series(title=f"{title} {uuid4().hex}", categories=["Searched"])
    site.series(title="Nothing of it", categories=["Searched"])
    for beginning in beginnings:
        found = site.get("anonymous", "/series", search=beginning, category="Searched")["results"]
        assert series in {one["id"] for one in found}
        assert "Nothing of it" not in {one["title"] for one in found}


def test_a_search_looks_at_titles_aliases_and_creators(site: Site) -> None:
    word = f"q{uuid4().hex}"
    ids = {
        site.series(title=f"In {word}"),
        site.series(aliases=["Another", word]),
        site.series(creators=[f"Ulan {word}"]),
    }
    site.series(description=word, categories=[word])
    found = site.get("anonymous", "/series", search=word[:20])["results"]
    assert {one["id"] for one in found} == ids
    assert site.get("anonymous", "/series", search=word[1:])["count"] == 0


@pytest.mark.parametrize(
    "search",
    ["'", "\\", ":*", "&", "|", "!", "()", "a & !b", "'; --", "%", "_", "\U0001f600"],
)
def test_a_search_for_anything_at_all_is_answered(site: Site, search: str) -> None:
    assert site.get("anonymous", "/series", search=search)["filters_applied"] == {"search": search}


def test_a_search_without_end_is_refused(site: Site) -> None:
    refused(site.anonymous.get("/series", params={"search": "x" * 201}), 400, "validation_failed")
    many = {"category": [str(n) for n in range(21)]}
    refused(site.anonymous.get("/series", params=many), 400, "validation_failed")


def test_the_queue_is_filtered_and_begins_with_the_longest_waiting(site: Site) -> None:
    series, other = site.series(), site.series("other")
    chapters = [site.pending(series, number=str(n)) for n in range(3)]
    foreign = site.pending(other, "other")
    queue = site.get("moderator", "/moderation/queue", series_id=series)
    assert [one["id"] for one in queue["results"]] == chapters
    queue = site.get("moderator", "/moderation/queue", series_id=series, ordering="-uploaded_at")
    assert [one["id"] for one in queue["results"]] == chapters[::-1]
    by_other = site.get("moderator", "/moderation/queue", uploaded_by=site["other"].id)
    assert foreign in [one["id"] for one in by_other["results"]]
    assert {one["uploaded_by"]["id"] for one in by_other["results"]} == {site["other"].id}
    page = site.get("moderator", "/moderation/queue", series_id=series, page_size=2, page=2)
    assert [one["id"] for one in page["results"]] == chapters[2:]


def test_unpublished_series_wait_for_moderators_the_longest_waiting_first(site: Site) -> None:
    category = f"Waiting {uuid4().hex}"
    first, second, third = (site.series(published=False, categories=[category]) for _ in range(3))
    site.ask("moderator", "POST", f"/series/{second}/publication")
    site.ask("uploader", "PATCH", f"/series/{first}", status="hiatus")

    def listed(**asked: Any) -> list[tuple[str, bool]]:
        page = site.get("moderator", "/moderation/series", category=category, **asked)
        assert page["count"] >= len(page["results"])
        assert page["filters_applied"]["published"] == (asked.get("published") == "true")
        return [(one["id"], one["published"]) for one in page["results"]]

    assert listed() == [(first, False), (third, False)]
    assert listed(published="false", ordering="-updated_at") == [(first, False), (third, False)]
    assert listed(published="false", page_size=1, page=2) == [(third, False)]
    assert listed(published="false", status="ongoing") == [(third, False)]
    assert listed(published="true") == [(second, True)]
    answer = site.client("moderator").get("/moderation/series?published=perhaps")
    assert refused(answer, 400, "validation_failed")["field_errors"].keys() == {"published"}


def test_the_addresses_of_other_pages_keep_what_was_asked(site: Site) -> None:
    category = f"Waiting {uuid4().hex}"
    for _ in range(3):
        site.series(categories=[category])
    asked = {"category": category, "published": "true", "page_size": 2, "ordering": "title"}
    page = site.get("moderator", "/moderation/series", **asked)
    rest = site.client("moderator").get(site.url + page["next"]).json()
    assert (page["count"], rest["count"], len(rest["results"])) == (3, 3, 1)
    assert all(one["published"] for one in page["results"] + rest["results"])


def test_ones_own_series_are_found_again_published_or_not(site: Site) -> None:
    newcomer = site.newcomer("uploader")
    assert site.get(newcomer.username, "/me/series")["count"] == 0
    first = site.series(newcomer.username, published=False, title="Night", kind="manhwa")
    second = site.series(newcomer.username, title="Day", categories=["Drama"])
    third = site.series(newcomer.username, published=False, title="Dawn")

    def listed(**asked: Any) -> list[str]:
        page = site.get(newcomer.username, "/me/series", **asked)
        assert page["filters_applied"] == {
            name: value if name == "search" else [value]
            for name, value in asked.items()
            if name in ("search", "kind", "category")
        }
        return [one["id"] for one in page["results"]]

    assert listed() == [third, second, first]
    assert listed(ordering="title") == [third, second, first]
    assert listed(ordering="created_at", page_size=2) == [first, second]
    assert listed(ordering="created_at", page_size=2, page=2) == [third]
    assert listed(search="d") == [third, second]
    assert listed(kind="manhwa") == [first]
    assert listed(category="drama") == [second]


def test_uploads_are_filtered_by_status_and_begin_with_the_latest(site: Site) -> None:
    newcomer = site.newcomer("uploader")
    series = site.series()
    first, second, third = (site.pending(series, newcomer.username) for _ in range(3))
    site.ask("moderator", "POST", f"/chapters/{first}/approval")
    site.ask("moderator", "POST", f"/chapters/{second}/rejection", reason="No.")
    for status, expected in (
        ([], [third, second, first]),
        (["approved"], [first]),
        (["approved", "rejected"], [second, first]),
        (["processing"], []),
    ):
        uploads = site.get(newcomer.username, "/me/uploads", status=status)
        assert [one["id"] for one in uploads["results"]] == expected
    refused(newcomer.client.get("/me/uploads?status=absent"), 400, "validation_failed")


@pytest.mark.parametrize("search", ["stay", "fate/st", "dia", "DÍA", "home"])
def test_every_word_of_a_title_is_found_without_case_and_accents(site: Site, search: str) -> None:
    series = site.series(title="Fate/stay night: un Día, naruto@home.com")
    found = site.get("anonymous", "/series", search=search)
    assert series in [one["id"] for one in found["results"]]

"""What a benchmark finds, and how sides are measured so that noise hits them alike."""

from collections.abc import Callable, Mapping
from statistics import median

from msgspec import Struct

ROUNDS = 3


class Sizes(Struct, frozen=True, kw_only=True):
    """How long and how much is measured."""

    seconds: float
    """Of one side in one round."""
    events: int
    """In the large log."""
    rebuilt: int
    """Events folded in one round of a rebuild."""
    pages: int
    """Pages of each chapter that is ingested."""


class Figure(Struct, frozen=True, kw_only=True):
    """One line of the table: a measurement beside its limit, and what was promised of it."""

    what: str
    measured: str
    beside: str = ""
    ratio: float | None = None
    target: str
    reached: bool


def interleaved(sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """What each side gives in each round; the sides take turns after one round unrecorded."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for recorded in (False, *[True] * ROUNDS):
        for name, measure in sides.items():
            value = measure()
            if recorded:
                found[name].append(value)
    return found


def rate(
    what: str,
    measured: list[float],
    beside: str,
    limit: list[float],
    *,
    at_least: float,
    floor: float = 0,
) -> Figure:
    """A rate beside another one: medians, and the median of the rounds' ratios."""
    ratio = median(one / other for one, other in zip(measured, limit, strict=True))
    reached = ratio >= at_least and median(measured) >= floor
    target = f"{at_least:g}x" if at_least > 1 else f"{at_least:.0%}"
    return Figure(
        what=what,
        measured=f"{median(measured):,.0f}/s",
        beside=f"{beside}: {median(limit):,.0f}/s",
        ratio=ratio,
        target=f"{target}, {floor:,.0f}/s" if floor else target,
        reached=reached,
    )


def percentile(values: list[float], percent: float) -> float:
    """The value that `percent` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

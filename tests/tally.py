"""A read model of the tests, whose fold breaks when it is told to."""

from hashlib import sha256
from typing import Any, ClassVar

from msgspec import UNSET
from msgspec.structs import replace

from domain.catalogue import SeriesCreated, SeriesRevised
from domain.kernel import Recorded
from projections.kernel import MODELS, ReadModel, Row, Rows

POISON = "poison"
"""The title that breaks the fold."""

UNWRITABLE = "un\0writable"
"""A title that folds, and that no table takes."""

TOO_LONG = "".join(sha256(b"%d" % number).hexdigest() for number in range(400))
"""A title that folds, and that is more than an index can hold."""


class TallyRow(Row, frozen=True, kw_only=True):
    table = "tallies"
    category = "series"
    columns = {"titles": "text[] NOT NULL"}
    indexes = ("(titles)",)

    titles: tuple[str, ...] = ()

    def values(self) -> tuple[Any, ...]:
        return (list(self.titles),)


class Tally(ReadModel):
    """The titles that every series had, in order."""

    name = "tally"
    version = 1
    rows = (TallyRow,)
    folds = (SeriesCreated, SeriesRevised)
    broken: ClassVar[bool] = True

    @classmethod
    def fold(cls, recorded: Recorded, rows: Rows) -> None:
        match recorded.event:
            case SeriesCreated() as event:
                rows.put(TallyRow(id=event.series_id, titles=(event.title,)))
            case SeriesRevised() as event:
                if event.title == POISON and cls.broken:
                    raise ValueError(POISON)
                row = rows.get(TallyRow, event.series_id)
                assert row is not None
                title = () if event.title is UNSET else (event.title,)
                rows.put(replace(row, titles=row.titles + title))
            case _:
                pass


del MODELS[Tally.name]  # no site has it, only the tests that put it back

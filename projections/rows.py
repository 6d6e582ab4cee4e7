"""The rows of a read model in memory: read once, changed event by event, written once a batch."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import psycopg
from msgspec import json
from psycopg import sql
from psycopg.adapt import PyFormat

from projections.kernel import R, ReadModel, Row

REMEMBERED_ROWS = 20_000
"""Rows kept in memory between batches, so that following events need not read them again."""


class RowCache:
    """The rows of a read model: remembered, changed in memory, written once a batch."""

    def __init__(self, connection: psycopg.Connection[Any], model: type[ReadModel]) -> None:
        self._connection = connection
        self._tables = [_Table(model, row) for row in model.rows]
        self._table_of = {table.row: table for table in self._tables}
        self._known: OrderedDict[tuple[type[Row], str], Row | None] = OrderedDict()
        self._stored: dict[tuple[type[Row], str], Row | None] = {}
        self._event: dict[tuple[type[Row], str], Row | None] = {}
        self._changed = 0

    def get(self, row: type[R], key: str) -> R | None:
        place = (row, key)
        found = self._event[place] if place in self._event else self._before(place)
        return found if isinstance(found, row) else None

    def put(self, row: Row) -> None:
        self._event[type(row), row.id] = row

    def delete(self, row: type[Row], key: str) -> None:
        self._event[row, key] = None

    def keep(self, position: int) -> None:
        """Take over what the event at `position` changed."""
        for place, row in self._event.items():
            before = self._before(place)
            if row != before:
                self._stored.setdefault(place, before)
                self._known[place] = row
                self._changed = position
        self._event.clear()

    def _before(self, place: tuple[type[Row], str]) -> Row | None:
        if place not in self._known:
            self._read(place[0], [place[1]])
        return self._known[place]

    def undo(self) -> None:
        """Drop what the event under way changed."""
        self._event.clear()

    def forget(self) -> None:
        """Drop everything: the transaction that it was read or written in is gone."""
        self._event.clear()
        self._known.clear()
        self._stored.clear()
        self._changed = 0

    def prefetch(self, streams: Iterable[str]) -> None:
        """Read in one go the rows that a batch's streams are about."""
        named = {tuple(stream.split("-", 1)) for stream in streams}
        for row in self._table_of:
            keys = [
                key
                for category, key in named
                if category == row.category and (row, key) not in self._known
            ]
            if keys:
                self._read(row, keys)

    def _read(self, row: type[Row], keys: list[str]) -> None:
        table = self._table_of[row]
        found = dict(self._connection.execute(table.select, (keys,), binary=True).fetchall())
        for key in keys:
            state = found.get(key)
            self._known[row, key] = table.decoder.decode(state) if state is not None else None

    def write(self) -> int:
        """Write each touched row once; the last position that changed one, 0 if none did."""
        cursor = self._connection.cursor()
        for table in self._tables:
            places = [place for place in self._stored if place[0] is table.row]
            kept = [row for place in places if (row := self._known[place]) is not None]
            gone = [(place[1],) for place in places if self._known[place] is None]
            if kept:
                cursor.executemany(
                    table.upsert, [(row.id, json.encode(row), *row.values()) for row in kept]
                )
            if gone:
                cursor.executemany(table.delete, gone)
            added = sum(
                _counted(self._known[place]) - _counted(self._stored[place]) for place in places
            )
            if added:
                cursor.execute(table.count, (added, table.row.table))
        self._stored.clear()
        while len(self._known) > REMEMBERED_ROWS:
            self._known.popitem(last=False)
        changed, self._changed = self._changed, 0
        return changed


def _counted(row: Row | None) -> int:
    return int(row is not None and row.counted())


class _Table:
    """The statements that read and write one kind of row."""

    def __init__(self, model: type[ReadModel], row: type[Row]) -> None:
        self.row = row
        self.decoder = json.Decoder(row)
        schema = sql.Identifier(model.schema())
        table = sql.SQL("{}.{}").format(schema, sql.Identifier(row.table))
        columns = [sql.Identifier(name) for name in ("id", "state", *row.columns)]
        self.select = sql.SQL("SELECT id, state FROM {} WHERE id = ANY(%s)").format(table)
        self.delete = sql.SQL("DELETE FROM {} WHERE id = %s").format(table)
        self.upsert = sql.SQL(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}"
        ).format(
            table,
            sql.SQL(", ").join(columns),
            # Binary: as text, bytes double and every word of an array is searched for quotes.
            sql.SQL(", ").join([sql.Placeholder(format=PyFormat.BINARY)] * len(columns)),
            sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(column) for column in columns[1:]
            ),
        )
        self.count = sql.SQL("UPDATE {}.totals SET total = total + %s WHERE name = %s").format(
            schema
        )

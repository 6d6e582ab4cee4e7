"""The rows of a read model in memory: read once, changed event by event, written once a batch."""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any

import psycopg
from msgspec import json
from psycopg import sql
from psycopg.adapt import PyFormat

from projections.kernel import R, ReadModel, Row

REMEMBERED_ROWS = 20_000
"""Rows kept in memory between batches, so that following events need not read them again."""


Place = tuple[type[Row], str, str]
"""Where a row is: its kind, its tenant, its id."""


class RowCache:
    """The rows of a read model: remembered, changed in memory, written once a batch."""

    def __init__(self, connection: psycopg.Connection[Any], model: type[ReadModel]) -> None:
        self._connection = connection
        self._tables = [_Table(model, row) for row in model.rows]
        self._table_of = {table.row: table for table in self._tables}
        self._known: OrderedDict[Place, Row | None] = OrderedDict()
        self._stored: dict[Place, Row | None] = {}
        self._event: dict[Place, Row | None] = {}
        self._changed = 0
        self._tenant = ""

    def enter(self, tenant: str) -> None:
        """Whose rows the fold sees from here on."""
        self._tenant = tenant

    def get(self, row: type[R], key: str) -> R | None:
        place = (row, self._tenant, key)
        found = self._event[place] if place in self._event else self._before(place)
        return found if isinstance(found, row) else None

    def put(self, row: Row) -> None:
        self._event[type(row), self._tenant, row.id] = row

    def delete(self, row: type[Row], key: str) -> None:
        self._event[row, self._tenant, key] = None

    def keep(self, position: int) -> None:
        """Take over what the event at `position` changed."""
        for place, row in self._event.items():
            before = self._before(place)
            if row != before:
                self._stored.setdefault(place, before)
                self._known[place] = row
                self._changed = position
        self._event.clear()

    def _before(self, place: Place) -> Row | None:
        if place not in self._known:
            self._read(place[0], [(place[1], place[2])])
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

    def prefetch(self, streams: Iterable[tuple[str, str]]) -> None:
        """Read in one go the rows that a batch's streams, each with its tenant, are about."""
        named = {(tenant, *stream.split("-", 1)) for tenant, stream in streams}
        for row in self._table_of:
            keys = [
                (tenant, key)
                for tenant, category, key in named
                if category == row.category and (row, tenant, key) not in self._known
            ]
            if keys:
                self._read(row, keys)

    def _read(self, row: type[Row], keys: list[tuple[str, str]]) -> None:
        table = self._table_of[row]
        columns = [list(column) for column in zip(*keys, strict=True)]
        rows = self._connection.execute(table.select, columns, binary=True).fetchall()
        found = {(tenant, key): state for tenant, key, state in rows}
        for tenant, key in keys:
            state = found.get((tenant, key))
            known = table.decoder.decode(state) if state is not None else None
            self._known[row, tenant, key] = known

    def write(self) -> int:
        """Write each touched row once; the last position that changed one, 0 if none did."""
        cursor = self._connection.cursor()
        for table in self._tables:
            places = [place for place in self._stored if place[0] is table.row]
            kept = [
                (tenant, row.id, json.encode(row), *row.values())
                for place in places
                for tenant, row in [(place[1], self._known[place])]
                if row is not None
            ]
            gone = [place[1:] for place in places if self._known[place] is None]
            if kept:
                cursor.executemany(table.upsert, kept)
            if gone:
                cursor.executemany(table.delete, gone)
            added = Counter[str]()
            for place in places:
                added[place[1]] += _counted(self._known[place]) - _counted(self._stored[place])
            for tenant, number in added.items():
                if number:
                    cursor.execute(table.count, (tenant, table.row.table, number))
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
        columns = [sql.Identifier(name) for name in ("tenant", "id", "state", *row.columns)]
        self.select = sql.SQL(
            "SELECT tenant, id, state FROM {}"
            " JOIN unnest(%s::text[], %s::text[]) AS wanted (tenant, id) USING (tenant, id)"
        ).format(table)
        self.delete = sql.SQL("DELETE FROM {} WHERE tenant = %s AND id = %s").format(table)
        self.upsert = sql.SQL(
            "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (tenant, id) DO UPDATE SET {}"
        ).format(
            table,
            sql.SQL(", ").join(columns),
            # Binary: as text, bytes double and every word of an array is searched for quotes.
            sql.SQL(", ").join([sql.Placeholder(format=PyFormat.BINARY)] * len(columns)),
            sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(column) for column in columns[2:]
            ),
        )
        self.count = sql.SQL(
            "INSERT INTO {0}.totals VALUES (%s, %s, %s) ON CONFLICT (tenant, name)"
            " DO UPDATE SET total = {0}.totals.total + excluded.total"
        ).format(schema)

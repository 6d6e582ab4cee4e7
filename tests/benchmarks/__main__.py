"""Runs the benchmarks and prints one table: `python -m tests.benchmarks [--quick] [row ...]`."""

import sys
from collections.abc import Callable, Iterable

import click
from msgspec.structs import replace
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.benchmarks.appending import appends
from tests.benchmarks.figures import Figure, Sizes
from tests.benchmarks.growing import growth
from tests.benchmarks.ingesting import ingestion
from tests.benchmarks.rebuilding import rebuild
from tests.benchmarks.requests import cold, commands, hot, visible
from tests.benchmarks.signing_in import signing_in
from tests.database import Server

FULL = Sizes(seconds=1.5, events=1_000_000, rebuilt=60_000, pages=16)
QUICK = Sizes(seconds=0.4, events=30_000, rebuilt=12_000, pages=8)

WIDTH = 140
"""Of the table, also where the output is not a terminal."""

ROWS: dict[str, Callable[[Server, Sizes], Iterable[Figure]]] = {
    "appends": appends,
    "commands": commands,
    "rebuild": rebuild,
    "hot": hot,
    "cold": cold,
    "ingestion": ingestion,
    "visible": visible,
    "growth": growth,
    "signing-in": signing_in,
}


@click.command()
@click.option("--quick", is_flag=True, help="Smaller sizes: a first impression.")
@click.option("--events", type=click.IntRange(min=2_000), help="The size of the large log.")
@click.argument("rows", nargs=-1, type=click.Choice(list(ROWS)))
def main(quick: bool, events: int | None, rows: tuple[str, ...]) -> None:
    """Measure; exits with 0 only if every target was reached."""
    sizes = QUICK if quick else FULL
    sizes = replace(sizes, events=events or sizes.events)
    figures: list[Figure] = []
    with Server() as server:
        for name in track(rows or tuple(ROWS), "Measuring", console=Console(stderr=True)):
            figures += ROWS[name](server, sizes)
    Console(width=WIDTH).print(_table(figures))
    sys.exit(not all(figure.reached for figure in figures))


def _table(figures: Iterable[Figure]) -> Table:
    table = Table("what", "measured", "beside, in the same run", "ratio", "target", "reached")
    for figure in figures:
        table.add_row(
            figure.what,
            figure.measured,
            figure.beside,
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            figure.target,
            "yes" if figure.reached else "[bold red]no",
        )
    return table


if __name__ == "__main__":
    main()

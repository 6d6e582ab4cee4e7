"""`imprimatur mail`: the letters that a site keeps in a folder."""

from collections.abc import Callable
from pathlib import Path

import click
from msgspec import json
from rich.console import Console
from rich.table import Table

from runtime.mail.outbox import KeptLetter, Outbox

OutboxFor = Callable[[Path | None], Outbox]


def mail_command(outbox_for: OutboxFor) -> click.Command:
    """The verb, for what finds the letters of a data folder."""

    @click.command("mail")
    @click.argument("letter_id", metavar="[ID]", required=False)
    @click.option(
        "--last",
        type=click.IntRange(min=1),
        default=20,
        show_default=True,
        help="How many letters to list.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        help="The folder of an embedded site.",
    )
    def mail(*, letter_id: str | None, last: int, as_json: bool, data: Path | None) -> None:
        """List the letters that were kept instead of sent, or show one."""
        outbox = outbox_for(data)
        if letter_id is None:
            _list(outbox.last(last), as_json=as_json)
        else:
            _show(outbox.letter(letter_id), as_json=as_json)

    return mail


def _list(letters: list[KeptLetter], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.encode(letters))
        return
    table = Table("id", "time (UTC)", "to", "subject")
    table.columns[0].no_wrap = True
    for one in letters:
        table.add_row(one.id, _said(one), one.to, one.subject)
    Console(markup=False).print(table)


def _show(letter: KeptLetter, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.encode(letter))
        return
    click.echo(f"To: {letter.to}\nSubject: {letter.subject}\nTime: {_said(letter)} UTC\n")
    click.echo(letter.text)


def _said(letter: KeptLetter) -> str:
    return letter.time.strftime("%Y-%m-%d %H:%M:%S")

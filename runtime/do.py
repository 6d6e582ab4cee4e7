"""A verb of the command line for each registered command."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import click
from msgspec import NODEFAULT, convert, json
from msgspec.structs import fields as struct_fields

from api.commands import IDEMPOTENCY_KEY
from commands.bus import Envelope, Outcome
from commands.kernel import COMMANDS, Command, CommandSpec, NotFound
from domain.people import UsernameClaim
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool

TENANT = "main"

SettingsFor = Callable[[Path | None], Settings]


def command_group(settings_for: SettingsFor) -> click.Group:
    """`imprimatur do`: what can be asked over HTTP, asked at the machine."""
    group = click.Group("do", help="Issue a command as an account, at the machine.")
    for spec in COMMANDS.values():
        if spec.method is not None:
            group.add_command(_verb(spec, settings_for))
    return group


def _verb(spec: CommandSpec, settings_for: SettingsFor) -> click.Command:
    def run(data: Path | None, acting_as: str, key: str | None, **given: Any) -> None:
        said = {name: value for name, value in given.items() if value not in (None, ())}
        if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
            raise click.BadParameter(f"must match {IDEMPOTENCY_KEY.pattern}")
        command = convert(said, spec.cls, strict=False)
        outcome = asyncio.run(_issue(settings_for(data), command, acting_as, key))
        click.echo(json.encode(outcome))

    options = [
        click.Option(["--data"], type=click.Path(path_type=Path), help="An embedded site's folder"),
        click.Option(["--as", "acting_as"], required=True, help="The account that acts"),
        click.Option(["--idempotency-key", "key"], help="A retry with it gets the first answer"),
        *_options(spec),
    ]
    return click.Command(spec.verb, callback=run, params=list(options), help=spec.summary)


def _options(spec: CommandSpec) -> list[click.Option]:
    hints = get_type_hints(spec.cls)
    return [
        click.Option(
            [f"--{info.name.replace('_', '-')}"],
            required=info.default is NODEFAULT,
            multiple=_is_tuple(hints[info.name]),
        )
        for info in struct_fields(spec.cls)
        if info.name != spec.new_id
    ]


def _is_tuple(hint: Any) -> bool:
    inner = [get_origin(part) for part in (hint, *getattr(hint, "__args__", ()))]
    return tuple in inner


async def _issue(settings: Settings, command: Command, username: str, key: str | None) -> Outcome:
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        claim = await bus.state(UsernameClaim, username, TENANT)
        if claim is None:
            raise NotFound("person")
        return await bus.handle(command, Envelope(actor=claim.person_id, command_id=key))

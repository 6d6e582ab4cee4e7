"""A verb of the command line for each registered command."""

import asyncio
from collections.abc import Callable, Mapping
from getpass import getuser
from pathlib import Path
from typing import Any

import click
from msgspec import inspect, json

from api.commands import refuse_empty_patch
from api.documents import IDEMPOTENCY_KEY
from api.errors import Refusal
from api.messages import message
from api.parameters import fields_of, from_texts, parts
from commands.bus import Envelope, Outcome
from commands.kernel import COMMANDS, Command, CommandSpec, NotFound
from domain.people import UsernameClaim
from domain.tenancy import MAIN
from runtime.settings import Settings
from runtime.wiring import open_bus, open_pool

SettingsFor = Callable[[Path | None], Settings]


def command_group(settings_for: SettingsFor) -> click.Group:
    """`imprimatur do`: what can be asked over HTTP, asked at the machine."""
    group = click.Group("do", help="Issue a command as an account, at the machine.")
    for spec in COMMANDS.values():
        if spec.method is not None:
            group.add_command(_verb(spec, settings_for))
    return group


def _verb(spec: CommandSpec, settings_for: SettingsFor) -> click.Command:
    def run(data: Path | None, acting_as: str, tenant: str, key: str | None, **given: Any) -> None:
        if key is not None and not IDEMPOTENCY_KEY.fullmatch(key):
            told = message("value_unlike_pattern", "", IDEMPOTENCY_KEY.pattern)
            raise click.BadParameter(told, param_hint="--idempotency-key")
        command = _command(spec, given)
        outcome = asyncio.run(_issue(settings_for(data), command, tenant, acting_as, key))
        click.echo(json.encode(outcome))

    options = [
        click.Option(["--data"], type=click.Path(path_type=Path), help="An embedded site's folder"),
        click.Option(["--as", "acting_as"], required=True, help="The account that acts"),
        click.Option(["--tenant"], default=MAIN, show_default=True, help="The organisation"),
        click.Option(["--idempotency-key", "key"], help="A retry with it gets the first answer"),
        *_options(spec),
    ]
    return click.Command(spec.verb, callback=run, params=list(options), help=spec.summary)


def _options(spec: CommandSpec) -> list[click.Option]:
    return [_option(field) for field in fields_of(spec.cls) if field.name != spec.new_id]


def _option(field: inspect.Field) -> click.Option:
    made_of = list(parts(field.type))
    choices = [
        value for one in made_of if isinstance(one, inspect.LiteralType) for value in one.values
    ]
    return click.Option(
        [_flag(field.name)],
        required=field.required,
        multiple=any(isinstance(one, inspect.VarTupleType) for one in made_of),
        type=click.Choice(choices) if choices else None,
    )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _command(spec: CommandSpec, given: Mapping[str, str | tuple[str, ...] | None]) -> Command:
    """The command that the flags say, or a complaint that names the flag."""
    said = [
        (name, text)
        for name, value in given.items()
        for text in ((value,) if isinstance(value, str) else value or ())
    ]
    try:
        command = from_texts(spec.cls, said)
        refuse_empty_patch(spec, command)
    except Refusal as refusal:
        for name, problem in refusal.problems.items():
            told = message(problem.code, "", problem.about)
            raise click.BadParameter(told, param_hint=_flag(name)) from refusal
        raise click.UsageError(message(refusal.code, "")) from refusal
    return command


async def _issue(
    settings: Settings, command: Command, tenant: str, username: str, key: str | None
) -> Outcome:
    async with open_pool(settings) as pool, open_bus(settings, pool) as bus:
        claim = await bus.state(UsernameClaim, username, tenant)
        if claim is None:
            raise NotFound("person")
        envelope = Envelope(
            actor=claim.person_id,
            tenant=tenant,
            command_id=key,
            causation_id=f"operator:{getuser()}",
        )
        return await bus.handle(command, envelope)

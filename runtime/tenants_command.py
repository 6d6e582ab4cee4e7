"""`imprimatur tenant`: the organisations that share a site."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from domain.tenancy import OrganisationName, Plan, Subdomain
from runtime.said import taken
from runtime.settings import Settings
from runtime.tenants import close_tenant, export_tenant, list_tenants, open_tenant

SettingsFor = Callable[[Path | None], Settings]


class NewTenant(Struct, frozen=True):
    """An organisation to be opened."""

    slug: Subdomain
    name: OrganisationName
    plan: Plan


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of an embedded site.",
)


def tenant_group(settings_for: SettingsFor) -> click.Group:
    """The verbs, for what finds the settings of a data folder."""
    group = click.Group("tenant", help="Organisations that share the site.")

    @group.command("add")
    @click.argument("slug")
    @click.option("--name", required=True, help="What people call it.")
    @click.option("--plan", type=click.Choice(get_args(Plan)), default="basic", show_default=True)
    @data_option
    def add(slug: str, name: str, plan: str, data: Path | None) -> None:
        """Open an organisation under a subdomain."""
        wanted = taken(NewTenant, [("slug", slug), ("name", name), ("plan", plan)])
        opening = open_tenant(settings_for(data), wanted.slug, wanted.name, wanted.plan)
        asyncio.run(opening)
        click.echo(wanted.slug)

    @group.command("list")
    @data_option
    def show(data: Path | None) -> None:
        """List the organisations, closed ones too."""
        table = Table("id", "name", "plan", "")
        for one in asyncio.run(list_tenants(settings_for(data))):
            table.add_row(one.id, one.name, one.plan, "closed" if one.closed else "")
        Console(markup=False).print(table)

    @group.command("export")
    @click.argument("slug")
    @click.option(
        "--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A ZIP."
    )
    @data_option
    def export(slug: str, output: Path, data: Path | None) -> None:
        """Write an organisation's events and files into a ZIP."""
        click.echo(asyncio.run(export_tenant(settings_for(data), slug, output)))

    @group.command("delete")
    @click.argument("slug")
    @click.option("--reason", required=True, help="Why; it stays on record.")
    @click.option("--yes", is_flag=True, help="Don't ask.")
    @data_option
    def delete(slug: str, reason: str, data: Path | None, *, yes: bool) -> None:
        """Close an organisation for good, and delete its files; the log keeps its events."""
        if not yes:
            click.confirm(f"Close {slug} for good, and delete its files?", abort=True)
        asyncio.run(close_tenant(settings_for(data), slug, reason))

    return group

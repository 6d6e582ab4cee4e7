"""The command line: `imprimatur`."""

import asyncio
import os
import sys
from pathlib import Path

import click
import psycopg
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from api.errors import refusal_of
from api.messages import message
from api.operations import is_in_use
from api.people import NewAccount
from commands.bus import Contended, KeyReused
from commands.kernel import Banned, Deactivated, NotFound, PermissionDenied, UnknownActor
from commands.log import EventTooLarge, LogUnavailable
from commands.vault import KeyDestroyed
from domain.kernel import Rejected
from domain.personal import MasterKeyWrong
from domain.tenancy import MAIN
from projections.standings import Follower
from runtime.accounts import add_account
from runtime.datafolder import (
    DataFolderInUse,
    DataFolderUnreachable,
    DataFolderUnusable,
    default_data_folder,
)
from runtime.demo import run_demo
from runtime.do import command_group
from runtime.embedded import ForeignCluster, ServerStartFailed, SiteNotRunning, read_dsn
from runtime.followers import (
    PolicyUnknown,
    ReadModelUnknown,
    read_standings,
    retry_policies,
    retry_read_model,
)
from runtime.jobs import JobNotGivenUp, count_jobs, given_up_jobs, retry_jobs
from runtime.leftbehind import ServerStillRunning
from runtime.mail.command import mail_command
from runtime.mail.outbox import LetterMissing, Outbox, OutboxMissing
from runtime.migrate import migrate as apply_migrations
from runtime.onesite import OneSite, PortTaken, running_settings
from runtime.processes import run_api, run_projector, run_worker_process
from runtime.programs import ServerNotInstalled
from runtime.prune import prune
from runtime.said import taken
from runtime.settings import SettingInvalid, SettingMissing, Settings, read_settings
from runtime.tenants_command import tenant_group

EXPECTED = (
    Banned,
    Contended,
    DataFolderInUse,
    DataFolderUnreachable,
    Deactivated,
    DataFolderUnusable,
    EventTooLarge,
    ForeignCluster,
    JobNotGivenUp,
    KeyDestroyed,
    KeyReused,
    LetterMissing,
    LogUnavailable,
    MasterKeyWrong,
    NotFound,
    OutboxMissing,
    PermissionDenied,
    PolicyUnknown,
    PortTaken,
    ReadModelUnknown,
    Rejected,
    ServerNotInstalled,
    ServerStartFailed,
    ServerStillRunning,
    SettingInvalid,
    SettingMissing,
    SiteNotRunning,
    UnknownActor,
    psycopg.OperationalError,
)
"""What a person can mend: said in one line, without a traceback."""

PORT = click.IntRange(1, 65_535)

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of an embedded site.",
)

tenant_option = click.option(
    "--tenant", default=MAIN, show_default=True, help="The organisation, by its subdomain."
)


@click.group()
@click.version_option(package_name="imprimatur")
def cli() -> None:
    """Imprimatur: nothing is published without a recorded decision."""


def settings_for(data: Path | None) -> Settings:
    """The environment's settings, or those of the embedded site that runs in a folder."""
    settings = read_settings(os.environ)
    if data is None and (settings.dsn or settings.admin_dsn):
        return settings
    return running_settings(data or default_data_folder("site"), settings)


@cli.command()
@data_option
@click.option("--port", type=PORT, default=8000, show_default=True, help="Where to serve HTTP.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to serve on.")
def up(data: Path | None, port: int, host: str) -> None:
    """Run a whole site in one place: database, api, projector, worker."""
    settings = replace(read_settings(os.environ), port=port, host=host)
    folder = data or default_data_folder("site")
    supervisor = OneSite(folder, settings).supervisor()
    click.echo(f"The site in {folder} serves http://{host}:{port} until Ctrl-C.")
    click.echo(f"Its documentation: http://{host}:{port}/api/v1/schema")
    sys.exit(supervisor.run_until_signal())


@cli.command()
@data_option
@click.option("--port", type=PORT, default=8000, show_default=True, help="Where to serve HTTP.")
@click.option("--once", is_flag=True, help="End after the story; 0 only if every step held.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def demo(data: Path | None, port: int, once: bool, as_json: bool) -> None:
    """Tell a story on a site of its own, through the public HTTP API, and go on serving."""
    sys.exit(run_demo(data or default_data_folder("demo"), port, once=once, as_json=as_json))


@cli.command()
def api() -> None:
    """Serve HTTP."""
    run_api(read_settings(os.environ))


@cli.command()
def projector() -> None:
    """Fold the log into read models."""
    run_projector(read_settings(os.environ))


@cli.command()
def worker() -> None:
    """Run policies and jobs."""
    run_worker_process(read_settings(os.environ))


@cli.command()
@data_option
def migrate(data: Path | None) -> None:
    """Bring the database up to date, as its owner."""
    apply_migrations(settings_for(data).need("admin_dsn"))


@cli.command()
@click.option("--admin", is_flag=True, help="The owner's, instead of the application's.")
@data_option
def dsn(data: Path | None, admin: bool) -> None:
    """Print the connection string of the running site."""
    click.echo(read_dsn(data or default_data_folder("site"), "owner" if admin else "app"))


@cli.group()
def user() -> None:
    """Accounts."""


@user.command("add")
@click.argument("name")
@click.option("--role", "roles", multiple=True, required=True, help="Such as administrator.")
@click.option("--password-stdin", is_flag=True, required=True, help="Read the password there.")
@tenant_option
@data_option
def user_add(
    name: str, roles: tuple[str, ...], password_stdin: bool, tenant: str, data: Path | None
) -> None:
    """Make an account."""
    said = [("username", name), ("password", sys.stdin.readline().rstrip("\n"))]
    account = taken(NewAccount, [*said, *(("roles", role) for role in roles)])
    settings = settings_for(data)
    adding = add_account(settings, account.username, account.password, account.roles, tenant)
    click.echo(asyncio.run(adding))


@cli.group()
def projections() -> None:
    """Read models."""


@projections.command("status")
@data_option
def projections_status(data: Path | None) -> None:
    """Show where every read model stands."""
    _show_standings("read model", data)


@projections.command("retry")
@click.argument("model")
@data_option
def projections_retry(model: str, data: Path | None) -> None:
    """Fold again what a read model has set aside."""
    click.echo(retry_read_model(settings_for(data).need("dsn"), model))


@projections.command("prune")
@data_option
def projections_prune(data: Path | None) -> None:
    """Drop the read models of earlier versions that no process serves any more."""
    for schema in prune(settings_for(data).need("admin_dsn")):
        click.echo(schema)


def _show_standings(follower: Follower, data: Path | None) -> None:
    table = Table(follower, "position", "lag", "dead letters")
    for one in read_standings(settings_for(data).need("dsn"), follower):
        lag = str(one.lag) if is_in_use(one) else "retired"
        table.add_row(one.name, str(one.position), lag, str(one.dead_letters))
    Console().print(table)


@cli.group()
def jobs() -> None:
    """What workers do beside the log."""


@jobs.command("status")
@data_option
def jobs_status(data: Path | None) -> None:
    """Show how many jobs there are, and those that were given up with their last error."""
    dsn = settings_for(data).need("dsn")
    counts = Table("kind", "state", "jobs")
    for one in count_jobs(dsn):
        counts.add_row(one.kind, one.state, str(one.count))
    given_up = Table("id", "given up", "last error")
    for one in given_up_jobs(dsn):
        given_up.add_row(str(one.id), one.kind, one.error)
    Console(markup=False).print(counts, given_up)


@jobs.command("retry")
@click.argument("job", type=int, required=False)
@data_option
def jobs_retry(job: int | None, data: Path | None) -> None:
    """Queue a given-up job again, or every one, to be tried once more."""
    click.echo(retry_jobs(settings_for(data).need("dsn"), job))


@cli.group()
def policies() -> None:
    """What follows from events."""


@policies.command("status")
@data_option
def policies_status(data: Path | None) -> None:
    """Show where every policy stands."""
    _show_standings("policy", data)


@policies.command("retry")
@click.argument("policy", required=False)
@data_option
def policies_retry(policy: str | None, data: Path | None) -> None:
    """React again to what a policy, or every policy, has set aside."""
    click.echo(retry_policies(settings_for(data).need("dsn"), policy))


def outbox_for(data: Path | None) -> Outbox:
    """The letters that the environment's site keeps, or the embedded site in a folder."""
    kept = read_settings(os.environ).mail_dir
    if data is None and kept:
        return Outbox(Path(kept))
    return Outbox((data or default_data_folder("site")) / "mail")


cli.add_command(command_group(settings_for))
cli.add_command(mail_command(outbox_for))
cli.add_command(tenant_group(settings_for))


def main() -> None:
    """Run the command line; what a person can mend is said without a traceback."""
    try:
        cli()
    except EXPECTED as error:
        console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        console.print(f"imprimatur: {_in_a_line(error)}", style="red")
        sys.exit(1)


def _in_a_line(error: Exception) -> str:
    refusal = refusal_of(error)
    if refusal is None:
        return " ".join(str(error).split())
    details = [f"{name}: {value}" for name, value in refusal.details.items()]
    return f"{message(refusal.code, '')} ({', '.join([refusal.code, *details])})"


if __name__ == "__main__":
    main()

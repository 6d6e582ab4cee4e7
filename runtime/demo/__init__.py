"""`imprimatur demo`: a site of its own, and a story told to it over HTTP."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import httpx
from msgspec import json
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from domain.kernel import Rejected
from runtime.accounts import add_account
from runtime.demo.client import StepFailed
from runtime.demo.story import ADMINISTRATOR, CAST, Story, Summary
from runtime.lifeline import wait_for
from runtime.onesite import OneSite, running_settings
from runtime.settings import Settings, read_settings

START_SECONDS = 60.0

ADDRESSES = (
    ("series", "/api/v1/series"),
    ("documentation", "/api/v1/schema"),
    ("health", "/api/v1/health"),
    ("metrics", "/metrics"),
)


def run_demo(data: Path, port: int, *, once: bool, as_json: bool) -> int:
    """Tell the story on a site in `data`; 0 only if every step held."""
    settings = replace(read_settings(os.environ), port=port)
    site = OneSite(data, settings)
    supervisor = site.supervisor()
    try:
        supervisor.start()
        summary = _tell(site, running_settings(data, settings))
        _print(summary, data, as_json=as_json, serving=not once)
        if not once and summary.held:
            Console(stderr=True).print(f"Serving {summary.url} until Ctrl-C.")
            return supervisor.run_until_signal()
    finally:
        supervisor.stop()
    return 0 if summary.held else 1


def _tell(site: OneSite, settings: Settings) -> Summary:
    names = [ADMINISTRATOR, *CAST]
    passwords = {name: site.folder.secret(f"demo.{name}") for name in names}
    roles = {ADMINISTRATOR: "administrator"} | CAST
    summary = Summary(
        url=f"http://{settings.host}:{settings.port}",
        accounts=[
            {"username": name, "password": passwords[name], "role": roles[name]} for name in names
        ],
    )
    with suppress(Rejected):  # the name is taken: the story was told here before
        asyncio.run(
            add_account(settings, ADMINISTRATOR, passwords[ADMINISTRATOR], ("administrator",))
        )
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task("archives processed", total=None)
        story = Story(
            summary,
            passwords,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
        try:
            _await_ready(summary.url)
            story.tell()
        except (StepFailed, httpx.HTTPError) as error:
            summary.failure = str(error)
    return summary


def _await_ready(url: str) -> None:
    if not wait_for(lambda: _is_ready(url), START_SECONDS):
        raise StepFailed(f"the site did not get ready within {START_SECONDS:g} s")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/v1/health").is_success
    except httpx.TransportError:
        return False


def _trail(summary: Summary) -> Table:
    """One chapter's history as a person reads it: its events, and the commands they came of."""
    trail = Table("at", "when", "who", "what", "why", title="One chapter's trail")
    for event in summary.trail:
        what, asked = (event[name].partition(".")[2] for name in ("type", "command"))
        trail.add_row(
            str(event["position"]),
            event["recorded_at"][11:19],
            summary.names.get(event["actor"], event["actor"]),
            f"{what} ({asked})",
            event["data"].get("reason") or event["data"].get("note") or "",
        )
    return trail


def _print(summary: Summary, data: Path, *, as_json: bool, serving: bool) -> None:
    if as_json:
        sys.stdout.buffer.write(json.format(json.encode(summary)) + b"\n")
        sys.stdout.flush()
        return
    console = Console()
    for step in summary.steps:
        console.print(f"[green]held[/]  {step.name}: [dim]{step.detail}[/]")
    if summary.failure:
        console.print(f"[red]failed[/]  {summary.failure}")
        return
    console.print(_trail(summary))
    accounts = Table("user name", "role", "password", title="Sign-ins")
    for account in summary.accounts:
        accounts.add_row(account["username"], account["role"], account["password"])
    console.print(accounts)
    for name, path in ADDRESSES if serving else ():
        console.print(f"{name:>14}  {summary.url}{path}")
    console.print(f"{'data':>14}  {data}")
    console.print("bek is banned and cannot sign in.")
    if not serving:
        console.print("The site has ended. Without --once it goes on serving.")

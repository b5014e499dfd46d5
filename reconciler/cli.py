"""The commands: parse, compose, print. The only place that prints; exit codes are a contract (see README)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from threading import Event
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from reconciler import __version__, inquiries
from reconciler.checking import check as check_parts
from reconciler.composing import Parts
from reconciler.console import (
    Common,
    ConfigOption,
    JsonOption,
    LevelOption,
    log_to_stderr,
    one_pass,
    opened,
    patience,
    scopes_of,
    speaking,
)
from reconciler.grading.casebook import Casebook
from reconciler.orphans import Orphans
from reconciler.plan import CycleReport
from reconciler.registry import suggested_config
from reconciler.report import EXIT_BREAKER, EXIT_INCOMPLETE, EXIT_OK, as_json, exit_code, lines, table
from reconciler.settings import load

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find Prefect flow runs whose infrastructure has vanished, and set them to Crashed with the reason.",
    epilog="Exit codes: 0 complete, 1 incomplete, 2 usage, 3 zombies found (with --exit-code), 4 breaker open, 70 bug, "
    "78 configuration.",
)

daemon_app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="SIGHUP reads the configuration again. Exit codes: 0 after SIGTERM, 2 usage, 70 bug, 78 configuration.",
)


def main() -> None:
    """`reconcile`: one pass."""
    app(prog_name="reconcile")


def daemon_main() -> None:
    """`reconciler`: pass after pass."""
    daemon_app(prog_name="reconciler")


def _version(value: bool) -> None:  # noqa: FBT001 - typer's callback
    if value:
        print(f"prefect-reconciler {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def reconcile(  # noqa: PLR0913 - the options of a command
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing to Prefect; say what would be.")] = False,
    json_: JsonOption = False,
    tells_zombies: Annotated[bool, typer.Option("--exit-code", help="Exit with 3 if zombies were found.")] = False,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Also list what lives on of runs that have ended; it is never touched.")
    ] = False,
    pool: Annotated[list[str] | None, typer.Option(help="Write only runs of this work pool (again for more).")] = None,
    run: Annotated[list[UUID] | None, typer.Option(help="Write only this flow run (again for more).")] = None,
    accept_scope_loss: Annotated[
        list[str] | None, typer.Option(metavar="SCOPE", help="What is missing there is lost: the breaker gives way.")
    ] = None,
    trust: Annotated[
        list[str] | None, typer.Option(metavar="SCOPE", help="Write there again, in spite of earlier false crashes.")
    ] = None,
    config: ConfigOption = None,
    log_level: LevelOption = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Make one pass: list, look, judge, confirm, and settle what is a zombie."""
    del version
    common = Common(config, log_level, json_)
    if context.invoked_subcommand is not None:
        _refuse_what_is_of_a_pass(context, context.invoked_subcommand)
        context.obj = common
        return
    with speaking() as redactor, opened(common, redactor) as parts:
        policy = replace(
            parts.policy,
            only_pools=frozenset(pool or ()),
            only_runs=frozenset(run or ()),
            accepted_losses=scopes_of(parts, accept_scope_loss or ()),
        )
        with closing(parts.keeping()) as keeping, patience("looking at flow runs"):
            is_trusted = _trust(parts, keeping.casebook, trust or ())
            wanted = Orphans() if orphans else None
            report = keeping.kept(one_pass(parts, keeping.casebook, policy, wanted, dry_run=dry_run))
        _show(report, as_document=json_)
        if parts.is_discovered and report.was_listed and not json_:
            _suggest(parts, report)
        code = exit_code(report, tells_zombies=tells_zombies)
        raise typer.Exit(code if is_trusted or code == EXIT_BREAKER else EXIT_INCOMPLETE)


def _trust(parts: Parts, casebook: Casebook, names: Collection[str]) -> bool:
    """Trust these scopes again, configured or known of old, and say so. False: that could not be kept."""
    told = [(name, casebook.trust(name, parts.clock())) for name in sorted(scopes_of(parts, names, casebook.scopes()))]
    for name, done in told:
        trusted = f"scope '{name}' {'is trusted again' if done.was_distrusted else 'was trusted'}"
        print(parts.redact(done.problem or trusted), file=sys.stderr)
    return not any(done.problem for _, done in told)


def _refuse_what_is_of_a_pass(context: typer.Context, subcommand: str) -> None:
    """Refuse what a subcommand would not heed: a person would take it for done."""
    heeded = {"config", "log_level", "version"} | ({"json_"} if subcommand in {"explain", "report"} else set())
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in heeded and context.params.get(name):
            raise typer.BadParameter(f"'{parameter.opts[0]}' has no meaning with '{subcommand}': leave one of them out")


@app.command()
def check(context: typer.Context, config: ConfigOption = None, log_level: LevelOption = None) -> None:
    """Show the configuration, and whether the API and every scope can be reached. Read-only."""
    with speaking() as redactor, opened(context.obj.over(config, log_level), redactor) as parts:
        with patience("checking"):
            checked = check_parts(parts)
        print("\n".join(checked.lines))
        raise typer.Exit(EXIT_OK if checked.ok else EXIT_INCOMPLETE)


for command in (inquiries.explain, inquiries.replay, inquiries.report):
    app.command()(command)


@daemon_app.command()
def daemon(
    *,
    config: ConfigOption = None,
    log_level: LevelOption = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Look at all flow runs in flight every 30 seconds (`daemon.interval`), and settle the zombies, until SIGTERM."""
    del version
    from reconciler.daemon import Daemon, Hooks  # a one-shot pass needs none of it
    from reconciler.notify import Notifier, watchdog
    from reconciler.station import Station

    with speaking() as redactor:
        log_to_stderr(log_level or "info", redactor)
        flags, over = {"daemon.log_level": log_level}, Event()
        station = Station(lambda: load(config, os.environ, flags), redactor, watchdog(os.environ), over)
        Daemon(station.build, Notifier(os.environ, redactor.text), over, Hooks(station.reloaded, station.failed)).run()


def _show(report: CycleReport, *, as_document: bool) -> None:
    console = Console()
    if as_document:
        print(json.dumps(as_json(report), indent=2))
    elif console.is_terminal:
        console.print(table(report))
    else:
        print("\n".join(lines(report)))


def _suggest(parts: Parts, report: CycleReport) -> None:
    """Without a configuration it only observes: print the one that would make it act."""
    print(
        "\nNo configuration file: nothing is written. Put this into /etc/prefect-reconciler/reconciler.toml to act:\n"
    )
    identities = {scope.name: scope.identity for scope in report.scopes if scope.identity}
    print(suggested_config(parts.bounds, identities) if parts.bounds else "# nothing was found on this machine")
    for note in parts.notes:
        print(f"# {note}")


if __name__ == "__main__":
    main()

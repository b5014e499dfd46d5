"""What every command shares: its options, its parts, its patience, and how it ends."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Annotated

import typer
from rich.console import Console

from reconciler import __version__, logs
from reconciler.composing import Parts, compose
from reconciler.grading.casebook import Casebook
from reconciler.orphans import Orphans
from reconciler.plan import CycleReport, Policy
from reconciler.report import EXIT_BUG, EXIT_CONFIG
from reconciler.settings import ConfigError, load

# The loader says what is wrong with the file, with 78; typer's own check would say 2, and systemd would start it again.
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", readable=False, help="Configuration file (TOML).")
]
LevelOption = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error; to stderr.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@dataclass(frozen=True, slots=True)
class Common:
    """Options that are taken before and after a subcommand."""

    config: Path | None
    log_level: str | None
    as_document: bool = False  # --json

    def over(self, config: Path | None, log_level: str | None, *, as_document: bool = False) -> Common:
        return Common(config or self.config, log_level or self.log_level, as_document or self.as_document)


def log_to_stderr(level: str, redactor: logs.Redactor) -> None:
    """Set up the log; raises typer.BadParameter for a level that is none."""
    try:
        logs.configure(level, redactor)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--log-level") from error


@contextmanager
def opened(common: Common, redactor: logs.Redactor) -> Iterator[Parts]:
    """Build the parts that the configuration asks for, and close them. Raises ConfigError."""
    log_to_stderr(common.log_level or "warning", redactor)
    loaded = load(common.config, os.environ)
    for secret in loaded.settings.api.secrets():
        redactor.redact(secret)
    with closing(compose(loaded, redactor.text)) as parts:
        yield parts


def scopes_of(parts: Parts, names: Collection[str], others: Collection[str] = ()) -> frozenset[str]:
    """Take the names of scopes that there are, or that are known besides."""
    known = {bound.scope.name for bound in parts.bounds}
    if unknown := sorted(set(names) - known - set(others)):
        there = f"there are {', '.join(sorted(known))}" if known else "there is none"
        former = sorted(set(others) - known)
        there += f"; known from earlier are {', '.join(former)}" if former else ""
        raise typer.BadParameter(f"no scope is called '{unknown[0]}': {there}")
    return frozenset(names)


def one_pass(
    parts: Parts, casebook: Casebook, policy: Policy, orphans: Orphans | None = None, *, dry_run: bool
) -> CycleReport:
    """Make one pass; a dry run stops after the plan. Orphans are looked for only if they are asked for."""
    cycle = parts.cycle(time.sleep, casebook, policy, orphans)
    with closing(cycle.outlook):
        planned = cycle.plan()
        return cycle.report(planned, None if dry_run else cycle.settle(planned))


@contextmanager
def speaking() -> Iterator[logs.Redactor]:
    """Turn what goes wrong into one clear text and the contract's exit code; a traceback only for a bug of ours."""
    redactor = logs.Redactor()
    try:
        yield redactor
    except ConfigError as error:
        print(redactor.text(str(error)), file=sys.stderr)
        raise typer.Exit(EXIT_CONFIG) from error
    except (typer.Exit, typer.Abort, typer.BadParameter, KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        print(logs.trace(error, redactor.text), file=sys.stderr)
        print(f"This is a bug of prefect-reconciler {__version__}: please report it.", file=sys.stderr)
        raise typer.Exit(EXIT_BUG) from error


@contextmanager
def patience(what: str) -> Iterator[None]:
    """Show progress only when a terminal has waited for more than a second."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    status = console.status(f"{what} ...")
    timer = Timer(1.0, status.start)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()

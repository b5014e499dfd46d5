"""The commands that give account and write nothing: explain, replay, report."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Console

from reconciler.account import explained, screen
from reconciler.account.explain import Sources, explanation
from reconciler.account.replay import BadChange, NoEvidence, Replay, changes_of, files
from reconciler.account.tally import Tally, told
from reconciler.composing import Parts
from reconciler.console import (
    ConfigOption,
    JsonOption,
    LevelOption,
    log_to_stderr,
    one_pass,
    opened,
    patience,
    speaking,
)
from reconciler.grading import showing
from reconciler.grading.scorecard import scorecard
from reconciler.model import FlowRun, RunId, StateRecord
from reconciler.plan import CycleReport
from reconciler.ports import OrchestratorError
from reconciler.report import EXIT_INCOMPLETE, EXIT_OK

RunArgument = Annotated[UUID, typer.Argument(metavar="RUN_ID", help="The id of a flow run.", show_default=False)]
FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="evidence.jsonl, or the state folder with all of them.", readable=False)
]
WithOption = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="KEY=VALUE", help="Another policy, such as grace=120s (again for more)."),
]


def explain(
    context: typer.Context,
    run_id: RunArgument,
    *,
    json_: JsonOption = False,
    config: ConfigOption = None,
    log_level: LevelOption = None,
) -> None:
    """Say everything of one flow run: what was seen of it, why it stands as it does, and what would make it act."""
    common = context.obj.over(config, log_level, as_document=json_)
    with speaking() as redactor, opened(common, redactor) as parts:
        with closing(parts.casebook()) as casebook, patience("looking at flow runs"):
            report = one_pass(parts, casebook, parts.policy, dry_run=True)
            row, history, problem = _read(parts, run_id, report)
        sources = Sources(
            row=row,
            history=history,
            mappings={bound.scope.name: bound.mapping for bound in parts.bounds},
            folder=parts.loaded.settings.state_dir,
            problem=problem,
            hide=parts.redact,
        )
        answer = explanation(run_id, report, sources)
        if common.as_document:
            print(json.dumps(explained.as_json(answer), indent=2))
        elif (console := Console()).is_terminal:
            console.print(screen.renderable(answer, width=min(console.width, screen.WIDTH)))
        else:
            print("\n".join(screen.as_lines(answer)))
        raise typer.Exit(EXIT_OK if answer.run and report.was_listed and not problem else EXIT_INCOMPLETE)


def _read(
    parts: Parts, run_id: RunId, report: CycleReport
) -> tuple[FlowRun | None, tuple[StateRecord, ...] | None, str]:
    """Read what the pass did not: the row of a run that is not in flight, the history of one that is no suspect."""
    cases = report.snapshot.cases if report.snapshot else ()
    case = next((case for case in cases if case.run.id == run_id), None)
    try:
        row = case.run if case else parts.api.reread([run_id]).get(run_id)
        history = case.history if case else None
        if row is not None and history is None:
            history = tuple(parts.api.history(run_id))
    except OrchestratorError as error:
        return case.run if case else None, None, str(error)
    return row, history, ""


def replay(
    context: typer.Context,
    path: FileArgument,
    *,
    changes: WithOption = None,
    config: ConfigOption = None,
    log_level: LevelOption = None,
) -> None:
    """Decide again what the evidence tells of, byte for byte; with another policy, if asked.

    Needs neither server nor configuration: --config is taken as everywhere, and not read.
    """
    common = context.obj.over(config, log_level)
    with speaking() as redactor:
        log_to_stderr(common.log_level or "warning", redactor)
        tally = Tally()
        try:
            wanted = changes_of(changes or ())
            again = Replay(files(path), wanted, redactor.text)
            for one in again:
                tally.note(one)
                for line in told(one):
                    print(line)
        except (BadChange, NoEvidence, OSError) as error:
            raise typer.BadParameter(str(error)) from error
        print("\n".join(tally.lines(again.skipped, wanted)))
        raise typer.Exit(EXIT_OK if tally.is_reproduced else EXIT_INCOMPLETE)


def report(
    context: typer.Context,
    *,
    json_: JsonOption = False,
    config: ConfigOption = None,
    log_level: LevelOption = None,
) -> None:
    """Say how right its verdicts were: those that `observe` did not write, and those that were written."""
    common = context.obj.over(config, log_level, as_document=json_)
    with speaking() as redactor, opened(common, redactor) as parts:
        with closing(parts.casebook()) as casebook:
            card = scorecard(casebook, datetime.now(UTC))
        if common.as_document:
            print(json.dumps(showing.as_json(card), indent=2))
        elif (console := Console()).is_terminal:
            console.print(showing.table(card))
        else:
            print("\n".join(showing.lines(card)))
        raise typer.Exit(EXIT_INCOMPLETE if card.problems else EXIT_OK)

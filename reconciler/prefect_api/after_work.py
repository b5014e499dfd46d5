"""What follows an accepted Crashed: was it the judged state that it replaced, and a line in the flow run's log."""

from __future__ import annotations

from reconciler.model import FlowRun, OutcomeKind, RunId, StateRecord
from reconciler.plan import Finding, Outcome
from reconciler.ports import OrchestratorError
from reconciler.prefect_api.payloads import State
from reconciler.prefect_api.transport import Transport

_ERROR_LEVEL = 40


def read_history(transport: Transport, run_id: RunId) -> list[StateRecord]:
    """The run's states, oldest first. Raises OrchestratorError."""
    answer = transport.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
    states = transport.decode(answer, list[State], "a list of states")
    return sorted((state.record() for state in states), key=lambda record: record.timestamp)


def after_work(transport: Transport, finding: Finding, accepted: State) -> Outcome:
    """The outcome ACCEPTED, with what was found. Nothing that fails here changes the kind."""
    notes: list[str] = []
    before: StateRecord | None = None
    alarm: str | None = None
    try:
        before, later = _around(read_history(transport, finding.run.id), accepted)
    except OrchestratorError as error:
        alarm = f"what Crashed replaced could not be checked ({error}): look at the run's history"
    else:
        alarm = _alarm(finding.run, before)
        if later is not None:
            notes.append(f"the flow run has reported {later.name} since")
    try:
        _write_log_line(transport, finding, accepted)
    except OrchestratorError as error:
        notes.append(f"no line was added to the flow run's log: {error}")
    return Outcome(OutcomeKind.ACCEPTED, "; ".join(notes), alarm, before)


def _around(history: list[StateRecord], accepted: State) -> tuple[StateRecord | None, StateRecord | None]:
    """The state just before ours, and the last one after ours."""
    ours = next((index for index, record in enumerate(history) if record.id == accepted.id), None)
    if ours is None:
        raise OrchestratorError("the history does not show the accepted state")
    return history[ours - 1] if ours else None, history[-1] if ours < len(history) - 1 else None


def _alarm(judged: FlowRun, before: StateRecord | None) -> str | None:
    if before is not None and before.id == judged.state_id:
        return None
    replaced = f"{before.name} of {before.timestamp:%Y-%m-%d %H:%M:%S} UTC" if before else "no state at all"
    return (
        f"flow run {judged.id} moved on while Crashed was being written: it replaced {replaced}, not the judged "
        f"{judged.state_name}. If its process is alive, set the run back: POST /flow_runs/{judged.id}/set_state with "
        "type RUNNING, which raises its run count by one"
    )


def _write_log_line(transport: Transport, finding: Finding, accepted: State) -> None:
    line = {
        "name": "prefect.reconciler",
        "level": _ERROR_LEVEL,
        "message": finding.message,
        "timestamp": accepted.timestamp,
        "flow_run_id": finding.run.id,
    }
    transport.ask("POST", "/logs/", [line])

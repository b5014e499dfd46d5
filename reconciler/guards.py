"""After the table: what holds a zombie back, and why. Pure. The first guard that speaks is the one that is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from reconciler.breaking import tripped
from reconciler.model import FlowRun, Guard, Heartbeat, LifeSign, StateType, Verdict
from reconciler.plan import Breaker, Finding, Judged, Mode, Plan, Policy, transition_id
from reconciler.resuming import resumed
from reconciler.snapshot import ScopeView, Snapshot
from reconciler.weigh import Weighed
from reconciler.words import moment, span

Guarding = Callable[[Weighed, Finding], str | None]  # why it holds the run; None: it does not
_NO_TIME = timedelta(0)
_LAST_WORDS = timedelta(seconds=2)  # a flow logs until it ends, and Kubernetes tells the end in whole seconds


def guarded_alone(
    judged: Judged, snapshot: Snapshot, policy: Policy, tripped: Sequence[Breaker], ahead: int
) -> Finding:
    """Ask the guards about one run out of many: `tripped` and `ahead`, zombies that come first, are of its pass."""
    watchman = Watchman(snapshot, policy, {breaker.scope: breaker for breaker in tripped})
    return resumed(_rate(watchman.hold(judged.weighed, judged.finding), ahead, policy), judged, policy)


def _rated(findings: Sequence[Finding], policy: Policy) -> list[Finding]:
    """Let the longest standing zombies through, and hold the rest for the next cycle. A family counts as one."""
    heads = sorted({one.head for one in findings if one.verdict is Verdict.ZOMBIE})
    places = {head: place for place, head in enumerate(heads)}
    return [_rate(finding, places.get(finding.head, 0), policy) for finding in findings]


def _rate(finding: Finding, ahead: int, policy: Policy) -> Finding:
    if finding.verdict is not Verdict.ZOMBIE or ahead < policy.max_settlements:
        return finding
    return _held(finding, Guard.RATE, f"at most {policy.max_settlements} are settled in one pass (max_settlements)")


def _held(finding: Finding, guard: Guard, why: str) -> Finding:
    return replace(finding, verdict=Verdict.HELD, guard=guard, reason=f"{finding.reason}; held: {why}")


def opted_out(finding: Finding, policy: Policy) -> str | None:
    """What the operator takes out, or does not take in. Who is taken out stays out."""
    run = _head(finding)
    kinds = (
        ("work pool", [run.work_pool], policy.exclude_work_pools, policy.include_work_pools),
        ("work queue", [run.work_queue], policy.exclude_work_queues, policy.include_work_queues),
        ("deployment", [_text(run.deployment_id)], policy.exclude_deployments, policy.include_deployments),
        ("tag", sorted(run.tags), policy.exclude_tags, policy.include_tags),
    )
    for kind, mine, excluded, _ in kinds:
        if out := [name for name in mine if name in excluded]:
            return f"{kind} '{out[0]}' is excluded"
    for kind, mine, _, included in kinds:
        if included and not any(name in included for name in mine):
            return f"none of its {kind}s is included" if kind == "tag" else f"its {kind} is not included"
    return None


def _head(finding: Finding) -> FlowRun:
    """What opting in and out goes by: a subflow has its root's work pool, queue and deployment, and its tags too."""
    head, run = finding.inside, finding.run
    return run if head is None else replace(head, tags=head.tags | run.tags)


def _text(deployment: UUID | None) -> str | None:
    return None if deployment is None else str(deployment)


@dataclass(frozen=True, slots=True)
class Watchman:
    """Asks each guard about a zombie. A guard answers why it holds, or None."""

    snapshot: Snapshot
    policy: Policy
    breakers: dict[str, Breaker]

    @classmethod
    def over(
        cls, judged: Sequence[Judged], snapshot: Snapshot, policy: Policy, tripped_before: Sequence[Breaker] = ()
    ) -> Watchman:
        """Set one up who knows which scopes tripped, in this look or earlier in the cycle."""
        before = {breaker.scope: breaker for breaker in tripped_before}
        return cls(snapshot, policy, before | tripped(judged, snapshot, policy))

    def plan(self, judged: Sequence[Judged]) -> Plan:
        """Hold what is to be held, and let the rest through in its turn."""
        policy = self.policy
        findings = _rated([self.hold(one.weighed, one.finding) for one in judged], policy)
        held = {f.scope for f in findings if f.is_absent and f.verdict is not Verdict.ZOMBIE} - policy.accepted_losses
        breakers = tuple(replace(breaker, holds=breaker.scope in held) for breaker in self.breakers.values())
        pairs = zip(findings, judged, strict=True)
        return Plan(
            findings=tuple(resumed(finding, one, policy) for finding, one in pairs),
            breakers=breakers,
            judged=tuple(judged),
        )

    @property
    def guards(self) -> tuple[tuple[Guard, Guarding], ...]:
        """Every guard that looks at one run by itself, in the order in which they are asked."""
        return (
            (Guard.AGAIN, self.again),
            (Guard.LISTING, self.listing),
            (Guard.BREAKER, self.breaker),
            (Guard.IDENTITY, self.identity),
            (Guard.AMNESTY, self.amnesty),
            (Guard.QUIET, self.quiet),
            (Guard.LIFE_SIGN, self.life_sign),
            (Guard.SELECTION, self.selection),
            (Guard.OPT_OUT, self.opt_out),
            (Guard.TRUST, self.trust),
            (Guard.MODE, self.mode),
        )

    def hold(self, weighed: Weighed, finding: Finding) -> Finding:
        if finding.verdict is not Verdict.ZOMBIE:
            return finding
        for guard, speaks in self.guards:
            why = speaks(weighed, finding)
            if why is not None:
                return _held(finding, guard, why)
        return finding

    def again(self, weighed: Weighed, finding: Finding) -> str | None:
        """We crashed this attempt before, and it came back: never a second time."""
        history, attempt = weighed.case.history or (), weighed.attempt
        ours = {transition_id(finding.run.id, record.id) for record in history}
        for record in history:
            crash = record.type is StateType.CRASHED and record.transition_id in ours
            if crash and attempt and record.timestamp >= attempt.began:
                return "it came back after we crashed it"
        return None

    def listing(self, weighed: Weighed, finding: Finding) -> str | None:
        """Half a list makes half the runs of a scope look like all of them."""
        whole = self.snapshot.is_whole or not finding.is_absent
        return None if whole else "the list of flow runs broke off, so what share of the scope vanished is not known"

    def breaker(self, weighed: Weighed, finding: Finding) -> str | None:
        tripped = self.breakers.get(finding.scope or "")
        if tripped is None or not finding.is_absent or tripped.scope in self.policy.accepted_losses:
            return None
        since = self.snapshot.scopes[tripped.scope].breaker_since
        seen = [a.sighting.last_seen for a in weighed.absent if a.sighting and a.scope.name == finding.scope]
        release = self.policy.breaker_release
        if finding.is_sighted and since is not None and self._now - max([since, *seen]) >= release:
            return None
        how = f"`reconcile --accept-scope-loss {tripped.scope}` if it is lost"
        how = f"released after {span(release)}, or by {how}" if finding.is_sighted else f"never seen there: {how}"
        return (
            f"breaker: {tripped.absent} of {tripped.counted} runs are missing from scope '{tripped.scope}', "
            f"which looks like a fault of the scope ({how})"
        )

    def identity(self, weighed: Weighed, finding: Finding) -> str | None:
        """A place that changed, or that is met for the first time, is not yet known to be the right one."""
        scope = self._scope(finding)
        if scope is None or not finding.is_absent or scope.pinned or scope.known_since is None:
            return None
        age = self._now - scope.known_since
        if age >= self.policy.quiet or (scope.former_identity is None and finding.is_sighted):
            return None
        if scope.former_identity is not None:
            return f"scope '{scope.name}' changed its identity {span(age)} ago"
        return f"scope '{scope.name}' is known for {span(age)} only, held until {span(self.policy.quiet)} (or pin it)"

    def amnesty(self, weighed: Weighed, finding: Finding) -> str | None:
        """Our own clock jumped, so no age is what it seems; or the scope may not show all yet."""
        jumped, limit = self.snapshot.clock_jumped, self.policy.amnesty
        if jumped is not None and self._now - jumped < limit:
            since = span(max(self._now - jumped, _NO_TIME))
            return (
                f"this machine's clock jumped, or it slept, {since} ago (or its memory cannot tell); "
                f"held until {span(limit)}"
            )
        scopes = [absence.scope for absence in weighed.absent] if finding.is_absent else []
        return next((why for scope in scopes if (why := self._is_new(scope)) is not None), None)

    def _is_new(self, scope: ScopeView) -> str | None:
        """A place that has just come back may not show all that runs in it. Any of them: the run may be in that one."""
        limit = span(self.policy.amnesty)
        for what, since in (("has answered again for", scope.back_since), ("has been up for", scope.started)):
            age = self._now - since if since is not None else self.policy.amnesty
            if -scope.clock.uncertainty <= age < self.policy.amnesty:  # further ahead, its clock was set back since
                return f"scope '{scope.name}' {what} {span(max(age, _NO_TIME))}, held until {limit}"
        return None

    def quiet(self, weighed: Weighed, finding: Finding) -> str | None:
        """Never seen here by us, or ended where nobody could see it: believe its heartbeats rather than the place."""
        seen = [sight.observation for sight in weighed.ended] + [absence.observation for absence in weighed.absent]
        unseen_end = any(one is not None and one.unseen_end for one in seen)
        if not unseen_end and (not finding.is_absent or finding.is_sighted):
            return None
        beat = self.snapshot.heartbeats.get(finding.run.id)
        return self._beats(beat) if beat else None

    def life_sign(self, weighed: Weighed, finding: Finding) -> str | None:
        """A heartbeat, log line or task run later than the end contradicts it."""
        snapshot, run_id = self.snapshot, finding.run.id
        for what, error in (("heartbeats", snapshot.heartbeats_error), ("life signs", snapshot.life_signs_error)):
            if error is not None:
                return f"its {what} could not be read: {error}"
        end = self._end(weighed, finding)
        if end is None:
            return None
        scope = self._scope(finding)
        end += (scope.clock.uncertainty if scope else _NO_TIME) + snapshot.server_clock.uncertainty
        beat, sign = snapshot.heartbeats.get(run_id), snapshot.life_signs.get(run_id)
        why = self._beats(beat) if beat and snapshot.server_clock.to_ours(beat.last) > end else None
        end += _LAST_WORDS
        return why or (self._lives(sign) if sign and snapshot.server_clock.to_ours(sign.at) > end else None)

    def selection(self, weighed: Weighed, finding: Finding) -> str | None:
        policy, head = self.policy, finding.inside or finding.run  # a subflow goes with its root
        chosen = (not policy.only_pools or head.work_pool in policy.only_pools) and (
            not policy.only_runs or not policy.only_runs.isdisjoint({head.id, finding.run.id})
        )
        return None if chosen else "not among the runs chosen with --pool or --run"

    def opt_out(self, weighed: Weighed, finding: Finding) -> str | None:
        return opted_out(finding, self.policy)

    def trust(self, weighed: Weighed, finding: Finding) -> str | None:
        """The word of a scope that was wrong of late; to an absence all scopes say theirs."""
        absent = [absence.scope for absence in weighed.absent] if finding.is_absent else []
        for scope in (self._scope(finding), *absent):
            if scope is not None and scope.distrusted_since is not None:
                since = moment(scope.distrusted_since, self._now)
                return (
                    f"scope '{scope.name}' is not trusted since {since}, for false crashes were seen (`reconcile "
                    f"report`): trust it again with `reconcile --trust {scope.name}`"
                )
        return None

    def mode(self, weighed: Weighed, finding: Finding) -> str | None:
        if self.policy.mode is Mode.OBSERVE:
            return 'mode is "observe", nothing is written'
        scope = self._scope(finding)
        if scope is None and self.snapshot.scopes and all(one.observes for one in self.snapshot.scopes.values()):
            return 'the mode of every scope is "observe", nothing is written'
        observes = scope is not None and scope.observes
        return f"the mode of scope '{finding.scope}' is \"observe\", nothing is written" if observes else None

    @property
    def _now(self) -> datetime:
        return self.snapshot.taken_at

    def _scope(self, finding: Finding) -> ScopeView | None:
        """Where it was judged; a subflow may be judged by what its root reported alone."""
        return self.snapshot.scopes.get(finding.scope or "")

    def _beats(self, beat: Heartbeat) -> str | None:
        """Hold while the last heartbeat is younger than `quiet`, or than 1.2 of the run's own cadence."""
        age = self._now - self.snapshot.server_clock.to_ours(beat.last)
        limit = max(self.policy.quiet, 1.2 * beat.cadence)
        return f"its last heartbeat is {span(age)} old, held until {span(limit)}" if age < limit else None

    def _lives(self, sign: LifeSign) -> str | None:
        age = self._now - self.snapshot.server_clock.to_ours(sign.at)
        quiet = self.policy.quiet
        if age >= quiet:
            return None
        other = "if that was not its own process, set it Crashed by hand"
        return f"its last {sign.what} is {span(age)} old, held until {span(quiet)} ({other})"

    def _end(self, weighed: Weighed, finding: Finding) -> datetime | None:
        """When the resource ended, or was first found absent, in our clock."""
        seen, looks, scope = finding.observation, weighed.case.looks, self._scope(finding)
        root = self.snapshot.roots.get(finding.root) if finding.root else None
        final = root.run.state_since if root is not None and root.run.state_type.is_terminal else None
        reported = [self.snapshot.server_clock.to_ours(final)] if final else []
        if seen is not None and seen.ended_at is not None and scope is not None:
            return min([scope.clock.to_ours(seen.ended_at), *reported])
        if reported:
            return reported[0]
        known = [weighed.case.first_look.at] if weighed.case.first_look else []
        if finding.is_absent:
            known += [one.absent_since for one in looks if one.scope == finding.scope and one.absent_since]
        if seen is not None and seen.resource is not None:
            here = (sighting for look in looks if look.scope == finding.scope for sighting in look.sightings)
            known += [one.ended_seen for one in here if one.ended_seen and one.resource.id == seen.resource.id]
        return min(known, default=None)

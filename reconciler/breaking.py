"""In which scopes so much vanished at once that the scope is the better explanation. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from reconciler.plan import Breaker, Judged, Policy
from reconciler.snapshot import Snapshot
from reconciler.weigh import weigh

_LAST_WORDS = timedelta(seconds=2)  # between what a place shows and what the server has written


def tripped(judged: Sequence[Judged], snapshot: Snapshot, policy: Policy) -> dict[str, Breaker]:
    """Find the scopes in which too many runs vanished at once. Ends that were seen do not count: they are positive.

    Nor do runs that no absence would condemn now (pending, cancelling): they would make the share look small.
    """
    lost = list(_lost_after_their_end(snapshot))
    mine = [one for one in judged if one.finding.inside is None]  # subflows are no resources
    counting = (one for one in mine if one.finding.run.may_run or one.finding.is_absent)
    counted = Counter(scope for one in counting for scope in one.weighed.counted_in)
    absent = Counter(one.finding.scope for one in mine if one.finding.is_absent and one.finding.scope)
    counted.update(lost)
    absent.update(lost)
    breakers = (Breaker(scope, gone, counted[scope]) for scope, gone in sorted(absent.items()))
    return {breaker.scope: breaker for breaker in breakers if breaker.trips(policy)}


def _lost_after_their_end(snapshot: Snapshot) -> Iterator[str]:
    """Where roots have vanished that were seen alive after their final state: somebody had ended them by mistake.

    The resource of any other run that has ended is expected to be gone.
    """
    to_ours = snapshot.server_clock.to_ours
    for case in snapshot.roots.values():
        weighed = weigh(case, snapshot)
        if not weighed.live and not weighed.ended and case.run.state_type.is_terminal:
            seen = (one for one in weighed.absent if one.counts and one.sighting and one.sighting.live_seen)
            ended = to_ours(case.run.state_since) + _LAST_WORDS
            yield from sorted(
                one.scope.name for one in seen if one.sighting and (one.sighting.live_seen or ended) > ended
            )

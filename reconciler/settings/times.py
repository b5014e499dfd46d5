"""Times that follow from the settings: how long a cycle may last, and what the service manager must allow for it."""

from __future__ import annotations

from datetime import timedelta

from reconciler.settings import durations
from reconciler.settings.model import Settings

# One settlement may be under way when the deadline comes, and is finished (`prefect_api.api.SETTLEMENT_TIME`).
_LAST_SETTLEMENT = timedelta(seconds=30)


def longest_cycle(settings: Settings) -> timedelta:
    """The end of a cycle that reaches its deadline just before the wait for the second look."""
    policy = settings.policy
    looks = policy.confirm_after + policy.scope_deadline
    return settings.daemon.cycle_deadline + looks + settings.api.timeout + _LAST_SETTLEMENT


def longest_silence(settings: Settings) -> timedelta:
    """The longest time from the end of one cycle to that of the next, while all is well."""
    return settings.daemon.interval + settings.daemon.jitter + longest_cycle(settings)


def watchdog_problem(settings: Settings, watchdog: timedelta | None) -> str | None:
    """Say why this watchdog would end a daemon that is well; None if it would not."""
    needed = longest_silence(settings)
    if watchdog is None or watchdog > needed:
        return None
    return (
        f"WatchdogSec of the systemd unit is {durations.text(watchdog)}, but a cycle and the wait before it may last "
        f"{durations.text(needed)} (interval, jitter, cycle_deadline, confirm_after, scope_deadline, api.timeout and "
        "30s): raise WatchdogSec, or lower one of those"
    )


def deadline_problem(settings: Settings) -> str | None:
    """Say why passes with this deadline would end before they settle anything; None if they would not."""
    given, needed = settings.daemon.cycle_deadline, 3 * (settings.policy.confirm_after + settings.policy.scope_deadline)
    if given >= needed:
        return None
    return (
        f"daemon.cycle_deadline: {durations.text(given)} is too short for a pass to look twice and then to settle: "
        f"write at least {durations.text(needed)}, three times confirm_after + scope_deadline"
    )

"""The family of an explained run, as entries of its screen. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from reconciler.account.explained import Explanation, InsideTold
from reconciler.words import clipped, moment, span

_SHOWN = 3

Entry = tuple[str, str]  # label, text


def family_entries(told: Explanation, now: datetime) -> Iterator[Entry]:
    """Whose process it runs in, and what runs in its own."""
    if told.inside is not None:
        yield "inside", _inside(told.inside, now)
        if told.inside.vouched:
            yield "  vouched", f"what tells that its root's process ended: {told.inside.vouched}"
    if told.children:
        shares = "which share its fate" if told.child_count > 1 else "which shares its fate"
        first = f"; the first {_SHOWN}" if told.child_count > _SHOWN else ""
        yield "subflows", f"{told.child_count} in flight inside its process, {shares}{first}:"
        for one in told.children[:_SHOWN]:  # a line each: none is cut off
            yield "", f"{one.id} ({clipped(one.name, 30)}, {clipped(one.state_name, 15)})"
    for orphan in told.orphans[:_SHOWN]:
        yield "lives on", orphan.text


def _inside(inside: InsideTold, now: datetime) -> str:
    if inside.root_id is None or inside.root_since is None:
        return inside.note
    since = f"{inside.root_state_name} since {moment(inside.root_since, now)}, for {span(now - inside.root_since)}"
    root = f"flow run {inside.root_id} ({inside.root_name}), {since}"
    if inside.depth == 1:
        return f"its parent and root {root}; the scopes below are asked about that"
    name = f" ({inside.parent_name})" if inside.parent_name else ""
    return (
        f"parent {inside.parent_id}{name}, {inside.depth} levels below its root {root}; the scopes below are asked "
        "about the root"
    )

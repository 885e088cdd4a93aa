"""An explained decision as tables, for people."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from stream.inspect.entity_view import View
    from stream.inspect.explain import Explanation


def show(found: Explanation, console: Console | None = None) -> None:
    """Print what the model knew at that moment, and what came of it."""
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=130)  # a file or a pipe has no width of its own
    decision = found.decision
    console.print(f"{decision.transaction_id}, {_time(decision.event_time)}", style="bold", markup=False)
    console.print(
        f"card {decision.card_id}, merchant {decision.merchant_id}, {decision.amount_minor:,} minor units of "
        f"{decision.currency}",
        markup=False,
    )
    console.print(
        f"{decision.action}, score {decision.score:.6f} by {decision.model_version} ({found.learned:,} "
        f"examples learned); review from {found.review_from:.6f}, decline from {found.decline_from:.6f}",
        markup=False,
    )
    console.print(_entities(found))
    console.print(_features(found))
    total = found.bias + sum(feature.contribution for feature in found.features)
    console.print(
        f"bias {found.bias:+.4f} and contributions {total - found.bias:+.4f} make log-odds {total:+.4f}: "
        f"score {found.score:.6f}"
    )
    console.print(
        _verdict(found.follows, "features", "follow from the profiles"), style=_style(found.follows)
    )
    console.print(_verdict(found.is_same, "score", "is the recorded one"), style=_style(found.is_same))
    for remark in found.remarks:
        console.print(f"note: {remark}", style="yellow", markup=False)


def _entities(found: Explanation) -> Table:
    table = Table(title="what was known of each entity before it", title_justify="left")
    for name in (
        "entity",
        "events",
        "last",
        "half-life",
        "of late",
        "usual amount",
        "frauds",
        "genuine",
        "labels",
    ):
        table.add_column(name, justify="left" if name in ("entity", "last", "labels") else "right")
    for kind, one in found.entities.items():
        for place, span in enumerate(one.spans or [None]):
            first = place == 0
            table.add_row(
                one.entity if first else "",
                f"{one.events:,}" if first else "",
                _time(one.last) if first else "",
                span.half_life if span else "",
                f"{span.events:,.2f}" if span else "",
                f"{span.usual_amount:,.2f}" if span and span.usual_amount is not None else "",
                f"{span.frauds:,.2f}" if span else "",
                f"{span.genuine:,.2f}" if span else "",
                _labels(one) if first else "",
                end_section=place == len(one.spans) - 1,
            )
        assert kind, "an entity has a kind"
    return table


def _labels(one: View) -> str:
    latest = ", ".join("fraud" if label else "genuine" for label in one.latest_labels)
    return f"{one.frauds:,} fraud, {one.genuine:,} genuine" + (f"; latest {latest}" if latest else "")


def _features(found: Explanation) -> Table:
    table = Table(title="what the model saw", title_justify="left")
    for name in ("feature", "value", "contribution", "meaning"):
        table.add_column(name, justify="left" if name in ("feature", "meaning") else "right")
    for feature in found.features:
        table.add_row(
            feature.name,
            "" if feature.value is None else f"{feature.value:.6g}",
            f"{feature.contribution:+.4f}" if feature.contribution else "",
            feature.text,
        )
    return table


def _verdict(holds: bool, what: str, claim: str) -> str:
    return (
        f"computed again, the {what} {claim}, to the bit"
        if holds
        else f"computed again, the {what} DIFFER(S)"
    )


def _style(holds: bool) -> str:
    return "green" if holds else "bold red"


def _time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}" if time else "never"

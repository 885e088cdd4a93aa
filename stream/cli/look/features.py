"""riverwatch features: what a feature specification gives, what it means and what it costs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--features",
    "spec_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A feature specification (TOML) [the default one].",
)
def features(spec_file: Path | None) -> None:
    """List the features of a specification: meaning, entity, unit, half-life, and cost in microseconds."""
    from rich.console import Console  # noqa: PLC0415 - `--help` stays instant
    from rich.table import Table  # noqa: PLC0415

    from models.features.descriptions import check_crosses  # noqa: PLC0415
    from models.features.spec import DEFAULT_SPEC, load_spec  # noqa: PLC0415
    from stream.experiment.feature_cost import prices  # noqa: PLC0415

    spec = load_spec(spec_file) if spec_file else DEFAULT_SPEC
    check_crosses(spec)
    found = prices(spec)
    table = Table()
    for name in ("feature", "meaning", "entity", "unit", "half-life", "us"):
        table.add_column(name, justify="right" if name == "us" else "left")
    for one, cost in found.listed:
        shown = f"{cost:.2f}" if cost else ""
        table.add_row(one.name, one.meaning, one.entity, one.unit, one.half_life, shown)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=130)  # a file or a pipe has no width of its own
    console.print(table)
    updates = ", ".join(f"{kind} {cost:.1f}" for kind, cost in found.profiles.items())
    console.print(
        f"Together {found.features:.1f} us an event, measured here on an entity that is known well; "
        f"a feature's cost is its share of its statistic's. Updating profiles takes, us an event: {updates}."
    )
    crosses = "; ".join(" x ".join(cross) for cross in spec.crosses)
    console.print(f"Seen together as well: {crosses or 'nothing'}.")

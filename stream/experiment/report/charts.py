"""Charts as inline SVG: no script, no resource from elsewhere, colours by the page's variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 54, 24, 12, 40
COLOURS = 6
ASIDE = -1  # the colour of what is only there to compare with

Points = Sequence[tuple[float, float]]


class Series(NamedTuple):
    """One line; points that are not finite break it.

    Attributes:
        colour: which one of the page's.
        dashed: for what is beside the point, such as a frozen copy.
        dots: draw every point.
    """

    name: str
    points: Points
    colour: int = 0
    dashed: bool = False
    dots: bool = False


class Axis(NamedTuple):
    """From the lowest to the highest value; ticks are values with what is written beside them."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1."""
        if self.is_log:
            low, high = math.log(self.low), math.log(self.high)
            value = math.log(max(value, self.low))
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low or 1.0), 0.0), 1.0)


def linear(
    title: str, values: Sequence[float], *, low: float | None = None, high: float | None = None
) -> Axis:
    """An axis with some four round ticks over all values."""
    finite = [value for value in values if math.isfinite(value)]
    bottom = min(finite, default=0.0) if low is None else low
    top = max(finite, default=1.0) if high is None else high
    if top <= bottom:
        top = bottom + 1.0
    step = 10.0 ** math.floor(math.log10((top - bottom) / 3.0))
    step = next(step * each for each in (1.0, 2.0, 5.0, 10.0) if (top - bottom) / (step * each) <= 5.0)  # noqa: PLR2004 - ticks
    first, last = math.floor(bottom / step + 1e-9), math.ceil(top / step - 1e-9)
    ticks = [(at * step, f"{at * step:.10g}") for at in range(first, last + 1)]
    return Axis(title, first * step, last * step, ticks)


def days(title: str, names: Sequence[str]) -> Axis:
    """An axis of days, by their place; some four of them are named."""
    count = len(names)
    every = max(math.ceil(count / 4), 1)
    ticks = [(float(at), names[at][5:]) for at in range(0, count, every)]
    return Axis(title, 0.0, float(max(count - 1, 1)), ticks)


def line_chart(
    title: str, x: Axis, y: Axis, series: Sequence[Series], *, mark: float | None = None
) -> Markup:
    """A figure with lines and a key.

    Args:
        title: what it shows.
        x: the axis across.
        y: the axis up.
        series: the lines.
        mark: an x where a vertical line stands.
    """
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(value: float) -> str:
        return f"{LEFT + x.place(value) * inner_width:.1f}"

    def down(value: float) -> str:
        return f"{TOP + (1.0 - y.place(value)) * inner_height:.1f}"

    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title, quote=True)}">']
    for value, text in y.ticks:
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{right}" y1="{down(value)}" y2="{down(value)}"/>'
            f'<text x="{LEFT - 6}" y="{float(down(value)) + 4:.1f}" text-anchor="end">{escape(text)}</text>'
        )
    for value, text in x.ticks:
        parts.append(
            f'<text x="{across(value)}" y="{bottom + 16}" text-anchor="middle">{escape(text)}</text>'
        )
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    middle = LEFT + inner_width / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.title)}</text>')
    if mark is not None:
        parts.append(
            f'<line class="axis dash" x1="{across(mark)}" x2="{across(mark)}" y1="{TOP}" y2="{bottom}"/>'
        )
    parts += [_line(one, across, down) for one in series]
    parts.append("</svg>")
    figure = f"<figure><h3>{escape(title)}</h3>{''.join(parts)}{_key(series, y.title)}</figure>"
    return Markup(figure)  # noqa: S704 - escaped piece by piece above


def _colour(one: Series) -> str:
    return "var(--soft)" if one.colour == ASIDE else f"var(--c{one.colour % COLOURS})"


def _line(one: Series, across: object, down: object) -> str:
    assert callable(across)
    assert callable(down)
    path, dots, pen_up = [], [], True
    for x, y in one.points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen_up = True
            continue
        path.append(f"{'M' if pen_up else 'L'}{across(x)} {down(y)}")
        pen_up = False
        if one.dots:
            dots.append(f'<circle cx="{across(x)}" cy="{down(y)}" r="3" style="fill:{_colour(one)}"/>')
    dash = " dash" if one.dashed else ""
    stroke = f"stroke:{_colour(one)}"
    return f'<path class="curve{dash}" style="{stroke}" d="{" ".join(path)}"/>{"".join(dots)}'


def _key(series: Sequence[Series], title: str) -> str:
    items = "".join(
        f'<li><i style="background:{_colour(one)}"></i>{escape(one.name)}</li>' for one in series if one.name
    )
    return f'<ul class="key"><li>{escape(title)}:</li>{items}</ul>'

"""Charts as inline SVG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from nni_hyperfd.pages.html import Markup, element

COLORS = ("#1f77ff", "#e4572e", "#2a9d5c", "#9a5bd1", "#c9971c", "#17a2b8", "#d6408c", "#6b7280")
WIDTH, HEIGHT = 620, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 38

Curve = Sequence[tuple[float, float]]
Ticks = Sequence[tuple[float, str]]
"""Values, each with what stands at it."""


def lines(
    series: Mapping[str, Curve],
    x_title: str,
    y_title: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] = (0.0, 1.0),
    dots: bool = False,
) -> Markup:
    """One line for each of ``series``, with a legend below."""
    xs = [x for points in series.values() for x, _ in points]
    low, high = x_range or (min(xs, default=0.0), max(xs, default=1.0))
    if high <= low:
        high = low + 1
    frame = _Frame((low, high), y_range)
    parts = [*frame.axes(x_title, y_title)]
    for number, (name, points) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
        line = element("polyline", points=path, fill="none", stroke=color, stroke_width=2)
        marks = [
            element("circle", cx=f"{frame.x(x):.1f}", cy=f"{frame.y(y):.1f}", r=3, fill=color)
            for x, y in points
        ]
        parts.append(element("g", element("title", name), line, *(marks if dots else ())))
    legend = [
        element("g", _swatch(number), element("text", name, x=LEFT + 16, y=HEIGHT + 15 + 18 * number))
        for number, name in enumerate(series)
    ]
    return _svg(HEIGHT + 18 * len(series) + 8, *parts, *legend)


def front(points: Curve, best: Curve, x_title: str, y_title: str) -> Markup:
    """Dots, and the steps along the ``best`` of them: what is reached for as much on the x axis, or less."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    margin = 0.05 * (max(xs) - min(xs)) or 1.0
    frame = _Frame((min(xs) - margin, max(xs) + margin), (max(0.0, min(ys) - 0.05), min(1.0, max(ys) + 0.05)))
    ordered = sorted(best)
    corners = [(x, y) for x, y in ordered[:1]]
    for (_, before), (x, y) in itertools.pairwise(ordered):
        corners += [(x, before), (x, y)]
    corners += [(frame.x_range[1], y) for _, y in ordered[-1:]]
    path = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in corners)
    dots = [
        element(
            "circle",
            cx=f"{frame.x(x):.1f}",
            cy=f"{frame.y(y):.1f}",
            r=4 if (x, y) in ordered else 3,
            fill=COLORS[0] if (x, y) in ordered else COLORS[-1],
        )
        for x, y in points
    ]
    line = element("polyline", points=path, fill="none", stroke=COLORS[0], stroke_width=2)
    return _svg(HEIGHT, *frame.axes(x_title, y_title), line, *dots)


def histogram(
    values: Sequence[float],
    marks: Mapping[str, float],
    x_title: str,
    y_title: str,
    x_range: tuple[float, float] | None = None,
    bins: int = 28,
) -> Markup:
    """How often values occur, on a logarithmic axis of doublings, with dashed lines at ``marks``; "!" before a name: in red.

    Args:
        values: Above 0.
        marks: Name and value of each line.
        x_title: With the unit of the values.
        y_title: Of what is counted.
        x_range: Least and greatest value of the axis, for several charts on one scale.
        bins: Number of columns.
    """
    ends = x_range or (min(*values, *marks.values()), max(*values, *marks.values()))
    low, high = math.log2(ends[0] * 0.9), math.log2(ends[1] * 1.1)
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((math.log2(value) - low) / (high - low) * bins))] += 1
    heights = whole_ticks(max(counts))
    frame = _Frame((low, high), (0, heights[-1]))
    step = (high - low) / bins
    bars = [
        element(
            "rect",
            element("title", f"{2 ** (low + i * step):.0f} to {2 ** (low + (i + 1) * step):.0f}: {count}"),
            x=f"{frame.x(low + i * step):.1f}",
            y=f"{frame.y(count):.1f}",
            width=f"{frame.x(low + step) - frame.x(low) - 1:.1f}",
            height=f"{frame.y(0) - frame.y(count):.1f}",
            fill="#9dbff5",
        )
        for i, count in enumerate(counts)
        if count
    ]
    lines_at = [
        element(
            "g",
            element("title", f"{name}: {value:g}"),
            element(
                "line",
                x1=f"{frame.x(math.log2(value)):.1f}",
                x2=f"{frame.x(math.log2(value)):.1f}",
                y1=TOP,
                y2=HEIGHT - BOTTOM,
                stroke="#b3261e" if name.startswith("!") else "#66707f",
                stroke_dasharray="4 4",
            ),
            # In a line of its own: it often stands at one of the others.
            element(
                "text",
                name.lstrip("!"),
                x=f"{frame.x(math.log2(value)) + 3:.1f}",
                y=TOP + (24 if name.startswith("!") else 9),
            ),
        )
        for name, value in marks.items()
    ]
    doublings = [2.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    ticks = [(math.log2(value), f"{value:g}") for value in doublings]
    shown = [(float(height), f"{height}") for height in heights]
    return _svg(HEIGHT, *frame.axes(x_title, y_title, ticks, shown), *bars, *lines_at)


def whole_ticks(highest: int, most: int = 5) -> list[int]:
    """Multiples of 1, 2 or 5 times a power of ten from 0 to at least ``highest``, in at most ``most`` steps."""
    steps = (factor * 10**power for power in range(20) for factor in (1, 2, 5))
    step = next(step for step in steps if step * most >= highest)
    return list(range(0, max(1, -(-highest // step)) * step + 1, step))


class _Frame:
    """Values to places."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self.x_range, self.y_range = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def axes(
        self,
        x_title: str,
        y_title: str,
        x_ticks: Ticks | None = None,
        y_ticks: Ticks | None = None,
    ) -> list[Markup]:
        parts = [element("title", f"{y_title} against {x_title}")]
        low, high = self.y_range
        quarters = [low + (high - low) * i / 4 for i in range(5)]
        for value, label in y_ticks or [(value, f"{value:.2f}") for value in quarters]:
            y = f"{self.y(value):.1f}"
            parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke="#e8ebef"))
            parts.append(element("text", label, x=LEFT - 6, y=self.y(value) + 4, text_anchor="end"))
        start, end = self.x_range
        ticks = x_ticks or [
            (start + (end - start) * i / 4, f"{start + (end - start) * i / 4:.3g}") for i in range(5)
        ]
        for value, label in ticks:
            place = f"{self.x(value):.1f}"
            parts.append(element("text", label, x=place, y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(element("text", x_title, x=middle, y=HEIGHT - 4, text_anchor="middle"))
        return parts


def _swatch(number: int) -> Markup:
    y = HEIGHT + 5 + 18 * number
    return element("rect", x=LEFT, y=y, width=11, height=11, fill=COLORS[number % len(COLORS)])


def _svg(height: int, *content: Markup) -> Markup:
    return element("svg", *content, viewBox=f"0 0 {WIDTH} {height}", width=WIDTH, _class="chart", role="img")

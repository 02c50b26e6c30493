"""The parts of pages: well-formed, to scale, and safe against names."""

from __future__ import annotations

import base64
import io
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nni_hyperfd.pages import charts
from nni_hyperfd.pages.html import html_table, page, text
from nni_hyperfd.pages.tiles import TILE, DrawnBox, sheet, tile

NASTY = "<script>alert('&\"')</script>.jpg"
sides = st.lists(st.floats(0.5, 4000), min_size=1, max_size=60)


@given(sides)
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    marks = {"16": 16.0, "!counts from": 20.0}
    tree = ElementTree.fromstring(charts.histogram(values, marks, "side", "faces"))
    counts, heights = [], []
    for bar in tree.findall("rect"):
        said = bar.findtext("title")
        assert said is not None
        counts.append(int(said.rsplit(": ", 1)[1]))
        heights.append(float(bar.attrib["height"]))
        assert 0 <= float(bar.attrib["x"]) <= charts.WIDTH
    assert sum(counts) == len(values)
    # Heights by the axis, whose numbers are whole.
    ticks = {
        int(t.text or ""): float(t.attrib["y"]) - 4
        for t in tree.findall("text")
        if t.attrib.get("text-anchor") == "end"
    }
    assert max(ticks) >= max(counts)
    unit = (ticks[0] - ticks[max(ticks)]) / max(ticks)
    assert all(ticks[0] - y == pytest.approx(unit * value, abs=0.01) for value, y in ticks.items())
    assert heights == pytest.approx([unit * count for count in counts], abs=0.11)
    assert len(tree.findall("g/line")) == len(marks)


@given(st.integers(0, 10**6))
def test_whole_ticks_reach_the_highest_bar_in_few_even_steps(highest: int) -> None:
    ticks = charts.whole_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-2] < max(1, highest) <= ticks[-1]
    assert len(ticks) <= 6
    assert len({b - a for a, b in pairwise(ticks)}) == 1


def test_a_histogram_puts_values_where_its_axis_says() -> None:
    """Doublings lie equally far apart, and a mark lies within the bar of the same value."""
    tree = ElementTree.fromstring(charts.histogram([16.0] * 3 + [256.0], {"anchor": 64.0}, "side", "faces"))
    ticks = {
        t.text: float(t.attrib["x"]) for t in tree.findall("text") if t.attrib.get("text-anchor") == "middle"
    }
    steps = [ticks[f"{2 ** (n + 1)}"] - ticks[f"{2**n}"] for n in range(4, 8)]
    assert max(steps) - min(steps) < 0.11
    first, last = tree.findall("rect")
    for bar, tick in ((first, "16"), (last, "256")):
        x = float(bar.attrib["x"])
        assert x - 0.1 <= ticks[tick] <= x + float(bar.attrib["width"]) + 1.1
    line = tree.find("g/line")
    assert line is not None
    assert float(line.attrib["x1"]) == pytest.approx(ticks["64"], abs=0.06)


def test_lines_go_through_their_points() -> None:
    drawn = charts.lines({"one & only": [(0, 0.0), (5, 0.5), (10, 1.0)]}, "epoch", "AP", dots=True)
    tree = ElementTree.fromstring(drawn)
    (line,) = tree.findall("g/polyline")
    points = [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]
    assert points[0] == (charts.LEFT, charts.HEIGHT - charts.BOTTOM)
    assert points[2] == (charts.WIDTH - charts.RIGHT, charts.TOP)
    assert points[1] == pytest.approx(np.mean([points[0], points[2]], axis=0), abs=0.06)
    assert len(tree.findall("g/circle")) == 3
    assert "one & only" in [each.text for each in tree.iter("text")]


def test_a_tile_is_a_small_picture_with_boxes_at_their_places() -> None:
    pixels = np.zeros((400, 800, 3), np.uint8)
    pixels[:, 400:] = 255
    boxes = [
        DrawnBox((40, 50, 140, 250), "#f00"),
        DrawnBox((400, 0, 800, 400), "#0f0", dashed=True, word="0.9 <1>"),
    ]
    figure = ElementTree.fromstring(tile(pixels, boxes, NASTY))
    svg = figure.find("svg")
    assert svg is not None
    assert svg.attrib["viewBox"] == "0 0 800 400"
    first, second = svg.findall("rect")
    assert [float(first.attrib[key]) for key in ("x", "y", "width", "height")] == [40, 50, 100, 200]
    assert "stroke-dasharray" in second.attrib
    assert "stroke-dasharray" not in first.attrib
    assert svg.findtext("text") == "0.9 <1>"
    assert figure.findtext("figcaption") == NASTY
    image = svg.find("image")
    assert image is not None
    kind, content = image.attrib["href"].split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as small:
        assert small.size == (TILE, TILE // 2)
        left, right = np.asarray(small)[:, :100].mean(), np.asarray(small)[:, -100:].mean()
    assert left < 5 < 250 < right
    assert sheet([tile(pixels, [], "a")]).count("<figure>") == 1


def test_names_and_numbers_in_tables() -> None:
    tree = ElementTree.fromstring(html_table(("name", "n"), [(NASTY, 3), ("b", "")], best=0))
    rows = tree.findall("table/tbody/tr")
    assert rows[0].findtext("td") == NASTY
    assert [row.attrib.get("class") for row in rows] == ["best", None]
    assert [cell.attrib.get("class") for cell in rows[0]] == [None, "number"]
    assert text(NASTY) == "&lt;script&gt;alert(&#x27;&amp;&quot;&#x27;)&lt;/script&gt;.jpg"


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    document = page(NASTY, NASTY)
    assert "<script" not in document
    assert "default-src 'none'" in document
    assert document.count("alert") == 3, "title, heading and text"

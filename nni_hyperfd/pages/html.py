"""HTML of one self-contained page: no script, no font, no picture from elsewhere. Every text that comes in is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

__all__ = ["Markup", "cards", "element", "html_table", "page", "section", "text"]

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #66707f; --line: #dfe3e8; --face: #1f77ff; --found: #f0a800; --bad: #b3261e; }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1080px; margin: 0 auto; padding: 28px 20px 60px; background: #fff }
h1 { font-size: 26px; margin: 0 0 4px } h2 { font-size: 19px; margin: 34px 0 8px; border-bottom: 1px solid var(--line); padding-bottom: 4px }
h3 { font-size: 15px; margin: 18px 0 6px }
p { margin: 6px 0; max-width: 80ch } .soft { color: var(--soft) }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: 8px 0 } th, td { text-align: left; padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { color: var(--soft); font-weight: 600 } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
tr.best td { font-weight: 650; background: #fff8e2 }
.warning { border-left: 4px solid var(--bad); background: #fdf3f2; padding: 6px 12px; margin: 8px 0; max-width: 90ch }
.cards { display: flex; flex-wrap: wrap; gap: 12px; margin: 12px 0 } .card { border: 1px solid var(--line); border-radius: 8px; padding: 8px 16px; min-width: 120px }
.card b { display: block; font-size: 22px; font-variant-numeric: tabular-nums } .card span { color: var(--soft); font-size: 13px }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 10px }
.sheet figure { margin: 0; min-width: 0 } .sheet svg { width: 100%; aspect-ratio: 1; display: block; background: #14181e; border-radius: 4px }
figcaption { font-size: 12px; color: var(--soft); overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 4px 18px } .charts h3 { margin: 10px 0 0 }
svg.chart { max-width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: #4a5462 }
code, pre { font: 13px/1.5 ui-monospace, monospace; background: #f4f6f8; border-radius: 4px } code { padding: 1px 5px } pre { padding: 10px 14px; overflow-x: auto }
"""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """``value`` as HTML; what is HTML already stays."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def element(name: str, *content: object, **attributes: object) -> Markup:
    """``<name attributes>content</name>``; underscores before an attribute's name are dropped, others become hyphens."""
    written = "".join(
        f' {key.lstrip("_").replace("_", "-")}="{escape(str(value))}"' for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{''.join(map(text, content))}</{name}>")


def html_table(head: Sequence[object], rows: Iterable[Sequence[object]], best: int | None = None) -> Markup:
    """A table; columns of numbers to the right; row ``best``, counted from 0, stands out."""
    rows = [list(row) for row in rows]
    right = [
        bool(rows) and all(isinstance(row[column], int | float) or row[column] == "" for row in rows)
        for column in range(len(head))
    ]
    kinds = [{"_class": "number"} if each else {} for each in right]
    top = element("tr", *(element("th", title, **kind) for title, kind in zip(head, kinds)))
    lines = [
        element(
            "tr",
            *(element("td", cell, **kind) for cell, kind in zip(row, kinds)),
            **({"_class": "best"} if number == best else {}),
        )
        for number, row in enumerate(rows)
    ]
    return element("div", element("table", element("thead", top), element("tbody", *lines)), _class="wide")


def cards(values: Iterable[tuple[object, str]]) -> Markup:
    """Large numbers with a word below each."""
    return element(
        "div",
        *(
            element("div", element("b", value), element("span", word), _class="card")
            for value, word in values
        ),
        _class="cards",
    )


def section(title: str, *content: object) -> Markup:
    """A heading and what stands below it."""
    return element("section", element("h2", title), *content)


def page(title: str, *content: object) -> str:
    """The whole document."""
    # The policy is for whoever doubts it: the browser itself refuses to fetch anything for this page.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"{element('h1', title)}{''.join(map(text, content))}</body></html>\n"
    )

"""Pages that are one file each: a template with the style, the scales and the data that go into it; no request leaves.

Knows neither runs nor designs. A template says `@NAME@` where a part goes; `@STYLE@` and `@SCALES@` are shared by all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources

_PART = re.compile(r"@([A-Z]+)@")
_SECTION = re.compile(r"<!--section (\w+)-->\n(.*?)<!--end-->\n", re.DOTALL)


def filled(package: str, template: str, parts: Mapping[str, str], sections: Iterable[str] = ()) -> str:
    """Fill a template of a package; of its parts between `<!--section NAME-->` and `<!--end-->`, keep `sections`."""
    kept = frozenset(sections)
    text = _SECTION.sub(lambda found: found[2] * (found[1] in kept), _resource(package, template))
    shared = {"STYLE": _resource(__package__, "page.css"), "SCALES": _resource(__package__, "page.js")}
    return _PART.sub(lambda name: {**shared, **parts}[name[1]], text)


def embedded(content: object) -> str:
    """Write JSON that may stand in a script element: no `</script>` inside."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _resource(package: str, name: str) -> str:
    return (resources.files(package) / name).read_text(encoding="utf-8")


def html_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table of texts under its heads."""
    columns = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(f"<tr>{html_cells(row)}</tr>" for row in rows)
    return f"<table><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"


def html_cells(texts: Iterable[str]) -> str:
    """Write the cells of one row."""
    return "".join(f"<td>{escape(text)}</td>" for text in texts)

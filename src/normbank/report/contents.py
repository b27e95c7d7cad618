"""A page that leads to several reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ..bundle import write_atomically
from .page import percent

PAGE_START = (  # how our pages begin, and hardly any other: what begins otherwise is not replaced
    b'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
)
_SHOWN = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "AUPRO": "AUPRO"}
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 44rem; margin: 3rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { padding: .6rem .8rem; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
"""


class Entry(NamedTuple):
    """One report: what it is about, where it lies relative to the page, and what was measured."""

    name: str
    link: str
    metrics: Mapping[str, float | None]


def write_contents(path: Path, title: str, about: str, entries: Sequence[Entry]) -> Path:
    """Write the page at `path`; BundleError where it cannot be written."""
    heads = "".join(f"<th scope=col>{label}</th>" for label in _SHOWN.values())
    rows = "".join(map(_row, entries))
    text = (
        f"{PAGE_START.decode()}"
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1><p>{escape(about)}</p>"
        f"<table><thead><tr><th scope=col>report</th>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )
    write_atomically(path, text.encode())
    return path


def _row(entry: Entry) -> str:
    cells = "".join(f"<td>{percent(entry.metrics[name])}</td>" for name in _SHOWN)
    return f'<tr><td><a href="{quote(entry.link)}">{escape(entry.name)}</a></td>{cells}</tr>'

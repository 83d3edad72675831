"""Jinja2 templates as HTML: they escape every text that is not marked as safe."""

from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"
SEARCHED_FROM = 15
"""Tables with at least this many rows have a search field."""
LONG_FROM = 20
"""Tables with more rows scroll in a box of limited height; shorter ones are shown in full."""


def render(template: str, **values: Any) -> Markup:
    """Fill in one of the templates; the result is safe HTML."""
    limits = {"searched_from": SEARCHED_FROM, "long_from": LONG_FROM}
    return Markup(_make_environment().get_template(template).render(limits | values))


@cache
def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (as_text, breakable, fixed, shown, short)
    environment.filters |= {each.__name__: each for each in filters}
    return environment


def as_text(text: str) -> Markup:
    """Escape text that stands between tags, where quotation marks may stay as they are."""
    return Markup(escape(text, quote=False))


def breakable(name: str) -> Markup:
    """Allow a line break after each part of a name."""
    return Markup("_<wbr>").join(name.split("_"))


def fixed(figure: float | None, digits: int) -> str:
    """Format a figure with a fixed number of digits; a dash stands for an unknown one."""
    return "–" if figure is None else f"{figure:,.{digits}f}"


def short(figure: int | None, unit: str) -> str:
    """Format with three digits and a prefix, as in 29.7 MMACs; an unknown figure gives no text."""
    if figure is None:
        return ""
    prefixes = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
    size, prefix = next((each for each in prefixes if figure >= each[0]), (1, ""))
    return f"{figure / size:.3g} {prefix}{unit}"


def shown(value: Any) -> str:
    """Format a value of a table as people read it."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)

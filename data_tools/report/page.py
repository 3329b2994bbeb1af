"""What all pages of ours share: templates that escape everything, the style sheet, and how numbers and names are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ..disk.durable import write_atomic
from .visible import visible


def environment(package: str) -> Environment:
    """Templates of a package's folder. Every text is escaped, and control characters show as what they are."""
    env = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {"number": number, "figure": figure, "yaml": to_yaml, "label": label, "share": percent}
    return env


def put_page(path: Path, package: str, template: str, **parts: Any) -> None:
    """One self-contained page, made of a template in a package's folder and put in place whole; the style sheet is the part `css`."""
    text = environment(package).get_template(template).render(css=css(), **parts)
    write_atomic(path, text.lstrip().encode("utf-8", "replace"))


def css() -> str:
    """The style sheet of every page; light, dark and print."""
    return (Path(__file__).parent / "report.css").read_text(encoding="utf-8")


def number(value: Any, digits: int = 2) -> str:
    """Integers with thousands separators, floats with `digits` decimals, an en dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def figure(value: float) -> str:
    """Four digits, and whole with separators from a thousand on: sizes and bytes are not read as powers of ten."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(part: int, whole: int) -> str:
    """A share in percent; what is there is never shown as 0, nor what is short of all as 100."""
    if not whole or not part:
        return "0 %"
    value = 100 * part / whole
    if value < 0.1:
        return "<0.1 %"
    return f"{min(value, 99.9) if part < whole else 100:.{0 if part == whole else 1}f} %"


def shown(value: Any) -> Any:
    """Every text of the page passes here before it is escaped; ready markup is left alone."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def label(name: str) -> str:
    """`text_chart_description` -> `Text/chart description`."""
    if name in ("image_text_matching", "text_chart_description"):
        name = name.replace("_text_", "-text ").replace("text_chart", "text/chart")
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def to_yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False, width=100).rstrip()

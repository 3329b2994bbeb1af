"""The report of a run: bounded statistics (`Stats`), and a page and a JSON file made of them (`write_report`)."""

from .html import write_report
from .stats import Stats

__all__ = ["Stats", "write_report"]

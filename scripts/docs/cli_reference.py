"""The page of the command line: every verb with its flags, defaults and help, from the parsers that read them."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterable
from typing import Any

from mm_align import flags
from mm_align.cli import VERBS, Verb

DEFAULT = re.compile(r"(.*?)\s*\(default: (.*)\)$", re.DOTALL)
HEAD = ["| option | what it is | default |", "|---|---|---|"]


def cli_page() -> str:
    """The page's Markdown."""
    lines = [
        "# Verbs and options",
        "",
        "Made from the parsers at build; `mmalign VERB --help` prints the same. How they are read: [the command line](../cli.md).",
        "",
        " · ".join(f"[`{name}`](#{name.replace(' ', '-')})" for name in VERBS),
        "",
        f"{flags.EXIT_CODES[0].upper()}{flags.EXIT_CODES[1:]}.",
        "",
        "## Options of every verb",
        "",
        *HEAD,
        *(_row(action) for action in _Parsed(next(iter(VERBS))).common),
        "",
        "`--json` is an option of those verbs only that end in a report.",
        "",
    ]
    for name, verb in VERBS.items():
        lines += _verb(name, verb)
    return "\n".join(lines) + "\n"


class _Parsed:
    """What a verb's parser and its config class hold, the verb's own part and that of every verb apart."""

    def __init__(self, name: str) -> None:
        verb = VERBS[name]
        job = importlib.import_module(verb.module)
        self.parser = flags.build_parser(name, verb, job)
        actions = [action for action in self.parser._actions if action.dest != "help"]
        self.own = [action for action in actions if not action.dest.startswith("common_")]
        self.common = [action for action in actions if action.dest.startswith("common_")]
        fields = getattr(job, verb.config).model_fields.items()
        self.parts = {key: field.description for key, field in fields if not flags._is_flag(field)}


def _verb(name: str, verb: Verb) -> list[str]:
    made = _Parsed(name)
    lines = [f"## {name}", "", f"{made.parser.description}", "", "```bash", verb.example, "```", ""]
    lines += [*HEAD, *(_row(action) for action in made.own), ""]
    if made.parts:
        lines += ["Parts, set by `--set part.key=value` or in a config file:", ""]
        lines += [f"- `{key}`{f': {plain(text)}' if text else ''}" for key, text in made.parts.items()] + [""]
    return lines


def _row(action: argparse.Action) -> str:
    """One line of the table: spellings with their value, help without its default, default."""
    shown = (action.help or "").replace("%%", "%")
    text, default = found.groups() if (found := DEFAULT.match(shown)) else (shown, "")
    return f"| {_spelling(action)} | {plain(text)} | {_code([default]) if default else ''} |"


def _spelling(action: argparse.Action) -> str:
    if not action.option_strings:
        return _code([str(action.metavar)])
    value = "" if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction) else _value(action)
    return _code(f"{option}{value}" for option in action.option_strings)


def _value(action: argparse.Action) -> str:
    return f" {{{','.join(map(str, action.choices))}}}" if action.choices else f" {action.metavar or action.dest.upper()}"


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`".replace("|", "\\|") for word in words)


def plain(text: Any) -> str:
    """A help text as Markdown that shows it as it is; what stands in backticks is code."""
    pieces = re.split(r"(`[^`]*`)", " ".join(str(text).split()))
    return "".join(piece if piece.startswith("`") else re.sub(r"([\\*_\[\]<>#])", r"\\\1", piece) for piece in pieces).replace("|", "\\|")

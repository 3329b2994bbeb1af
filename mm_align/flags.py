"""From a config class to a verb's flags: one for each scalar field, so that a job never touches argparse."""

from __future__ import annotations

import argparse
import difflib
import sys
import types
import typing
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from .cli import Verb
    from .config import JobConfig

EXIT_CODES = "exit codes: 0 done, 1 failed, 2 bad input or usage, 75 stopped but resumable (the same command continues)"
COMMON = ("config", "set", "schema", "list", "json", "verbose", "quiet", "debug", "help")


def build_parser(name: str, verb: Verb, job: ModuleType) -> argparse.ArgumentParser:
    """The verb's parser: one flag for each scalar field of its config class; only what was typed appears in its result."""
    kind: type[JobConfig] = getattr(job, verb.config)
    nested = [key for key, field in kind.model_fields.items() if not _is_flag(field)]
    sets = f"parts set by --set or in a config file: {', '.join(nested)}\n" if nested else ""
    recipe = ["[CONFIG]"] if verb.recipes else []
    positionals = [f"[{key.upper()}]" for key, field in kind.model_fields.items() if _extra(field).get("positional")]
    parser = _Parser(
        prog=f"mmalign {name}",
        usage=" ".join(["mmalign", name, *recipe, *positionals, "[options]"]),
        description=f"{verb.help[0].upper()}{verb.help[1:].removesuffix(', ...')}.",
        epilog=f"example:\n  {verb.example}\n\n{sets}{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    if verb.recipes:
        parser.add_argument("recipe", nargs="?", metavar="CONFIG", help="YAML file, or the name of a packaged config (--list shows them)")
    for key, field in kind.model_fields.items():
        if key in COMMON:
            raise TypeError(f"{kind.__name__}.{key}: --{key} belongs to every verb; choose another name")
        if _is_flag(field):
            _add_field(parser, key, field)
    _add_common(parser, reports=getattr(job, verb.function).__annotations__.get("return") != "int")
    return parser


class _Parser(argparse.ArgumentParser):
    """argparse, with the nearest known flag for an unknown one."""

    def error(self, message: str) -> typing.NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        flags = [flag for action in self._actions for flag in action.option_strings]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1) if unknown else []
        hint = f"; did you mean {near[0]}?" if near else f"; `{self.prog} --help` lists what there is"
        print(f"error: {message}{hint}", file=sys.stderr)
        raise SystemExit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Python 3.11 holds a positional that was not given, whose default is SUPPRESS, against its choices."""
        if value is not argparse.SUPPRESS:
            super()._check_value(action, value)


def _add_common(parser: argparse.ArgumentParser, *, reports: bool) -> None:
    """reports: the job returns a report, which --json prints."""
    group = parser.add_argument_group("options of every verb")
    group.add_argument("--config", dest="common_config", default=None, metavar="FILE", help="YAML file, or the name of a packaged config")
    group.add_argument(
        "--set", dest="common_set", default=[], action="append", metavar="KEY=VALUE", help="one key, dots for parts; repeatable"
    )
    group.add_argument("--schema", dest="common_schema", default=False, action="store_true", help="print the config's JSON schema and stop")
    group.add_argument("--list", dest="common_list", default=False, action="store_true", help="show the packaged configs and stop")
    if reports:
        group.add_argument("--json", dest="common_json", default=False, action="store_true", help="print the report as one JSON object")
    group.add_argument("-v", "--verbose", dest="common_verbose", default=False, action="store_true", help="say more")
    group.add_argument("--quiet", dest="common_quiet", default=False, action="store_true", help="say only warnings and errors")
    group.add_argument("--debug", dest="common_debug", default=False, action="store_true", help="show where in the code an error arose")


def _add_field(parser: argparse.ArgumentParser, key: str, field: FieldInfo) -> None:
    kinds = _alternatives(field.annotation)
    flag = f"--{_extra(field).get('flag', key)}".replace("_", "-")
    options: dict[str, Any] = {"help": _help(field)}
    if kinds == [bool]:
        parser.add_argument(flag, dest=key, action=argparse.BooleanOptionalAction, **options)
        return
    from .choices import keys_of

    table = keys_of(field)
    choices = list(table.names) if table else _choices(kinds)
    if choices:
        options["choices"] = choices
    several = _is_list(kinds)
    if _extra(field).get("positional"):
        parser.add_argument(key, nargs="*" if several else "?", metavar=key.upper(), **options)
        return
    options["metavar"] = None if choices else key.rpartition("_")[2].upper()
    parser.add_argument(flag, dest=key, action="append" if several else "store", **options)


def _extra(field: FieldInfo) -> dict[str, Any]:
    """What a field says to this file: "positional" (it is one), "flag" (another name for its flag)."""
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def _help(field: FieldInfo) -> str:
    """The field's description and default, with argparse's `%` escaped."""
    shown = (
        "" if field.is_required() or field.get_default(call_default_factory=True) in (None, "", [], ()) else f" (default: {_text(field)})"
    )
    repeat = " (repeatable)" if _is_list(_alternatives(field.annotation)) else ""
    return f"{field.description or ''}{repeat}{shown}".replace("%", "%%").strip()


def _text(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else str(default)


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union without None: `int | Literal["auto"] | None` -> [int, Literal["auto"]]."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [inner for member in typing.get_args(annotation) for inner in _alternatives(member)]
    return [] if annotation is type(None) else [annotation]


def _choices(kinds: Sequence[Any]) -> list[str]:
    """The values of a field made of Literals only; anything wider is checked by pydantic alone."""
    if not all(typing.get_origin(kind) is typing.Literal for kind in kinds):
        return []
    return [str(value) for kind in kinds for value in typing.get_args(kind)]


def _is_list(kinds: Sequence[Any]) -> bool:
    return any((typing.get_origin(kind) or kind) in (list, tuple, set, frozenset) for kind in kinds)


def _is_flag(field: FieldInfo) -> bool:
    """Scalars and lists of scalars are flags; mappings and nested parts are reached by --set."""
    from .config import models_in

    mapping = any((typing.get_origin(kind) or kind) is dict for kind in _alternatives(field.annotation))
    return not mapping and not models_in(field.annotation)

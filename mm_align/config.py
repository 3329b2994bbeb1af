"""Typed configuration: YAML and `--set a.b=c` become one pydantic object; unknown keys are refused by their nearest known name."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml
from pydantic_core import ErrorDetails


class UserError(Exception):
    """What the user asked for cannot be done; the message says what was found, expected and to do. Exit code 2."""

    exit_code = 2


class Stopped(Exception):
    """The run stopped before its end and the same command continues it. Exit code 75."""

    exit_code = 75


def first_line(error: BaseException) -> str:
    """What an error of a library says first, for a sentence of ours: at most 300 letters, without a full stop."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300].rstrip(".")


class JobConfig(pydantic.BaseModel):
    """Base of every job's config and of its nested parts: unknown keys are errors, objects are frozen, defaults are checked."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, validate_default=True, coerce_numbers_to_str=True, protected_namespaces=()
    )


Config = TypeVar("Config", bound=pydantic.BaseModel)


def load(kind: type[Config], *layers: Mapping[str, Any]) -> Config:
    """The config made of `layers`, later ones over earlier ones key by key. Raises UserError with one sentence a problem."""
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    try:
        return kind.model_validate(merged)
    except pydantic.ValidationError as error:
        raise UserError("\n".join(explain(kind, merged, error.errors()))) from None


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `under`; two mappings under the same key are merged, anything else is replaced, and so is a mapping of another
    `type`: what stood there were that one's options."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _another_type(below, value):
            value = merge(below, value)
        result[key] = value
    return result


def _another_type(below: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return "type" in below and over.get("type", below["type"]) != below["type"]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping a YAML file holds ({} for an empty one). Raises UserError for anything else."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the config {path}: {error}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    return _checked_mapping(content, f"the config {path}")


def _checked_mapping(content: Any, what: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise UserError(f"{what} should hold `key: value` lines, but holds a {type(content).__name__} or keys that are no text")
    return content


def parse_sets(assignments: Iterable[str]) -> dict[str, Any]:
    """`["loss.beta=0.2", "policy=model"]` -> {"loss": {"beta": 0.2}, "policy": "model"}; values are read as YAML."""
    tree: dict[str, Any] = {}
    for assignment in assignments:
        dotted, equals, text = assignment.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise UserError(f"--set {assignment!r} should look like key=value or part.key=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--set {assignment!r}: the value is not valid YAML: {' '.join(str(error).split())}") from None
        for key in reversed(keys):
            value = {key: value}
        tree = merge(tree, value)
    return tree


def config_root() -> Path:
    """Where the packaged configs are: `mm_align/configs` in a wheel, `configs` beside the package in an editable install."""
    here = Path(__file__).resolve().parent
    packaged = here / "configs"
    return packaged if packaged.is_dir() else here.parent / "configs"


def find_config(name: str, *folders: str) -> Path:
    """The file `name`, or the packaged config of that name in one of `folders` of `configs/`; with several, a name is FOLDER/NAME.

    Raises UserError naming what there is.
    """
    if Path(name).is_file():
        return Path(name)
    known = packaged(folders)
    wanted = name.removesuffix(".yaml")
    if wanted in known:
        return config_root() / f"{wanted if len(folders) > 1 else f'{folders[0]}/{wanted}'}.yaml"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    raise UserError(f"no config file {name!r}, and no packaged config of that name{hint}; packaged: {', '.join(known) or 'none'}")


def packaged(folders: Sequence[str]) -> list[str]:
    """Names of the packaged configs in `folders`: NAME in a single folder, FOLDER/NAME in several."""
    found = sorted(path for folder in folders for path in (config_root() / folder).glob("*.yaml"))
    return [path.stem if len(folders) == 1 else f"{path.parent.name}/{path.stem}" for path in found]


def to_yaml(config: pydantic.BaseModel) -> str:
    """The resolved config, every key with its value, as it is written beside results."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def explain(kind: type[pydantic.BaseModel], given: Mapping[str, Any], errors: Sequence[ErrorDetails]) -> list[str]:
    """One readable sentence for each place of `given` that is wrong; the alternatives of a union become one sentence."""
    places: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for error in errors:
        places.setdefault(_place(kind, given, error["loc"]), []).append(error)
    return [_sentence(kind, place, found) for place, found in places.items()]


def _sentence(kind: type[pydantic.BaseModel], place: tuple[str, ...], errors: list[ErrorDetails]) -> str:
    name, first = ".".join(place), errors[0]
    if first["type"] == "extra_forbidden":
        return _unknown(name, place[-1], _keys_at(kind, place[:-1]))
    if first["type"] == "missing":
        return f"'{name}' is missing: give it on the command line or as `{name}` in the config file"
    expected = " or ".join(dict.fromkeys(_expected(error) for error in errors))
    where = f"'{name}': " if name else ""
    found = first["input"]
    shown = "" if isinstance(found, Mapping) else f", but is {found!r}"
    return f"{where}{expected}{shown}"


def _expected(error: ErrorDetails) -> str:
    if error["type"] == "path_type":
        return "should be a path"
    message = error["msg"].removeprefix("Input ").removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.split(", unable to parse")[0].rstrip(".")


def _unknown(name: str, key: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(sorted(known)) or 'nothing'}"
    return f"unknown key '{name}'; {hint}"


def _place(kind: type[pydantic.BaseModel], given: Any, loc: Sequence[int | str]) -> tuple[str, ...]:
    """`loc` without the entries pydantic adds for the members of a union: what stays is a key of the input or a missing field."""
    models, place = [kind], []
    for key in loc:
        fields = [fields_of(model)[key].annotation for model in models if key in fields_of(model)]
        here = _has(given, key)
        if here or fields:
            place.append(str(key))
            models = [model for annotation in fields for model in models_in(annotation)]
            given = given[key] if here else None
    return tuple(place)


def _has(given: Any, key: int | str) -> bool:
    return key in given if isinstance(given, Mapping) else isinstance(given, list) and isinstance(key, int) and key < len(given)


def _keys_at(kind: type[pydantic.BaseModel], place: Sequence[str]) -> list[str]:
    models = [kind]
    for key in place:
        models = [inner for model in models if key in fields_of(model) for inner in models_in(fields_of(model)[key].annotation)] or models
    return [str(key) for model in models for key in fields_of(model)]


def fields_of(model: type[pydantic.BaseModel]) -> dict[int | str, Any]:
    """The fields of a config by the names that people write (`from` is no name in Python, so its field has an alias)."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def models_in(annotation: Any) -> list[type[pydantic.BaseModel]]:
    """The pydantic classes an annotation mentions: `A | list[B] | None` -> [A, B]."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in models_in(argument)]

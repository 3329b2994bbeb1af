"""What a tour is: stages of commands as a user types them, the files that these read, and what the page shows of what came out."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, field_validator, model_validator

from ...config import JobConfig, find_config, read_yaml

FOLDER = "tour"  # of packaged tours, under configs/
FULL, QUICK = "full", "quick"
PROGRAM = "mmalign"


class Figure(JobConfig):
    """A number of a JSON file that a command wrote; with `before` the one that it is compared with."""

    label: str = Field(description="what it is")
    file: str = Field(description="JSON file, from the work folder")
    key: list[str | int] = Field(min_length=1, description="names and places in lists that lead to it: [captions, f1]")
    before: list[str | int] | None = Field(None, description="what leads to the one before")
    before_file: str | None = Field(None, description="its file, where it is another")
    percent: bool = Field(False, description="a share, to be shown in percent")


class Rows(JobConfig):
    """Rows as they are: pictures with their captions."""

    type: Literal["rows"]
    title: str = Field("", description="heading")
    data: str = Field(description="rows in any format")
    note: str | None = Field(None, description="field that is shown below, with dots for what is inside of it")
    n: int = Field(6, ge=1, description="rows shown")


class Captions(JobConfig):
    """Rows of an `enhance-data` run whose caption was changed, before and after."""

    type: Literal["captions"]
    title: str = Field("", description="heading")
    data: str = Field(description="folder that `mmalign enhance-data` wrote")
    n: int = Field(6, ge=1, description="rows shown")


class Answers(JobConfig):
    """The same pictures with what several models say of them."""

    type: Literal["answers"]
    title: str = Field("", description="heading")
    rows: str = Field(description="rows with id and picture, in any format")
    responses: dict[str, str] = Field(min_length=1, description="label -> JSONL file with sample_id and text")
    truth: str | None = Field(None, description="field of the rows that says what is right")
    n: int = Field(6, ge=1, description="pictures shown")


class Table(JobConfig):
    """Figures of `mmalign eval`, a column a model, with intervals."""

    type: Literal["table"]
    title: str = Field("", description="heading")
    file: str = Field(description="table.json of an evaluation")
    names: dict[str, str] = Field({}, description="model -> heading of its column (default: its name)")
    differences: bool = Field(False, description="below each figure its paired difference to the first model's, with its interval")


class Logged(JobConfig):
    """A figure of a training's log."""

    file: str = Field(description="log.jsonl of a `mmalign train` run")
    figure: str = Field("loss", description="which of its figures")


class Losses(JobConfig):
    """Training losses or other figures over steps, a line each."""

    type: Literal["losses"]
    title: str = Field("", description="heading")
    logs: dict[str, str | Logged] = Field(min_length=1, max_length=4, description="label -> log.jsonl of a training, or {file, figure}")


class Pictures(JobConfig):
    """Picture files as they are."""

    type: Literal["pictures"]
    title: str = Field("", description="heading")
    files: dict[str, str] = Field(min_length=1, description="picture file -> what it shows")


class Said(JobConfig):
    """What a command printed."""

    type: Literal["said"]
    title: str = Field("", description="heading")
    command: int = Field(ge=1, description="which of the stage's commands")
    lines: int = Field(12, ge=1, description="last lines shown")


TYPES = ("rows", "captions", "answers", "table", "losses", "pictures", "said")


def _type_of(given: Any) -> str:
    return str(given.get("type", "")) if isinstance(given, dict) else str(getattr(given, "type", ""))


def _known_type(given: Any) -> Any:
    """ValueError for an unknown type, with the nearest."""
    kind = _type_of(given)
    if kind not in TYPES:
        near = difflib.get_close_matches(kind, TYPES, 1, cutoff=0.5)
        raise ValueError(f"its type should be one of {', '.join(TYPES)}" + (f"; did you mean '{near[0]}'?" if near else ""))
    return given


Show = Annotated[
    Annotated[Rows, pydantic.Tag("rows")]
    | Annotated[Captions, pydantic.Tag("captions")]
    | Annotated[Answers, pydantic.Tag("answers")]
    | Annotated[Table, pydantic.Tag("table")]
    | Annotated[Losses, pydantic.Tag("losses")]
    | Annotated[Pictures, pydantic.Tag("pictures")]
    | Annotated[Said, pydantic.Tag("said")],
    pydantic.Discriminator(_type_of),
    pydantic.BeforeValidator(_known_type),
]


class Stage(JobConfig):
    """One part of a tour."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="a word for logs and links")
    title: str = Field(description="heading")
    why: str = Field(description="what it is for, in a sentence or two")
    files: dict[str, str | dict[str, Any]] = Field({}, description="files that the commands read: name -> text, or keys of a YAML file")
    commands: list[str | list[str]] = Field(
        min_length=1, description="`mmalign ...`, one after another; those of an inner list side by side"
    )
    shows: list[Show] = Field([], description="what the page shows of it")

    @field_validator("files")
    @classmethod
    def _inside(cls, files: dict[str, Any]) -> dict[str, Any]:
        for name in files:
            if PurePath(name).is_absolute() or ".." in PurePath(name).parts or not PurePath(name).name:
                raise ValueError(f"'{name}' should be a path inside of the work folder")
        return files

    @field_validator("commands")
    @classmethod
    def _ours(cls, commands: list[str | list[str]]) -> list[str | list[str]]:
        for command in (one for some in commands for one in ([some] if isinstance(some, str) else some)):
            if words_of(command)[:1] != [PROGRAM]:
                raise ValueError(f"a command should begin with `{PROGRAM} `, this one is `{command}`")
        return commands

    @property
    def groups(self) -> list[list[str]]:
        """The commands that run side by side, one group after another."""
        return [[some] if isinstance(some, str) else list(some) for some in self.commands]

    @property
    def every(self) -> list[str]:
        """All commands, in their order."""
        return [command for group in self.groups for command in group]


class TourConfig(JobConfig):
    """A tour: the packaged one, the packaged short one, or one of your own."""

    quick: bool = Field(False, description="the short tour: three minutes or so")
    out: str = Field(description="folder for everything (default of the packaged tours: tour-out, tour-quick); the same command continues")
    title: str = Field("Tour", description="heading of tour.html")
    blurb: str = Field("", description="a sentence or two below it")
    headline: list[Figure] = Field([], description="numbers at the top of the page")
    places: dict[str, str] = Field({}, description="file or folder -> what it is: where everything lies, at the end of the page")
    stages: list[Stage] = Field(min_length=1, description="what is done, in its order")
    jobs: int = Field(2, ge=1, description="commands that may run side by side, one thread each")
    dry_run: bool = Field(False, description="print the commands, run nothing")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")

    @model_validator(mode="before")
    @classmethod
    def _packaged(cls, given: Any) -> Any:
        """Without stages of one's own, a packaged tour under what is given."""
        if not isinstance(given, Mapping) or "stages" in given:
            return given
        return {**read_yaml(find_config(QUICK if given.get("quick") else FULL, FOLDER)), **given}

    @field_validator("stages")
    @classmethod
    def _once(cls, stages: list[Stage]) -> list[Stage]:
        names = [stage.name for stage in stages]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two stages are called '{twice[0]}'")
        return stages


def words_of(command: str) -> list[str]:
    """As a shell divides it. ValueError where it cannot."""
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"`{command}` cannot be read as a command: {error}") from None


def as_script(config: TourConfig) -> str:
    """The commands of all stages for a shell, with the files that they read."""
    lines = [f"# {config.title}"]
    for number, stage in enumerate(config.stages, 1):
        lines += ["", f"# {number}. {stage.title}"]
        for name, content in stage.files.items():
            lines += [f"cat > {shlex.quote(name)} <<'END'", text_of(content).rstrip("\n"), "END"]
        lines += stage.every
    return "\n".join(lines)


def text_of(content: str | Mapping[str, Any]) -> str:
    """A file's text; a mapping becomes YAML."""
    import yaml

    return content if isinstance(content, str) else yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)

"""The command line: verb -> config class -> job; a job is imported only when its verb is typed."""

from __future__ import annotations

import argparse
import difflib
import logging
import os
import sys
import types
import typing
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from . import __version__

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from .config import JobConfig


class Verb(NamedTuple):
    """Where a verb's job lives: `module` holds the config class `config` and `function(config) -> Report | int | None`.

    recipes: folders of packaged configs, for a verb whose first word is a config; others look under the job's own name.
    """

    module: str
    config: str
    function: str
    help: str
    example: str
    recipes: tuple[str, ...] = ()

    @property
    def folders(self) -> tuple[str, ...]:
        """Where its packaged configs are, under `configs/`."""
        return self.recipes or (self.module.rpartition(".")[2],)


VERBS = {
    "enhance-data": Verb(
        "mm_align.jobs.enhance",
        "EnhanceConfig",
        "run",
        "score image-text pairs, rewrite the poor captions, write a report",
        "mmalign enhance-data shards/ --out better/ --model HymanH/AITQE",
    ),
    "merge": Verb(
        "mm_align.jobs.merge",
        "MergeConfig",
        "run",
        "join the slices of an `enhance-data --shard` run into the run that one process would have made",
        "mmalign merge better/",
    ),
    "train": Verb(
        "mm_align.jobs.train",
        "TrainConfig",
        "run",
        "train a vision-language model: adapter, instruction tuning, LoRA, EECA, preference pairs",
        "mmalign train pretrain/tiny --out run/",
        ("pretrain", "sft", "eeca", "adapters", "preference", "aitqe"),
    ),
    "chat": Verb(
        "mm_align.jobs.chat",
        "ChatConfig",
        "run",
        "ask a model about pictures, once or in a conversation",
        "mmalign chat run/model picture.png 'What is in the picture?'",
    ),
    "convert": Verb(
        "mm_align.jobs.convert",
        "ConvertConfig",
        "run",
        "turn a released AITQE or LLaVA checkpoint into this toolkit's layout, or back",
        "mmalign convert HymanH/AITQE --out aitqe/",
    ),
    "scenes make": Verb(
        "mm_align.jobs.scenes",
        "ScenesConfig",
        "run",
        "render SceneWorld: pictures, captions and corruptions with exact truth",
        "mmalign scenes make --n 1000 --seed 0 --out scenes/ --format webdataset",
    ),
    "vision knowledge": Verb(
        "mm_align.jobs.knowledge",
        "KnowledgeConfig",
        "run",
        "tell what an image-text encoder knows of pictures' entities: split, selections, plot",
        "mmalign vision knowledge pictures.jsonl --encoder openai/clip-vit-large-patch14-336 --out knowledge/",
    ),
    "vision landmarks": Verb(
        "mm_align.jobs.landmarks",
        "LandmarksConfig",
        "run",
        "turn Google Landmarks v2 files into captions, questions and levels to train on",
        "mmalign vision landmarks train_clean.csv --hierarchy train_label_to_hierarchical.csv --images train/ --out landmarks/",
    ),
    "video fit": Verb(
        "mm_align.jobs.video_fit",
        "VideoFitConfig",
        "run",
        "fit the law of frames and tokens to training runs: where the optimum lies, how sure that is",
        "mmalign video fit runs.csv --out law.json",
    ),
    "video plan": Verb(
        "mm_align.jobs.video_plan",
        "VideoPlanConfig",
        "run",
        "how many frames of how many tokens a window is best spent on, and which frames",
        "mmalign video plan --window 6000 --law law.json film.mp4",
    ),
    "video sample": Verb(
        "mm_align.jobs.video_sample",
        "VideoSampleConfig",
        "run",
        "choose frames of a film and lay them out on a contact sheet with their times",
        "mmalign video sample film.mp4 --frames 32 --method aks --encoder openai/clip-vit-base-patch32 --query car --out sheet.png",
    ),
    "aitqe data": Verb(
        "mm_align.jobs.aitqe_data",
        "AitqeDataConfig",
        "run",
        "make training data for a quality model: a judge scores captions and writes contrasting ones",
        "mmalign aitqe data pairs/ --judge openai:http://localhost:8000/v1#MODEL --out quality/",
    ),
    "rlaif feedback": Verb(
        "mm_align.jobs.feedback",
        "FeedbackConfig",
        "run",
        "make preference pairs: a model answers, a judge checks what it claims",
        "mmalign rlaif feedback --images pictures/ --questions default --model OWNER/MODEL --judge OWNER/JUDGE --out feedback/",
        ("feedback",),
    ),
    "rlaif candidates": Verb(
        "mm_align.jobs.feedback_candidates",
        "CandidatesConfig",
        "run",
        "draw several answers of a model to each picture's question",
        "mmalign rlaif candidates --images pictures/ --model OWNER/MODEL --out feedback/",
    ),
    "rlaif claims": Verb(
        "mm_align.jobs.feedback_claims",
        "ClaimsConfig",
        "run",
        "divide answers into claims, by rule or by a model",
        "mmalign rlaif claims feedback/",
    ),
    "rlaif questions": Verb(
        "mm_align.jobs.feedback_questions",
        "QuestionsConfig",
        "run",
        "turn claims into questions that are answered by yes or no",
        "mmalign rlaif questions feedback/",
    ),
    "rlaif judge": Verb(
        "mm_align.jobs.feedback_judge",
        "JudgeConfig",
        "run",
        "ask a judge whether each claim is true",
        "mmalign rlaif judge feedback/ --model OWNER/JUDGE",
    ),
    "rlaif calibration": Verb(
        "mm_align.jobs.feedback_calibration",
        "CalibrationConfig",
        "run",
        "compare a judge with the truth: reliability diagram, calibration error",
        "mmalign rlaif calibration feedback/ --truth truths.jsonl",
    ),
    "rlaif pairs": Verb(
        "mm_align.jobs.feedback_pairs",
        "PairsConfig",
        "run",
        "score judged answers and pair those whose scores differ",
        "mmalign rlaif pairs feedback/ --k 2",
    ),
    "rlaif rounds": Verb(
        "mm_align.jobs.rounds",
        "RoundsConfig",
        "run",
        "rounds of feedback and preference training, each from the best checkpoint of the one before",
        "mmalign rlaif rounds tiny --data scenes/ --out rounds/",
        ("rlaif",),
    ),
    "rlaif audit": Verb(
        "mm_align.jobs.feedback_audit",
        "AuditConfig",
        "run",
        "tell how often best-of-N would choose another answer under small changes of its scoring",
        "mmalign rlaif audit feedback/ --model rounds/round-4/train/model --reference OWNER/MODEL",
    ),
    "rlaif reference": Verb(
        "mm_align.jobs.rlaif_reference",
        "ReferenceConfig",
        "run",
        "score preference pairs by a reference model, once for any number of training runs",
        "mmalign rlaif reference pairs.jsonl --model OWNER/MODEL --out reference/",
    ),
    "rlaif convert": Verb(
        "mm_align.jobs.feedback_convert",
        "FeedbackConvertConfig",
        "run",
        "turn preference pairs of RLAIF-V, TRL, LLaMA-Factory, ms-swift or ours into any of these",
        "mmalign rlaif convert pairs.jsonl --out pairs.parquet --format trl",
    ),
    "eval": Verb(
        "mm_align.jobs.evaluate",
        "EvaluateConfig",
        "run",
        "models on hallucination benchmarks, side by side: responses, scores with intervals, a report",
        "mmalign eval tiny-lvlm --bench scenes --out eval-out/",
    ),
    "score": Verb(
        "mm_align.jobs.score",
        "ScoreConfig",
        "run",
        "the numbers of a published benchmark for anybody's response file: POPE, CHAIR, AMBER, ...",
        "mmalign score pope --responses answers.jsonl --data coco_pope_random.json",
    ),
    "doctor": Verb(
        "mm_align.jobs.doctor",
        "DoctorConfig",
        "run",
        "say what is installed, what is broken and how to mend it",
        "mmalign doctor --model HymanH/AITQE",
    ),
}
EXIT_CODES = "exit codes: 0 done, 1 failed, 2 bad input or usage, 75 stopped but resumable (the same command continues)"
COMMON = ("config", "set", "schema", "list", "verbose", "quiet", "help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return its exit code."""
    try:
        try:
            return _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # who read standard output has left (`| head`); nothing is to be written to it at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _main(words: Sequence[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(top_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"mm-align {__version__}")
        return 0
    name = find_verb(words)
    if name is None:
        print(f"error: {_unknown_verb(words)}", file=sys.stderr)
        return 2
    return run_verb(name, words[len(name.split()) :])


def find_verb(words: Sequence[str]) -> str | None:
    """The verb that `words` begin with; the longest match wins, so that "scenes make" is one verb."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return name
    return None


def _unknown_verb(words: Sequence[str]) -> str:
    family = [name for name in VERBS if name.split()[0] == words[0]]
    near = family or [name for word in (" ".join(words[:2]), words[0]) for name in difflib.get_close_matches(word, VERBS, n=1, cutoff=0.5)]
    hint = f"did you mean `mmalign {near[0]}`?" if near else "`mmalign --help` lists the verbs"
    return f"unknown verb {words[0]!r}; {hint}"


def top_help() -> str:
    """The table of verbs, made without importing any job."""
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.help}" for name, verb in VERBS.items())
    return (
        "usage: mmalign VERB [options]      (mmalign VERB --help shows a verb's options and an example)\n\n"
        f"{verbs}\n\n"
        "options of every verb: --config FILE, --set key=value, --schema, --list, -v, --quiet; `mmalign --version`\n"
        f"{EXIT_CODES}"
    )


def run_verb(name: str, words: Sequence[str]) -> int:
    """Import the verb's job, make its config of file, `--set` and flags (later ones win), run it; see `EXIT_CODES`."""
    from . import config as configs

    verb = VERBS[name]
    job = import_module(verb.module)
    kind: type[JobConfig] = getattr(job, verb.config)
    given = vars(build_parser(name, kind).parse_args(words))
    common = {key: given.pop(f"common_{key}") for key in ("config", "set", "schema", "list", "verbose", "quiet")}
    recipe = given.pop("recipe", None)
    if common["schema"]:
        import json

        print(json.dumps(kind.model_json_schema(), indent=2))
        return 0
    if common["list"]:
        print("\n".join(configs.packaged(verb.folders)) or f"no config of `mmalign {name}` is packaged")
        return 0
    start_logging(verbose=common["verbose"], quiet=common["quiet"])
    try:
        files = [configs.read_yaml(configs.find_config(file, *verb.folders)) for file in (recipe, common["config"]) if file]
        result = getattr(job, verb.function)(configs.load(kind, *files, configs.parse_sets(common["set"]), given))
    except (configs.UserError, configs.Stopped) as error:
        label = "error" if isinstance(error, configs.UserError) else "stopped"
        print(f"{label}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return result if isinstance(result, int) else int(getattr(result, "exit_code", 0))


def build_parser(name: str, kind: type[JobConfig]) -> argparse.ArgumentParser:
    """The verb's parser: one flag for each scalar field of `kind`; only what was typed appears in its result."""
    verb = VERBS[name]
    nested = [key for key, field in kind.model_fields.items() if not _is_flag(field)]
    sets = f"parts set by --set or in a config file: {', '.join(nested)}\n" if nested else ""
    recipe = ["[CONFIG]"] if verb.recipes else []
    positionals = [f"[{key.upper()}]" for key, field in kind.model_fields.items() if _extra(field).get("positional")]
    parser = _Parser(
        prog=f"mmalign {name}",
        usage=" ".join(["mmalign", name, *recipe, *positionals, "[options]"]),
        description=f"{verb.help[0].upper()}{verb.help[1:]}.",
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
    _add_common(parser)
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


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("options of every verb")
    group.add_argument("--config", dest="common_config", default=None, metavar="FILE", help="YAML file, or the name of a packaged config")
    group.add_argument(
        "--set", dest="common_set", default=[], action="append", metavar="KEY=VALUE", help="one key, dots for parts; repeatable"
    )
    group.add_argument("--schema", dest="common_schema", default=False, action="store_true", help="print the config's JSON schema and stop")
    group.add_argument("--list", dest="common_list", default=False, action="store_true", help="show the packaged configs and stop")
    group.add_argument("-v", "--verbose", dest="common_verbose", default=False, action="store_true", help="say more")
    group.add_argument("--quiet", dest="common_quiet", default=False, action="store_true", help="say only warnings and errors")


def _add_field(parser: argparse.ArgumentParser, key: str, field: FieldInfo) -> None:
    kinds = _alternatives(field.annotation)
    flag = f"--{_extra(field).get('flag', key)}".replace("_", "-")
    options: dict[str, Any] = {"help": _help(field)}
    if kinds == [bool]:
        parser.add_argument(flag, dest=key, action=argparse.BooleanOptionalAction, **options)
        return
    choices = _choices(kinds)
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


def start_logging(*, verbose: bool, quiet: bool) -> None:
    """Our packages speak at INFO (DEBUG with -v, WARNING with --quiet) on stderr; the libraries only when something is wrong."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    for package in ("mm_align", "data_tools", "vision", "video"):
        logging.getLogger(package).setLevel(level)


class _Stderr(logging.Handler):
    """Writes to whatever `sys.stderr` is at that moment, so that a live progress bar can put lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)

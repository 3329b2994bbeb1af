"""The command line: verb -> config class -> job; a job is imported only when its verb is typed."""

from __future__ import annotations

import difflib
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from . import __version__
from .flags import COMMON, EXIT_CODES, build_parser
from .jobs import TRAIN_RECIPES

if TYPE_CHECKING:
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
        "mm_align.jobs.enhance.enhance",
        "EnhanceConfig",
        "run",
        "score image-text pairs, rewrite the poor captions, write a report",
        "mmalign enhance-data shards/ --out better/ --model HymanH/AITQE",
    ),
    "merge": Verb(
        "mm_align.jobs.enhance.merge",
        "MergeConfig",
        "run",
        "join the slices of an `enhance-data --shard` run into the run that one process would have made",
        "mmalign merge better/",
    ),
    "train": Verb(
        "mm_align.jobs.train.train",
        "TrainConfig",
        "run",
        "train a vision-language model: adapter, instruction tuning, LoRA, EECA, preference pairs",
        "mmalign train pretrain/tiny --out run/",
        TRAIN_RECIPES,
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
        "mm_align.jobs.vision.knowledge",
        "KnowledgeConfig",
        "run",
        "tell what an image-text encoder knows of pictures' entities: split, selections, plot",
        "mmalign vision knowledge pictures.jsonl --encoder openai/clip-vit-large-patch14-336 --out knowledge/",
    ),
    "vision landmarks": Verb(
        "mm_align.jobs.vision.landmarks",
        "LandmarksConfig",
        "run",
        "turn Google Landmarks v2 files into captions, questions and levels to train on",
        "mmalign vision landmarks train_clean.csv --hierarchy train_label_to_hierarchical.csv --images train/ --out landmarks/",
    ),
    "video fit": Verb(
        "mm_align.jobs.video.fit",
        "VideoFitConfig",
        "run",
        "fit the law of frames and tokens to training runs: where the optimum lies, how sure that is",
        "mmalign video fit runs.csv --out law.json",
    ),
    "video plan": Verb(
        "mm_align.jobs.video.plan",
        "VideoPlanConfig",
        "run",
        "how many frames of how many tokens a window is best spent on, and which frames",
        "mmalign video plan --window 6000 --law law.json film.mp4",
    ),
    "video sample": Verb(
        "mm_align.jobs.video.sample",
        "VideoSampleConfig",
        "run",
        "choose frames of a film and lay them out on a contact sheet with their times",
        "mmalign video sample film.mp4 --frames 32 --method aks --encoder openai/clip-vit-base-patch32 --query car --out sheet.png",
    ),
    "aitqe data": Verb(
        "mm_align.jobs.aitqe.data",
        "AitqeDataConfig",
        "run",
        "make training data for a quality model: a judge scores captions and writes contrasting ones",
        "mmalign aitqe data pairs/ --judge openai:http://localhost:8000/v1#MODEL --out quality/",
    ),
    "rlaif feedback": Verb(
        "mm_align.jobs.feedback.feedback",
        "FeedbackConfig",
        "run",
        "make preference pairs: a model answers, a judge checks what it claims",
        "mmalign rlaif feedback --images pictures/ --questions default --model OWNER/MODEL --judge OWNER/JUDGE --out feedback/",
        ("feedback",),
    ),
    "rlaif candidates": Verb(
        "mm_align.jobs.feedback.candidates",
        "CandidatesConfig",
        "run",
        "draw several answers of a model to each picture's question",
        "mmalign rlaif candidates --images pictures/ --model OWNER/MODEL --out feedback/",
    ),
    "rlaif claims": Verb(
        "mm_align.jobs.feedback.claims",
        "ClaimsConfig",
        "run",
        "divide answers into claims, by rule or by a model",
        "mmalign rlaif claims feedback/",
    ),
    "rlaif questions": Verb(
        "mm_align.jobs.feedback.questions",
        "QuestionsConfig",
        "run",
        "turn claims into questions that are answered by yes or no",
        "mmalign rlaif questions feedback/",
    ),
    "rlaif judge": Verb(
        "mm_align.jobs.feedback.judge",
        "JudgeConfig",
        "run",
        "ask a judge whether each claim is true",
        "mmalign rlaif judge feedback/ --model OWNER/JUDGE",
    ),
    "rlaif calibration": Verb(
        "mm_align.jobs.feedback.calibration",
        "CalibrationConfig",
        "run",
        "compare a judge with the truth: reliability diagram, calibration error",
        "mmalign rlaif calibration feedback/ --truth truths.jsonl",
    ),
    "rlaif pairs": Verb(
        "mm_align.jobs.feedback.pairs",
        "PairsConfig",
        "run",
        "score judged answers and pair those whose scores differ",
        "mmalign rlaif pairs feedback/ --k 2",
    ),
    "rlaif rounds": Verb(
        "mm_align.jobs.rounds.rounds",
        "RoundsConfig",
        "run",
        "rounds of feedback and preference training, each from the best checkpoint of the one before",
        "mmalign rlaif rounds tiny --data scenes/ --out rounds/",
        ("rlaif",),
    ),
    "rlaif audit": Verb(
        "mm_align.jobs.feedback.audit",
        "AuditConfig",
        "run",
        "tell how often best-of-N would choose another answer under small changes of its scoring",
        "mmalign rlaif audit feedback/ --model rounds/round-4/train/model --reference OWNER/MODEL",
    ),
    "rlaif reference": Verb(
        "mm_align.jobs.feedback.reference",
        "ReferenceConfig",
        "run",
        "score preference pairs by a reference model, once for any number of training runs",
        "mmalign rlaif reference pairs.jsonl --model OWNER/MODEL --out reference/",
    ),
    "rlaif convert": Verb(
        "mm_align.jobs.feedback.convert",
        "FeedbackConvertConfig",
        "run",
        "turn preference pairs of RLAIF-V, TRL, LLaMA-Factory, ms-swift or ours into any of these",
        "mmalign rlaif convert pairs.jsonl --out pairs.parquet --format trl",
    ),
    "eval": Verb(
        "mm_align.jobs.evaluate.evaluate",
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
    "memory": Verb(
        "mm_align.jobs.memory.memory",
        "MemoryConfig",
        "run",
        "tell from sizes what training or asking a model takes of a device's memory, and which cards it fits",
        "mmalign memory --train sft/llava15 --processes 8 --device-memory 80",
    ),
    "tour": Verb(
        "mm_align.jobs.tour.tour",
        "TourConfig",
        "run",
        "the whole line once, from raw pairs to a benchmark table: the commands, and one page that shows what each stage changed",
        "mmalign tour --quick",
        ("tour",),
    ),
    "completion": Verb(
        "mm_align.completion",
        "CompletionConfig",
        "run",
        "print a script by which bash, zsh or fish complete verbs, configs, flags and values",
        "mmalign completion bash",
    ),
}


def command() -> NoReturn:
    """This process as one command. What a command imports stays to its end: the collector need not look through it while it is imported
    nor once more at exit, which together cost a short command a fifth of its time."""
    gc.disable()
    code = main()
    if "torch" not in sys.modules:  # its libraries count at exit what was not collected, and call that leaks
        gc.freeze()
    sys.exit(code)


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
        "options of every verb: --config FILE, --set key=value, --schema, --list, -v, --quiet, --debug; `mmalign --version`\n"
        f"{EXIT_CODES}"
    )


def run_verb(name: str, words: Sequence[str]) -> int:
    """Import the verb's job, make its config of file, `--set` and flags (later ones win), run it; see `EXIT_CODES`."""
    from . import config as configs

    verb = VERBS[name]
    job = import_module(verb.module)
    kind: type[JobConfig] = getattr(job, verb.config)
    given = vars(build_parser(name, verb, job).parse_args(words))
    common = {key: given.pop(f"common_{key}") for key in COMMON if f"common_{key}" in given}
    if common["schema"]:
        from .json_output import json_text

        print(json_text(kind.model_json_schema()))
        return 0
    if common["list"]:
        print("\n".join(configs.packaged(verb.folders)) or f"no config of `mmalign {name}` is packaged")
        return 0
    start_logging(verbose=common["verbose"], quiet=common["quiet"])
    try:
        config = _config(kind, verb, given, common)
        _collect_from_here()
        return _finished(getattr(job, verb.function), config, as_json=common.get("json", False))
    except (configs.UserError, configs.Stopped) as error:
        if common["debug"]:
            traceback.print_exc()
        label = "error" if isinstance(error, configs.UserError) else "stopped"
        print(f"{label}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _config(kind: type[JobConfig], verb: Verb, given: dict[str, Any], common: Mapping[str, Any]) -> JobConfig:
    from . import config as configs

    files = [file for file in (given.pop("recipe", None), common["config"]) if file]
    layers = [configs.read_yaml(configs.find_config(file, *verb.folders)) for file in files]
    return configs.load(kind, *layers, configs.parse_sets(common["set"]), given)


def _collect_from_here() -> None:
    """See `command`; nothing where somebody else's process calls `main`."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def _finished(job: Callable[[JobConfig], Any], config: JobConfig, *, as_json: bool) -> int:
    """Run the job; as_json: standard output holds its report alone, what it prints for people goes to stderr."""
    if not as_json:
        result = job(config)
    else:
        from .json_output import json_text, people_on_stderr

        with people_on_stderr():
            result = job(config)
        print(json_text(result))
    return result if isinstance(result, int) else int(getattr(result, "exit_code", 0))


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

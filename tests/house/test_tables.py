"""Tables, configs and docs agree with the files: a choice is a file, a YAML parses, a method has its line."""

import importlib
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from mm_align import config as configs
from mm_align import flags
from mm_align.choices import keys_in, keys_of
from mm_align.cli import VERBS, find_verb, top_help

ROOT = Path(__file__).resolve().parents[2]


def build_parser(verb):
    return flags.build_parser(verb, VERBS[verb], importlib.import_module(VERBS[verb].module))


class Room(NamedTuple):
    """A table and the folder its keys are files of; `papers`: each needs its line in docs/methods.md."""

    module: str
    table: str
    papers: bool = True


# One line a room; a new room of methods adds its own.
ROOMS = [
    Room("vision.encoders", "ENCODERS"),
    Room("vision.adapters", "ADAPTERS"),
    Room("mm_align.losses", "OBJECTIVES"),
    Room("mm_align.losses.pair_terms", "PAIR_TERMS"),
    Room("mm_align.evals", "BENCHMARKS"),
    Room("mm_align.rewards", "REWARDS"),
    Room("mm_align.search", "SEARCHES"),
    Room("mm_align.train.schedules", "SCHEDULES"),
    Room("video.decode", "DECODERS"),
    Room("video.frames", "SAMPLERS"),
    Room("video.frames", "SELECTORS"),
    Room("video.tokens", "REDUCERS"),
    Room("video.budget.forms", "FORMS"),
    Room("data_tools.filters", "FILTERS"),
    Room("data_tools.filters", "SCORERS"),
    Room("data_tools.engines", "ENGINES", papers=False),
    Room("data_tools.io", "FORMATS", papers=False),
    Room("data_tools.preference", "FORMATS", papers=False),
]
# Options of light configs whose words are those of a table, read from its file's text.
OFFERED = {
    ("enhance-data", "engine"): ("data_tools.engines", "ENGINES"),
    ("enhance-data", "format"): ("data_tools.io", "FORMATS"),
    ("enhance-data", "policy"): ("data_tools.aitqe.policy", "POLICIES"),
    ("rlaif convert", "format"): ("data_tools.preference", "FORMATS"),
    ("rlaif convert", "source_format"): ("data_tools.preference", "FORMATS"),
    ("rlaif reference", "format"): ("data_tools.preference", "FORMATS"),
    ("video fit", "form"): ("video.budget.forms", "FORMS"),
    ("video plan", "sampler"): ("video.frames", "SAMPLERS"),
    ("video sample", "method"): ("video.frames", "SAMPLERS"),
    ("video sample", "backend"): ("video.decode", "DECODERS"),
}
YAMLS = sorted((ROOT / "configs").rglob("*.yaml"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: f"{room.module}.{room.table}")
def test_every_table_key_is_a_file_and_every_file_has_its_line_in_the_docs(room):
    module = importlib.import_module(room.module)
    folder = Path(module.__path__[0])
    docs = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    table = getattr(module, room.table)
    assert table
    for key in table:
        files = [*folder.glob(f"{key}.py"), *folder.glob(f"{key}_*.py")]  # `timm_.py` where a library has the name
        assert files, f"{room.module}.{room.table}[{key!r}]: no file {folder / key}.py"
        named = any(path.relative_to(ROOT).as_posix() in docs for path in files)
        assert named or not room.papers, f"docs/methods.md has no line for {room.module}.{key}"


def test_the_guide_of_signals_tells_of_every_room():
    from data_tools.filters import FILTERS

    guide = (ROOT / "docs" / "signals.md").read_text(encoding="utf-8")
    assert not [room for room in FILTERS if f"\n| `{room}` | " not in guide]


def test_docs_methods_names_only_files_that_exist():
    docs = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    named = {word.strip("`,;()").partition("::")[0] for word in docs.replace("|", " ").split() if word.startswith("`") and "/" in word}
    paths = {path for path in named if path.split("/")[0] in ("data_tools", "vision", "video", "mm_align", "tests", "configs", "scripts")}
    assert paths
    assert not [path for path in sorted(paths) if not (ROOT / path).exists()]


def test_every_line_of_docs_methods_has_its_five_cells():
    """Paper, file, config, test, reproduced how far: nothing refers to the line above, the authors' is told from the rest."""
    docs = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split(" | ") for line in docs.splitlines() if line.startswith("| **")]
    assert len(rows) == docs.count("<br>Checked: ")
    sources = ("released", "published", "stated", "reconstructed", "this toolkit's choice", "the paper's")
    for row in rows:
        assert len(row) == 5, row
        method, files, config, tests, reproduced = row
        assert re.search(r"\*\*<br>.*(arXiv|no paper|\d{4}|pull request)", method), f"{method}: no paper"
        assert "`" in files, f"{method}: no file"
        assert config.strip(), f"{method}: no config"
        assert "`tests/" in tests, f"{method}: no test"
        assert any(word in reproduced.lower() for word in sources), f"{method}: whose is it?"
        assert not re.search(r"as (named )?above", " ".join(row)), f"{method}: refers to another line"


@pytest.mark.parametrize(("verb", "option"), OFFERED)
def test_a_verb_offers_what_the_table_holds(verb, option):
    module, table = OFFERED[verb, option]
    known = getattr(importlib.import_module(module), table)
    (parser,) = [action for action in build_parser(verb)._actions if action.dest == option]
    field = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config).model_fields[option]
    keys = keys_of(field)
    assert keys is not None
    assert set(parser.choices) == set(keys.names) >= set(known)
    assert set(keys_in(ROOT / keys.room, keys.tables[0])) == set(known)


@pytest.mark.parametrize(("verb", "option"), OFFERED)
def test_a_word_that_no_table_holds_is_refused_in_a_config_too(verb, option):
    kind = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
    typed = {key: "somewhere" for key, field in kind.model_fields.items() if field.is_required()}
    with pytest.raises(configs.UserError, match=f"'{option}': should be .*, but is 'no such'"):
        configs.load(kind, typed, {option: "no such"})


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.relative_to(ROOT / "configs").as_posix())
def test_every_packaged_config_parses(path):
    """`src` and `out` are given on the command line; everything else must be right in the file."""
    verb = next(verb for verb in VERBS.values() if path.parent.name in verb.folders)
    kind = getattr(importlib.import_module(verb.module), verb.config)
    typed = {key: "somewhere" for key, field in kind.model_fields.items() if field.is_required()}
    configs.load(kind, typed, configs.read_yaml(path))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_job_help_and_example(verb):
    job = importlib.import_module(VERBS[verb].module)
    kind = getattr(job, VERBS[verb].config)
    assert callable(getattr(job, VERBS[verb].function))
    assert issubclass(kind, configs.JobConfig)
    help_text = build_parser(verb).format_help()
    assert VERBS[verb].example in help_text
    assert find_verb(VERBS[verb].example.split()[1:]) == verb
    assert f"  {verb} " in top_help()


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_is_accepted(verb):
    kind = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
    words = VERBS[verb].example.split()[1 + len(verb.split()) :]
    given = {key: value for key, value in vars(build_parser(verb).parse_args(words)).items() if not key.startswith("common_")}
    recipe = given.pop("recipe", None)
    configs.load(kind, configs.read_yaml(configs.find_config(recipe, *VERBS[verb].folders)) if recipe else {}, given)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_explained(verb):
    kind = getattr(importlib.import_module(VERBS[verb].module), VERBS[verb].config)
    assert not [key for key, field in kind.model_fields.items() if not field.description]


GUIDES = {
    "benchmarks": ["jobs.evaluate.config.EvaluateConfig"],
    "train": ["jobs.train.config.TrainConfig", "jobs.train.config.ModelConfig", "jobs.train.config.LoraConfig", "train.sources.Source"],
    "feedback": [
        "jobs.feedback.config.FeedbackConfig",
        "rlaif.candidates.Candidates",
        "rlaif.claims.Claims",
        "rlaif.questions.Questions",
        "rlaif.judge.Judging",
        "rlaif.scores.Scores",
        "rlaif.pairs.Pairs",
    ],
}


@pytest.mark.parametrize("name", GUIDES)
def test_a_guide_tells_of_every_key(name):
    """Names and descriptions of its tables are those of the config classes."""
    guide = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    places = [f"mm_align.{place}".rpartition(".") for place in GUIDES[name]]
    kinds = [getattr(importlib.import_module(module), kind) for module, _, kind in places]
    rows = [(configs.fields_of(kind), kind) for kind in kinds]
    lacking = [
        f"{kind.__name__}.{name}"
        for fields, kind in rows
        for name, field in fields.items()
        if not any(line.startswith(f"| `{name}` |") and field.description.replace("|", "or") in line for line in guide.splitlines())
    ]
    assert not lacking


def test_every_option_of_a_benchmark_is_told():
    """`mmalign score BENCH --set options.NAME=...`: in its section of the guide, or in the head; each has a line at the top."""
    import inspect

    from mm_align.evals import BENCHMARKS, Official

    guide = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", guide, re.MULTILINE | re.DOTALL))
    everywhere = {"data", "flavor", "limit", "judge_replies"}  # flags of both verbs, told in the head
    lacking = [
        f"{name}.{option}"
        for name, kind in BENCHMARKS.items()
        if issubclass(kind, Official)
        for option in inspect.signature(kind).parameters
        if option not in everywhere and not re.search(rf"\b{option.replace('_', '[-_]')}\b", sections[name])
    ]
    assert not lacking
    official = [name for name, kind in BENCHMARKS.items() if issubclass(kind, Official)]
    assert not [name for name in official if f"| [`{name}`](#{name}) |" not in guide], "the table at the top lacks them"

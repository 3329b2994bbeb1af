"""The command line: flags come from the config class; exit codes and messages are the promised ones."""

import json
import subprocess
import sys
import types
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from mm_align import cli
from mm_align.config import JobConfig, Stopped, UserError
from mm_align.flags import build_parser


class Part(JobConfig):
    beta: float = 0.1


class FakeConfig(JobConfig):
    """A job to parse for."""

    src: str = Field(description="where from", json_schema_extra={"positional": True})
    out: str | None = Field(None, description="where to, 100 % of it")
    size: int | Literal["auto"] = Field("auto", description="rows a batch")
    policy: Literal["model", "never"] = Field("model", description="when to rewrite")
    overwrite: bool = Field(False, description="start anew")
    drop_key: list[str] = Field([], description="leave a field out")
    part: Part = Field(Part(), description="nested")


@dataclass(frozen=True)
class FakeReport:
    """What the job came to."""

    out: Path
    rows: int
    exit_code: int = 0


@pytest.fixture
def seen(monkeypatch):
    """A verb `fake run` whose job records its configs and raises what the test asks for."""
    job, seen = types.ModuleType("fake_job"), []

    def run(config):
        seen.append(config)
        error = {"user": UserError("no such folder"), "stop": Stopped("half way"), "int": KeyboardInterrupt()}.get(config.src)
        if error:
            raise error
        print("for people")
        return FakeReport(Path("there"), 3, exit_code=int(config.src == "failed"))

    job.FakeConfig, job.run = FakeConfig, run
    monkeypatch.setitem(sys.modules, "fake_job", job)
    monkeypatch.setitem(cli.VERBS, "fake run", cli.Verb("fake_job", "FakeConfig", "run", "do it", "mmalign fake run a --out b"))
    return seen


def test_flags_become_the_config(seen):
    words = "fake run in --out o --size 8 --policy never --overwrite --drop-key a --drop-key b --set part.beta=0.3"
    assert cli.main(words.split()) == 0
    assert seen == [
        FakeConfig(src="in", out="o", size=8, policy="never", overwrite=True, drop_key=["a", "b"], part=Part(beta=0.3)),
    ]


def test_file_then_set_then_flag(seen, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("src: file\nsize: 1\npolicy: never\npart: {beta: 5}\noverwrite: true\n")
    assert cli.main(["fake", "run", "--config", str(path), "--set", "size=2", "--size", "3", "--no-overwrite"]) == 0
    assert seen == [FakeConfig(src="file", size=3, policy="never", part=Part(beta=5), overwrite=False)]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("fake run user", 2, "error: no such folder"),
        ("fake run stop", 75, "stopped: half way"),
        ("fake run int", 130, "interrupted"),
        ("fake run failed", 1, ""),
        ("fake run", 2, "error: 'src' is missing"),
        ("fake run a --size many", 2, "error: 'size': should be a valid integer or should be 'auto', but is 'many'"),
        ("fake run a --set part.bta=1", 2, "error: unknown key 'part.bta'; did you mean 'beta'?"),
        ("fake run a --config nowhere", 2, "error: no config file 'nowhere'"),
        ("enhance-dat a", 2, "did you mean `mmalign enhance-data`?"),
        ("scenes", 2, "did you mean `mmalign scenes make`?"),
        ("xyzzy", 2, "`mmalign --help` lists the verbs"),
    ],
)
def test_exit_codes_and_messages(seen, capsys, words, code, message):
    assert cli.main(words.split()) == code
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("fake run a --sizes 3", "did you mean --size?"),
        ("fake run a --policy maybe", "'model'"),
        ("fake run a b", "unrecognized arguments: b"),
    ],
)
def test_wrong_usage_exits_2_with_a_hint(seen, capsys, words, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(words.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_descriptions_defaults_and_the_example(seen, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["fake", "run", "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "where to, 100 % of it" in text
    assert "rows a batch (default: auto)" in text
    assert "example: mmalign fake run a --out b" in text
    assert "set by --set or in a config file: part" in text


def test_schema_is_json(seen, capsys):
    assert cli.main(["fake", "run", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["size"]["description"] == "rows a batch"
    assert not seen


def test_json_is_all_that_standard_output_holds(seen, capsys):
    assert cli.main(["fake", "run", "failed", "--json"]) == 1
    out, errors = capsys.readouterr()
    assert json.loads(out) == {"out": "there", "rows": 3, "exit_code": 1}
    assert "for people" in errors


def test_whatever_writes_to_standard_output_meanwhile(tmp_path):
    """The job, a process that it starts, a library beside Python; and a number that is none is null."""
    said = "print('printed'); os.system('echo from a child'); os.write(1, b'by a library')"
    job = f"def run(config): {said}; return {{'loss': [float('nan'), 1]}}"
    verb = "cli.VERBS['fake run'] = cli.Verb('fake_job', 'FakeConfig', 'run', 'do it', '')"
    (tmp_path / "fake_job.py").write_text(f"import os; from mm_align.config import JobConfig as FakeConfig\n{job}\n")
    call = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from mm_align import cli; {verb}; cli.command()"
    done = subprocess.run([sys.executable, "-c", call, "fake", "run", "--json"], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == {"loss": [None, 1]}
    assert done.stderr.splitlines() == ["printed", "from a child", "by a library"]


def test_every_verb_that_a_script_may_ask_has_json():
    """`chat` says the answer alone and `completion` a script."""
    offered = {name for name, verb in cli.VERBS.items() if "--json" in build_parser(name, verb, import_module(verb.module)).format_help()}
    assert set(cli.VERBS) - offered == {"chat", "completion"}


def test_debug_shows_where_an_error_arose(seen, capsys):
    assert cli.main(["fake", "run", "user", "--debug"]) == 2
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.endswith("error: no such folder\n")


def test_a_job_without_a_report_has_no_json(seen, monkeypatch, capsys):
    def run(config) -> int: ...

    run.__annotations__["return"] = "int"
    monkeypatch.setattr(sys.modules["fake_job"], "run", run)
    with pytest.raises(SystemExit):
        cli.main(["fake", "run", "a", "--json"])
    assert "unrecognized arguments: --json" in capsys.readouterr().err


def test_version_and_bare_call(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mm-align ")
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    assert "enhance-data" in capsys.readouterr().out


def test_python_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "mm_align", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"mm-align {cli.__version__}\n")


def test_the_collector_works_again_once_a_job_runs():
    """`command` leaves it out while it imports; the job's own exit code is the process's."""
    job = "cli._finished = lambda *_, **__: print(gc.isenabled()) or 7"
    code = f"import gc, sys; from mm_align import cli; {job}; sys.argv = ['mmalign', 'completion', 'bash']; cli.command()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (7, "True\n"), done.stderr


def test_a_field_may_not_take_a_common_flag():
    class Greedy(JobConfig):
        quiet: bool = False

    with pytest.raises(TypeError, match="--quiet belongs to every verb"):
        build_parser("doctor", cli.VERBS["doctor"], types.SimpleNamespace(DoctorConfig=Greedy, run=print))


@pytest.mark.parametrize("loaded", [True, False])
def test_what_torch_brings_is_collected_at_exit(loaded, monkeypatch):
    """Its libraries count at exit what is left, and print it as leaks."""
    frozen = []
    monkeypatch.setattr(cli, "main", lambda: 3)
    monkeypatch.setattr(cli.gc, "freeze", lambda: frozen.append(True))
    monkeypatch.setitem(sys.modules, "torch", sys) if loaded else monkeypatch.delitem(sys.modules, "torch", raising=False)
    try:
        with pytest.raises(SystemExit) as end:
            cli.command()
    finally:
        cli.gc.enable()
    assert end.value.code == 3
    assert frozen == ([] if loaded else [True])

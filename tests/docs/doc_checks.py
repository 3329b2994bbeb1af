"""What can be said of a command or of Python code without running it: verbs, options, values, configs, imports and arguments exist."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pydantic
import yaml
from doc_blocks import ROOT, Block, commands

from mm_align import config as configs
from mm_align import flags
from mm_align.cli import VERBS, find_verb

ELSEWHERE = ("ray", "vllm", "llama-server", "transformers", "eval", "cd", "mkdir", "cat", "ls", "head", "cp", "export", "docker", "git")
OURS = ("mm_align", "data_tools", "vision", "video")
# What a config file of the reader's own may be taken to hold, where a text would not do.
IN_A_FILE: dict[tuple[str, str], Any] = {("train", "model"): {"from": "tiny-aitqe"}, ("train", "data"): [{"path": "somewhere"}]}
# `#` begins a comment behind a blank only: `URL#MODEL` is one word. What is quoted holds none.
COMMENT = re.compile(r"""^((?:'[^']*'|"[^"]*"|\S#|[^'"#])*)(?:#.*)?$""")
# Reads lines `[script, argument, ...]` as JSON; starts each script up to where its arguments are parsed, and no further.
PARSE_SCRIPTS = """
import argparse, json, os, runpy, sys

class Parsed(BaseException):
    pass

parse = argparse.ArgumentParser.parse_args

def parse_and_stop(self, args=None, namespace=None):
    parse(self, args, namespace)
    raise Parsed

argparse.ArgumentParser.parse_args = parse_and_stop
path, modules = list(sys.path), set(sys.modules)
for line in sys.stdin:
    sys.argv = json.loads(line)
    sys.path[:] = [os.path.dirname(os.path.abspath(sys.argv[0])), *path]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except Parsed:
        pass
    except SystemExit:
        print(json.dumps(sys.argv), file=sys.stdout)
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(os.path.abspath("scripts")):
            del sys.modules[name]  # the next script may have a neighbour of the same name
"""


def words_of(line: str) -> list[str]:
    """The words of one command: comment, redirections, `&`, variables before it and pipes behind it left out."""
    words = shlex.split(COMMENT.sub(r"\1", line))
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    ends = [place for place, word in enumerate(words) if word in ("&", "&&", "|", ";", ">", ">>", "2>")]
    return words[: ends[0]] if ends else words


def simple_commands(block: Block) -> Iterator[list[str]]:
    """Each command of a shell block as its words, those joined by `&&` one by one; the text of here-documents is none."""
    text = re.sub(r"<<'?(\w+)'?\n.*?\n\1\n", "\n", block.text, flags=re.DOTALL)
    for line in commands(text):
        for part in line.split(" && "):
            words = words_of(part)
            if words:
                yield words


def check_mmalign(words: list[str]) -> None:
    """`mmalign` and its words: the verb, each option, the packaged config, each `--set` and the types of all values."""
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version"), words
        return
    name = find_verb(words)
    assert name, f"no such verb: mmalign {' '.join(words)}"
    verb = VERBS[name]
    job = importlib.import_module(verb.module)
    try:
        given = vars(flags.build_parser(name, verb, job).parse_args(words[len(name.split()) :]))
    except SystemExit as end:
        if end.code == 0:  # `--help`
            return
        raise AssertionError(f"refused by its parser: mmalign {' '.join(words)}") from None
    common = {key: given.pop(key) for key in list(given) if key.startswith("common_")}
    if common["common_schema"] or common["common_list"]:
        return
    files = [file for file in (given.pop("recipe", None), common["common_config"]) if file]
    layers = [configs.read_yaml(configs.find_config(file, *verb.folders)) for file in files if not file.endswith((".yaml", ".yml"))]
    kind = getattr(job, verb.config)
    needed = [key for key, field in kind.model_fields.items() if field.is_required()] if files else []
    stands = IN_A_FILE if any(file.endswith((".yaml", ".yml")) for file in files) else {}
    typed = {key: stands.get((name, key), "somewhere") for key in needed}
    configs.load(kind, typed, *layers, configs.parse_sets(common["common_set"]), given)


def check_command(words: list[str]) -> list[str] | None:
    """Check one command; returns a script of ours with its arguments where that is what starts, for `check_scripts`."""
    program, *rest = words
    if program == "mmalign":
        check_mmalign(rest)
    elif program in ("python", "python3"):
        return _python(rest)
    elif program == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        assert rest[0] == "launch", rest
        args = launch_command_parser().parse_args(rest[1:])
        return _started([args.training_script, *args.training_script_args])
    elif program == "torchrun":
        from torch.distributed.run import get_args_parser

        args = get_args_parser().parse_args(rest)
        return _started([args.training_script, *args.training_script_args])
    elif program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        wanted = [word for word in rest if "=" not in word and not word.startswith("-")]
        assert set(wanted) <= set(targets), f"no such target: {wanted}"
    elif program == "pip":
        _extras(rest)
    else:
        assert program in ELSEWHERE, f"whose command is this? {words}"
    return None


def _python(words: list[str]) -> list[str] | None:
    if words[0] == "-m" and words[1] == "mm_align":
        check_mmalign(words[2:])
        return None
    return None if words[0] in ("-m", "-c") else _started(words)


def _started(words: list[str]) -> list[str] | None:
    """What a launcher starts: `mmalign`, the script of `mmalign train`, or another script of ours."""
    if words[0] == "mmalign":
        check_mmalign(words[1:])
    elif words[0] == "scripts/train.py":
        check_mmalign(["train", *words[1:]])
    else:
        assert (ROOT / words[0]).is_file(), f"no such script: {words[0]}"
        assert ".parse_args(" in (ROOT / words[0]).read_text(encoding="utf-8"), f"{words[0]} parses nothing: starting it would run it"
        return words
    return None


def _extras(words: list[str]) -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for extras in re.findall(r"mm-align\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(known), f"no such extra: {extras}"


def check_scripts(started: list[list[str]]) -> None:
    """Arguments of scripts of ours are what their own parsers accept."""
    lines = "".join(json.dumps(words) + "\n" for words in started)
    done = subprocess.run([sys.executable, "-c", PARSE_SCRIPTS], input=lines, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not done.stdout, f"refused by their parsers: {done.stdout}{done.stderr}"


def check_yaml(block: Block) -> None:
    """A YAML block is a config of the verb that its mark names, or a part of one."""
    content = yaml.safe_load(block.text)
    owner = block.marks.get("config")
    assert owner, f"{block.where}: say whose config this is: <!-- config: VERB --> or <!-- config: none -->"
    if owner == "none":
        for text in _texts(content):
            if text.startswith("mmalign "):
                check_command(words_of(text))
        return
    kind = getattr(importlib.import_module(VERBS[owner].module), VERBS[owner].config)
    try:
        kind.model_validate(content)
    except pydantic.ValidationError as error:
        wrong = [found for found in error.errors() if found["type"] != "missing" or len(found["loc"]) > 1]
        assert not wrong, f"{block.where}: {configs.explain(kind, content, wrong)}"


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for inner in content.values() if isinstance(content, dict) else content:
            yield from _texts(inner)


def check_python(block: Block) -> None:
    """The code compiles; what it imports of ours is there, and calls of it give only arguments that it has."""
    tree = ast.parse(block.text, filename=block.where)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block.where}: {node.module} has no {alias.name}"
                known[alias.asname or alias.name] = getattr(module, alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in OURS:
                    module = importlib.import_module(alias.name)
                    known[alias.asname or alias.name.split(".")[0]] = module if alias.asname else sys.modules[alias.name.split(".")[0]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            _check_call(block, node, known)


def _check_call(block: Block, call: ast.Call, known: dict[str, Any]) -> None:
    function = _resolve(block, call.func, known)
    if function is None or any(isinstance(word, ast.Starred) for word in call.args) or any(key.arg is None for key in call.keywords):
        return
    try:
        inspect.signature(function).bind(*call.args, **{str(key.arg): key.value for key in call.keywords})
    except TypeError as error:
        raise AssertionError(f"{block.where}: {ast.unparse(call)}: {error}") from None


def _resolve(block: Block, node: ast.expr, known: dict[str, Any]) -> Any:
    """The object that a name or a dotted name means where we know it, else None."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if not isinstance(node, ast.Attribute):
        return None
    owner = _resolve(block, node.value, known)
    if owner is None:
        return None
    assert hasattr(owner, node.attr), f"{block.where}: {ast.unparse(node)} does not exist"
    return getattr(owner, node.attr)

"""`mmalign completion SHELL`: a script by which bash, zsh or fish complete verbs, packaged configs, flags and their values."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Literal, NamedTuple

from pydantic import Field

from .config import JobConfig, packaged
from .flags import build_parser


class CompletionConfig(JobConfig):
    """For whom."""

    shell: Literal["bash", "zsh", "fish"] = Field(
        description="bash: eval it in ~/.bashrc; zsh: in ~/.zshrc; fish: write it to ~/.config/fish/completions/mmalign.fish",
        json_schema_extra={"positional": True},
    )


class Words(NamedTuple):
    """What may follow a verb: `first` in its first place, flags, and the values of a flag."""

    first: list[str]
    flags: dict[str, list[str]]


def run(config: CompletionConfig) -> int:
    """Print the script."""
    verbs = known()
    print(_fish(verbs) if config.shell == "fish" else _bash(verbs, zsh=config.shell == "zsh"))
    return 0


def known() -> dict[str, Words]:
    """Every verb with its words, of the jobs' own parsers."""
    from .cli import VERBS

    found = {}
    for name, verb in VERBS.items():
        parser = build_parser(name, verb, import_module(verb.module))
        found[name] = Words(packaged(verb.folders) if verb.recipes else _positional(parser), _flags(parser))
    return found


def _positional(parser: argparse.ArgumentParser) -> list[str]:
    return [str(word) for action in parser._actions if not action.option_strings for word in action.choices or ()]


def _flags(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    return {flag: list(map(str, a.choices or ())) for a in parser._actions for flag in a.option_strings if flag.startswith("--")}


BASH = """\
_mmalign() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} verb=${{COMP_WORDS[1]}} words=
  COMPREPLY=()
  if (( COMP_CWORD == 1 )); then COMPREPLY=( $(compgen -W "{verbs}" -- "$cur") ); return; fi
  case "$verb" in {families}) if (( COMP_CWORD > 2 )); then verb="$verb ${{COMP_WORDS[2]}}"; fi;; esac
  case "$verb:$prev" in
{values}
    *) case "$verb" in
{flags}
    esac;;
  esac
  COMPREPLY=( $(compgen -W "$words" -- "$cur") )
}}
complete -o default -F _mmalign mmalign"""


def _bash(verbs: dict[str, Words], *, zsh: bool) -> str:
    """zsh reads bash's own by `bashcompinit`."""
    families = _families(verbs)
    values = [f'    "{v}:{f}") words="{" ".join(x)}";;' for v, words in verbs.items() for f, x in words.flags.items() if x]
    flags = [f'      "{verb}") words="{" ".join([*words.first, *words.flags])}";;' for verb, words in verbs.items()]
    flags += [f'      "{family}") words="{" ".join(rest)}";;' for family, rest in families.items()]
    first = sorted({verb.split()[0] for verb in verbs})
    script = BASH.format(verbs=" ".join(first), families="|".join(families), values="\n".join(values), flags="\n".join(flags))
    return f"autoload -U +X compinit bashcompinit && compinit && bashcompinit\n{script}" if zsh else script


def _families(verbs: dict[str, Words]) -> dict[str, list[str]]:
    """{"video": ["fit", "plan", "sample"]} for verbs of two words."""
    found: dict[str, list[str]] = {}
    for verb in verbs:
        family, _, rest = verb.partition(" ")
        if rest:
            found.setdefault(family, []).append(rest)
    return found


def _fish(verbs: dict[str, Words]) -> str:
    first = " ".join(sorted({verb.split()[0] for verb in verbs}))
    lines = [f"complete -c mmalign -f -n __fish_use_subcommand -a '{first}'"]
    for family, rest in _families(verbs).items():
        seen = f"__fish_seen_subcommand_from {family}; and not __fish_seen_subcommand_from {' '.join(rest)}"
        lines.append(f"complete -c mmalign -f -n '{seen}' -a '{' '.join(rest)}'")
    for verb, words in verbs.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in verb.split())
        if words.first:
            lines.append(f"complete -c mmalign -n '{seen}' -a '{' '.join(words.first)}'")
        lines += [
            f"complete -c mmalign -n '{seen}' -l {flag[2:]}" + (f" -x -a '{' '.join(x)}'" if x else "") for flag, x in words.flags.items()
        ]
    return "\n".join(lines)

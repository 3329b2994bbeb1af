"""Shell completion: what the shell itself offers after the script was evaluated."""

import shutil
import subprocess

import pytest

from mm_align.cli import main

OFFERED = """
{script}
COMP_WORDS=({words} "{current}"); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_mmalign
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def scripts():
    from contextlib import redirect_stdout
    from io import StringIO

    made = {}
    for shell in ("bash", "zsh", "fish"):
        with redirect_stdout(StringIO()) as out:
            assert main(["completion", shell]) == 0
        made[shell] = out.getvalue()
    return made


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize(
    ("words", "current", "offered"),
    [
        ("mmalign", "enh", {"enhance-data"}),
        ("mmalign video", "", {"fit", "plan", "sample"}),
        ("mmalign enhance-data", "--pol", {"--policy"}),
        ("mmalign enhance-data --policy", "t", {"threshold"}),
        ("mmalign train", "eeca/t", {"eeca/tiny"}),
        ("mmalign video plan", "--law", {"--law"}),
        ("mmalign completion", "z", {"zsh"}),
        ("mmalign nothing", "", {""}),
    ],
)
def test_bash_offers(scripts, words, current, offered):
    program = OFFERED.format(script=scripts["bash"], words=words, current=current)
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stderr, set(done.stdout.splitlines())) == ("", offered)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_shell_reads_its_script(scripts, shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-n"], input=scripts[shell], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_fish_and_zsh_name_the_same_flags(scripts):
    assert "bashcompinit" in scripts["zsh"]
    assert scripts["bash"].strip() in scripts["zsh"]
    assert "-l policy -x -a 'model threshold always never score-only'" in scripts["fish"]


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "csh"])
    assert "'bash'" in capsys.readouterr().err

"""The built wheel is all a user needs: every verb answers, and those with files of their own run, where the repository is not."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import mm_align

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("data_tools", "vision", "video", "mm_align")
OUTSIDER = ROOT / "tests" / "wheel" / "outsider.py"
SOME = ("scenes make", "video fit", "score", "tour --dry-run", "tour", "memory", "enhance-data")
MORE = ("memory --train", "chat", "eval", "train", "rlaif feedback")  # only where pip installed it: the slow test


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without isolation or network by the hatchling of the environment."""
    out = tmp_path_factory.mktemp("dist")
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", build, str(out)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def unpacked(wheel, tmp_path_factory):
    place = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place)
    return place


def outsider(unpacked: Path, what: str, cwd: Path) -> dict:
    """`-S`: no path file is read, so that an editable install of the repository is not found; the wheel comes first anyhow."""
    path = os.pathsep.join([str(unpacked), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    script = shutil.copy(OUTSIDER, cwd)
    command = [sys.executable, "-S", "-P", script, str(ROOT), what]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {str(Path(file).parent.parent) for file in found["parts"].values()} == {str(unpacked)}
    assert found["opened"] == []
    return found["told"]


def test_the_wheel_holds_the_packages_and_the_configs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert "mm_align/_neighbours.py" in names
    assert {f"mm_align/configs/{path.relative_to(ROOT / 'configs').as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")} <= names
    kept = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert not [path for path in kept if path.relative_to(ROOT).as_posix() not in names]
    assert not [name for name in names if name.split("/")[0] in ("tests", "scripts", "docs")]


def test_every_verb_answers_without_the_repository(unpacked, tmp_path):
    """Help, packaged configs and the schema of each, in one process."""
    from mm_align.cli import VERBS
    from mm_align.config import packaged

    told = outsider(unpacked, "ask", tmp_path)
    assert {told[word]["code"] for word in ("--version", "--help", "completion bash")} == {0}
    for name, verb in VERBS.items():
        answers = told[name]
        assert {answer["code"] for answer in answers.values()} == {0}, name
        assert verb.example in answers["--help"]["out"]
        assert answers["--list"]["out"].splitlines() == (packaged(verb.folders) or [f"no config of `mmalign {name}` is packaged"])
        assert json.loads(answers["--schema"]["out"])["properties"]


@pytest.fixture(scope="module")
def runs(unpacked, tmp_path_factory):
    return outsider(unpacked, "some", tmp_path_factory.mktemp("outside"))


@pytest.mark.parametrize("verb", SOME)
def test_a_verb_with_files_of_its_own_runs_without_the_repository(runs, verb):
    """Whatever a run has to say to people, progress and results, goes to standard error."""
    assert runs[verb]["code"] == 0, runs[verb]["errors"]
    assert isinstance(json.loads(runs[verb]["out"]), dict)


# The faces that scripts use, as their types are seen from outside; `Any` would not pass.
SCRIPT = """
from pathlib import Path
from typing import assert_type
import mm_align
from data_tools.calls import Backend, Sampling
from data_tools.io import Shard, list_shards, read
from data_tools.records import Image, Message, Part, Response, Sample
from mm_align import enhance
from mm_align.backends import load_backend
from mm_align.config import JobConfig, load
from mm_align.evals import Interval, bootstrap
from mm_align.jobs.enhance.results import EnhanceReport
from mm_align.losses import LossOutput, Objective
from mm_align.rewards import REWARDS, TokenReward
from video.clip import VideoClip
from video.decode import open_video, decode
from vision.tokens import VisualTokens

sample = Sample("a", (Message("user", (Part("image"), Part("text", "What is this?"))),), (Image(path="a.png"),))
assert_type(sample.id, str)
backend = load_backend("tiny-lvlm")
assert_type(backend, Backend)
assert_type(backend.generate([sample], Sampling(max_tokens=8)), list[Response])
assert_type(enhance("pairs/", "better/"), EnhanceReport)
assert_type(list_shards("pairs/")[0], Shard)
assert_type(mm_align.__version__, str)
assert_type(REWARDS["implicit"], type[TokenReward])
class Own(JobConfig):
    size: int = 3
assert_type(load(Own, {"size": 4}).size, int)
"""
WRONG = {
    "Sample(3)": 'incompatible type "int"; expected "str"',
    'load_backend("tiny-lvlm", sizes=3)': 'Unexpected keyword argument "sizes"',
    'enhance("pairs/")': "Missing positional argument",
}
SETTINGS = """
[mypy]
ignore_missing_imports = True
[mypy-torch.*,torchvision.*,transformers.*,timm.*,open_clip.*,numpy.*,pyarrow.*,PIL.*,av.*]
follow_imports = skip
"""


def test_a_script_beside_the_installed_wheel_sees_our_types(unpacked, tmp_path):
    """`mypy --strict` as a user runs it: only `py.typed` tells it to believe what is installed."""
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    place = next(environment.glob("lib/python*/site-packages"))
    (place / "all.pth").write_text(f"{unpacked}\n{sysconfig.get_path('purelib')}\n")
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    (tmp_path / "right.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(SCRIPT + "\n".join(WRONG) + "\n")
    words = ["--strict", "--config-file", "mypy.ini", "--python-executable", environment / "bin" / "python", "right.py", "wrong.py"]
    command = [sys.executable, "-m", "mypy", *words, "--cache-dir", tmp_path / "cache"]
    done = subprocess.run(command, cwd=tmp_path, env=clean(), capture_output=True, text=True, timeout=120)
    assert "right.py" not in done.stdout, done.stdout
    assert not [message for message in WRONG.values() if message not in done.stdout], done.stdout
    assert f"Found {len(WRONG)} errors in 1 file" in done.stdout


def clean() -> dict[str, str]:
    """This process's environment without its own search path."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}


@pytest.mark.slow
def test_pip_installs_the_wheel_into_an_environment_of_its_own(wheel, tmp_path):
    """No network: dependencies are those of this environment, by a path file; pip puts in the wheel alone, whose requirements are met."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    programs = tmp_path / "venv" / "bin"
    pip = [programs / "python", "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-index", "--no-deps", wheel], check=True, capture_output=True, timeout=120)
    place = next((tmp_path / "venv").glob("lib/python*/site-packages"))
    (place / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    script = shutil.copy(OUTSIDER, tmp_path)

    def python(*words: str) -> subprocess.CompletedProcess[str]:
        command = [programs / "python", "-P", *words]
        return subprocess.run(command, cwd=tmp_path, env=clean(), capture_output=True, text=True, timeout=240)

    version = subprocess.run([programs / "mmalign", "--version"], cwd=tmp_path, env=clean(), capture_output=True, text=True, timeout=60)
    assert (version.returncode, version.stdout) == (0, f"mm-align {mm_align.__version__}\n")
    assert python("-c", UNMET).stdout == "[]\n"
    for what in ("ask", "everything"):
        found = json.loads(python(script, str(ROOT), what).stdout)
        assert {str(Path(file).parent.parent) for file in found["parts"].values()} == {str(place)}
        assert found["opened"] == []
    assert {verb: run["code"] for verb, run in found["told"].items()} == dict.fromkeys((*SOME, *MORE), 0)
    assert all(isinstance(json.loads(run["out"]), dict) for verb, run in found["told"].items() if verb != "chat")


UNMET = """
from importlib.metadata import requires, version
from packaging.requirements import Requirement
wanted = [Requirement(line) for line in requires("mm-align")]
print([str(one) for one in wanted if (one.marker is None or one.marker.evaluate({"extra": ""})) and version(one.name) not in one.specifier])
"""

"""The tree's habits that a machine can check."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import mm_align

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("data_tools", "vision", "video", "mm_align")
SCENE_PLACES = (
    "data_tools/scenes/",
    "mm_align/zoo/",
    "mm_align/jobs/scenes.py",
    "scripts/proving",
    "scripts/bench",
    "scripts/zoo",
    "scripts/build_zoo.py",
    "mm_align/cli.py",  # the verb table names `scenes make`
)


def sources() -> list[Path]:
    return sorted(path for place in (*PACKAGES, "scripts", "tests") for path in (ROOT / place).rglob("*.py"))


def where(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_init_under_tests():
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_no_python_in_the_root():
    assert not list(ROOT.glob("*.py"))


def test_every_file_opens_with_its_sentence():
    missing = [where(path) for path in sources() if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
    assert not missing


def test_names_say_what_is_inside():
    assert not [where(path) for path in sources() if path.stem in ("utils", "helpers", "misc", "common") or "utils" in path.parent.parts]


def test_init_files_hold_no_code():
    """Only docstring, imports, tables, constants, and in `mm_align/__init__.py` the guard and one `__getattr__`."""
    plain = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    loud = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(path.read_text(encoding="utf-8")).body
            functions = [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name != "__getattr__"]
            body = [node for node in body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")]
            others = [node for node in body if not isinstance(node, (*plain, ast.Expr, ast.FunctionDef, ast.ClassDef))]
            if functions or others:
                loud[where(path)] = functions or [type(node).__name__ for node in others]
    assert not loud


def test_only_the_offline_world_knows_itself():
    """No code path outside these places knows SceneWorld: the tool is for real data."""
    told = [
        where(path)
        for package in (*PACKAGES, "scripts")
        for path in (ROOT / package).rglob("*.py")
        if not where(path).startswith(SCENE_PLACES)
        and ("sceneworld" in path.read_text(encoding="utf-8").lower() or "data_tools.scenes" in path.read_text(encoding="utf-8"))
    ]
    assert not told


def test_no_blind_excepts_and_no_pickle():
    found = []
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) in ("Exception", "BaseException")):
                if not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                    found.append(f"{where(path)}:{node.lineno}")
            elif isinstance(node, ast.Import) and any(alias.name in ("pickle", "dill", "cloudpickle") for alias in node.names):
                found.append(f"{where(path)}:{node.lineno}")
    assert not found


def test_remote_code_is_never_trusted_by_us():
    assert not [
        where(path) for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "trust_remote_code=True" in path.read_text()
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_typed(package):
    assert (ROOT / package / "py.typed").exists()


def test_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == mm_align.__version__
    assert f"## {mm_align.__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_download_addresses_are_pinned():
    """`constraints.txt` is names and versions; nothing in the build names an index."""
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line) for line in lines)
    told = [
        name
        for name in ("Makefile", "pyproject.toml", ".ci/run")
        if re.search(r"index-url|find-links|https?://", (ROOT / name).read_text())
    ]
    assert not told

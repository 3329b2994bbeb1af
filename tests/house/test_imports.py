"""Every module imports; the light ones stay light; the heavy ones stand each other; a shadowed package is named."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("data_tools", "vision", "video", "mm_align")
HEAVY = {"torch", "torchvision", "transformers", "timm", "open_clip", "accelerate", "datasets"}
LIGHT = """
import importlib, json, pkgutil, sys
names = [m.name for p in {packages!r} for m in pkgutil.walk_packages(importlib.import_module(p).__path__, p + ".")]
for name in names + {extra!r}:
    importlib.import_module(name)
print(json.dumps(sorted({heavy!r} & set(sys.modules))))
"""


def modules(package: str) -> list[str]:
    root = Path(importlib.import_module(package).__path__[0])
    dotted = [".".join((package, *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")]
    return sorted(name.removesuffix(".__init__") for name in dotted if not name.endswith("__main__"))


def python(code: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_imports(package):
    for name in modules(package):
        importlib.import_module(name)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_python_is_a_package(package):
    """A folder without `__init__.py` is skipped by wheels' users and by `walk_packages`; finding one is a mistake."""
    root = Path(importlib.import_module(package).__path__[0])
    assert not [str(path.parent) for path in root.rglob("*.py") if not (path.parent / "__init__.py").exists()]


def test_records_jobs_config_and_command_line_import_nothing_heavy():
    jobs = modules("mm_align.jobs")
    light = [name for name in ("mm_align.rlaif", "mm_align.search", "mm_align.evals", "video.budget") if importlib.util.find_spec(name)]
    extra = ["mm_align.config", "mm_align.cli", *jobs, *light]
    done = python(LIGHT.format(packages=["data_tools"], extra=extra, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


USED = (
    "import resource; use = resource.getrusage(resource.RUSAGE_SELF); print(use.ru_utime + use.ru_stime)\n"
    "print([m for m in ('torch', 'transformers', 'numpy', 'PIL', 'pyarrow', 'data_tools.records') if m in sys.modules])"
)


def test_the_help_of_a_verb_is_quick_too():
    """`mmalign enhance-data --help` in under 0.3 s of CPU time, the interpreter's start included: its config is made, nothing else.

    Where neighbours slow the machine, CPU seconds too are longer: then in under 2.5 times what importing its libraries alone takes.
    """
    code = (
        "import contextlib, sys, mm_align.cli as cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['enhance-data', '--help'])\n" + USED
    )  # fmt: skip
    *_, seconds, loaded = python(code).stdout.splitlines()
    assert loaded == "[]"
    if float(seconds) >= 0.3:
        tries = [
            (
                python(code).stdout.splitlines()[-2],
                python("import sys, argparse, logging, yaml\nfrom pydantic import BaseModel, Field\n" + USED).stdout.splitlines()[-2],
            )
            for _ in range(5)
        ]
        assert min(float(ours) / float(least) for ours, least in tries) < 2.5


def test_the_heavy_packages_import_together():
    """A CPU-only torch beside an index's CUDA torchvision fails here (`operator torchvision::nms does not exist`)."""
    import open_clip
    import timm
    import torch
    import torchvision
    from transformers import AutoProcessor

    assert all(callable(part) for part in (AutoProcessor.from_pretrained, timm.create_model, open_clip.create_model, torchvision.ops.nms))
    assert torchvision.ops.nms(torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]), torch.tensor([0.5, 0.9]), 0.5).tolist() == [1]


@pytest.mark.parametrize("name", ["vision", "video", "data_tools"])
def test_a_shadowing_file_is_named(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("")
    done = python("import mm_align", cwd=tmp_path)
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert str(tmp_path / f"{name}.py") in done.stderr
    assert "Rename or move" in done.stderr


def test_help_is_quick_and_imports_no_config_library():
    """`mmalign --help` in under 0.3 s: CPU time of the process itself, as neighbours on a machine stretch wall time."""
    code = (
        "import sys, time, mm_align.cli as cli; cli.main(['--help'])\n"
        "import resource; use = resource.getrusage(resource.RUSAGE_SELF); print(use.ru_utime + use.ru_stime)\n"
        "print([m for m in ('torch', 'transformers', 'pydantic', 'yaml', 'numpy', 'rich', 'PIL') if m in sys.modules])"
    )
    done = python(code)
    *_, seconds, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    assert float(seconds) < 0.3

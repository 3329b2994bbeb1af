"""Every block of every page says what it is; commands, configs and code are accepted by what would read them, run or not."""

import importlib
import json
import re
import subprocess
import time

import pytest
from doc_blocks import COMMAND, NEEDS, PAGES, ROOT, Block, name_of, read_blocks
from doc_checks import check_command, check_python, check_scripts, check_yaml, simple_commands, words_of
from doc_runner import run_page

from mm_align import flags
from mm_align.cli import VERBS, find_verb

IDS = [name_of(page) for page in PAGES]
RECIPES = [ROOT / "Makefile", *sorted((ROOT / "configs").rglob("*.yaml"))]
CARDS = sorted((ROOT / "mm_align" / "zoo").rglob("README.md"))
EXAMPLE = """Text.

<!-- needs: hub, gpu -->
```bash
mmalign doctor \\
  --model A/B   # why
```

- in a list:
  <!-- slow -->
  ```python
  print(1)
  ```
"""


def page_of(tmp_path, monkeypatch, text):
    monkeypatch.setattr("doc_blocks.ROOT", tmp_path)
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    return tmp_path / "page.md"


def test_blocks_are_read_with_marks_lines_and_indents(tmp_path, monkeypatch):
    first, second = read_blocks(page_of(tmp_path, monkeypatch, EXAMPLE))
    assert (first.where, first.language, first.needs, first.runs) == ("page.md:5", "bash", ["hub", "gpu"], False)
    assert list(simple_commands(first)) == [["mmalign", "doctor", "--model", "A/B"]]
    assert second == Block("page.md", 12, "python", "print(1)\n", {"slow": ""})
    assert second.runs


@pytest.mark.parametrize("text", ["<!-- slow -->\n\ntext\n", "```bash\nmmalign doctor\n", "<!-- slow -->\n"])
def test_a_mark_without_a_block_and_an_open_fence_are_refused(text, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="above no block|not closed"):
        read_blocks(page_of(tmp_path, monkeypatch, text))


@pytest.mark.parametrize(
    "line",
    [
        "mmalign trian tiny --out x",
        "mmalign train pretrain/tyni --out x",
        "mmalign train pretrain/tiny --out x --stepps 3",
        "mmalign train pretrain/tiny --out x --set stepps=3",
        "mmalign enhance-data a --out b --policy sometimes",
        "make tea",
        "pip install 'mm-align[tea]'",
        "python scripts/tea.py",
        "tea --hot",
    ],
)
def test_what_does_not_exist_is_refused(line):
    with pytest.raises(Exception, match=r"no such|refused|no config|unknown|whose|steps"):
        check_command(words_of(line))


def test_an_option_that_a_script_has_not_is_refused():
    check_scripts([["scripts/proving/video_law.py", "--repeats", "3"]])
    with pytest.raises(AssertionError, match="--tea"):
        check_scripts([["scripts/proving/video_law.py", "--tea", "3"]])


@pytest.mark.parametrize(
    "code",
    ["from mm_align.config import tea", "import mm_align\nmm_align.tea()", "from video.decode import probe\nprobe('x', tea=1)", "a = ("],
)
def test_code_that_cannot_run_is_refused(code):
    with pytest.raises((AssertionError, SyntaxError)):
        check_python(Block("page.md", 1, "python", code, {}))


RUNNING = """```bash
mmalign scenes make --n 2 --out here
```

<!-- slow -->
```bash
touch slow
```

```bash
mmalign enhance-data here --out told --stages signals --drop-if "text.words < 3"
cat told/report.json > copy.json
```

```python
report = open("copy.json").read()
```

```bash
mmalign doctor --model there
```
"""


@pytest.mark.parametrize("slow", [False, True])
def test_blocks_run_in_order_in_one_folder_and_the_one_that_fails_is_named(slow, tmp_path, monkeypatch):
    monkeypatch.setattr("doc_runner.ROOT", tmp_path)
    monkeypatch.setattr("doc_runner.PYTHONPATH", str(ROOT))
    page_of(tmp_path, monkeypatch, RUNNING)
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(AssertionError, match=r"page.md:20: exit code 2 of mmalign doctor"):
        run_page("page.md", folder, slow=slow)
    assert (folder / "copy.json").is_file()
    assert (folder / "slow").exists() == slow


def test_what_a_block_leaves_running_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("doc_runner.ROOT", tmp_path)
    page_of(tmp_path, monkeypatch, "```bash\nsleep 100 &\necho here\n```\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    begun = time.monotonic()
    run_page("page.md", folder)
    assert time.monotonic() - begun < 60  # as long as it ran it would hold the block's output open


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_marks_are_known_and_no_command_hides_in_a_block_without_a_language(page):
    for block in read_blocks(page):
        assert set(block.needs) <= set(NEEDS), f"{block.where}: needs {block.needs}; known are {sorted(NEEDS)}"
        if block.language not in ("bash", "python"):
            hidden = [line for line in block.text.splitlines() if COMMAND.match(line)]
            assert not hidden, f"{block.where}: commands belong into ```bash: {hidden}"
            assert not {"needs", "slow", "runs in"} & set(block.marks), f"{block.where}: only ```bash and ```python are run"
        if "runs in" in block.marks:
            there = [other.text for other in read_blocks(ROOT / block.marks["runs in"]) if other.runs]
            assert block.text in there, f"{block.where}: {block.marks['runs in']} has no such block that runs"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_block_is_accepted_by_what_reads_it(page):
    for block in read_blocks(page):
        if block.language == "bash":
            subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)
            for words in simple_commands(block):
                check_command(words)
        elif block.language == "python":
            check_python(block)
        elif block.language == "yaml":
            check_yaml(block)
        elif block.language == "json":
            for line in block.text.splitlines():
                json.loads(line)


def recipe_commands(file):
    """Commands of a Makefile's recipes, or of the head of a config."""
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    shown = re.findall(r"^\s*(?:#\s+|\$\(BIN\)/)((?:mmalign|accelerate|python) .+)$", text, re.MULTILINE)
    return [words_of(line) for line in shown if "--" in line]


@pytest.mark.parametrize("file", RECIPES, ids=name_of)
def test_commands_of_recipes_and_of_the_heads_of_configs_are_accepted(file):
    for words in recipe_commands(file):
        check_command(words)


def sentences(page):
    """A page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_every_script_shown_is_given_what_it_takes():
    """In blocks, in heads of configs, in sentences (`python scripts/NAME.py ...`)."""
    shells = [block for page in PAGES for block in read_blocks(page) if block.language == "bash"]
    told = [line for page in [*PAGES, *CARDS] for line in re.findall(r"`((?:python )?scripts/[\w/]+\.py[^`]*)`", sentences(page))]
    told = [line for line in told if "/NAME.py" not in line]  # as CONTRIBUTING says where a new one goes
    assert not [line for line in told if not (ROOT / line.removeprefix("python ").split()[0]).is_file()]
    started = [words for block in shells for words in simple_commands(block)] + [
        words for file in RECIPES for words in recipe_commands(file)
    ]
    placeholder = re.compile(r" [A-Z]+$")
    started += [words_of(line) for line in told if line.startswith("python ") and "--" in line and not placeholder.search(line)]
    scripts = [script for words in started if (script := check_command(words))]
    assert scripts
    check_scripts(scripts)


@pytest.mark.parametrize("page", ["results", "performance"])
def test_every_section_of_figures_names_the_script_that_made_them(page):
    """Results and performance: a section says its command before its first table of figures, or in that table's head."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    head, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    assert len(sections) > 8
    command = re.compile(r"`((python )?scripts/(proving|bench)/\w+\.py|mmalign tour`)")
    assert not [part.splitlines()[0] for part in sections if not command.search(part)]
    anchors = {re.sub(r"[^\w -]", "", part.splitlines()[0].lower()).replace(" ", "-") for part in sections}
    assert set(re.findall(r"\(#([\w-]+)\)", head)) == anchors, "the table at the top leads to every section"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_within_sentences_name_verbs_and_options_that_exist(page):
    """`mmalign VERB --option`, where the rest may be a placeholder."""
    for line in re.findall(r"`mmalign ([^`]+)`", sentences(page)):
        words = line.split()
        name = find_verb(words)
        if name is None:
            assert any(verb.split()[0] == words[0] for verb in VERBS) or words[0] in ("VERB", "...", "--version", "--help"), (
                f"mmalign {line}"
            )
        else:
            parser = flags.build_parser(name, VERBS[name], importlib.import_module(VERBS[name].module))
            flags_of = {flag for action in parser._actions for flag in action.option_strings}
            lacking = [flag for flag in re.findall(r"--[\w-]+", line) if flag not in flags_of]
            assert not lacking, f"mmalign {line}: {lacking}"

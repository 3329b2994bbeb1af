"""The docs build as a site without a warning, load nothing from elsewhere, and no link, anchor or picture of theirs is missing."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from doc_blocks import ROOT

from mm_align.cli import VERBS

sys.path.insert(0, str(ROOT / "scripts" / "docs"))

from docstrings import marked
from site_hook import on_page_content, relinked
from site_lists import listed

README = (ROOT / "README.md").read_text(encoding="utf-8")
# What a browser loads by itself; a link of a reader's own click is none.
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "object": "data"}


class Page(HTMLParser):
    """ids: anchors. links: (tag, address) of everything that points somewhere."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.loaded: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = {key: value for key, value in attrs if value}
        self.ids |= {values[key] for key in ("id", "name") if key in values}
        self.links += [(tag, values[key]) for key in ("href", "src") if key in values]
        if tag in LOADED and LOADED[tag] in values:
            self.loaded.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; warnings end the build."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return out


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in site.rglob("*.html")}


def test_links_anchors_and_pictures_are_there(site, pages):
    missing = []
    for file, page in pages.items():
        for _, address in page.links:
            if re.match(r"\w+:", address) or file.name == "404.html":
                continue
            path, _, anchor = unquote(address).partition("#")
            target = (file.parent / path.partition("?")[0]).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (anchor and target in pages and anchor not in pages[target].ids | {"__top"}):
                missing.append(f"{file.relative_to(site)}: {address}")
    assert not missing


def test_links_of_the_readme_are_there(site, pages):
    for path, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]+)#?([^)\s]*)\)", README):
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in pages[site / path.replace("docs/", "", 1).replace(".md", ".html")].ids, f"{path}#{anchor}"


def test_the_readme_names_every_verb():
    assert not [name for name in VERBS if f"`{name}`" not in README and f"`{name.split()[-1]}`" not in README]


def test_a_browser_loads_nothing_from_elsewhere(site, pages):
    assert not [(file.name, url) for file, page in pages.items() for url in page.loaded if re.match(r"(\w+:)?//", url)]
    styles = [*site.rglob("*.css"), *pages]
    assert not [file.name for file in styles if re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", file.read_text(encoding="utf-8"))]


def test_no_page_has_a_diagram_whose_script_the_theme_fetches(pages):
    assert not [file.name for file in pages if re.search(r'class="[^"]*mermaid', file.read_text(encoding="utf-8"))]


def test_every_page_is_reached_from_the_navigation(site, pages):
    home = site / "index.html"
    reached = {(home.parent / address).resolve() for tag, address in pages[home].links if tag == "a" and not re.match(r"\w+:|#", address)}
    assert set(pages) - reached - {site / "404.html", home} == set()


def test_the_reference_has_every_verb_and_the_public_faces(site, pages):
    ids = pages[site / "reference" / "cli.html"].ids
    assert {name.replace(" ", "-") for name in VERBS} <= ids
    faces = set().union(*(page.ids for file, page in pages.items() if file.parent.name == "reference"))
    named = {"data_tools.records.Sample", "data_tools.calls.Backend", "data_tools.io.read", "vision.tokens.VisualTokens"}
    named |= {"mm_align.jobs.enhance.enhance.enhance", "mm_align.losses.base.Objective", "mm_align.models.LvlmProcessor"}
    assert named <= faces


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[a](train.md#x)", "[a](train.md#x)"),
        ("![a](images/report.png)", "![a](images/report.png)"),
        ("[card](../mm_align/zoo/tiny-aitqe/README.md)", "[card](cards/tiny-aitqe.md)"),
        ("[SceneWorld](../README.md#numbers)", "[SceneWorld](index.md)"),
        ("[the run](../configs/rlaif/tiny.yaml)", "the run (`configs/rlaif/tiny.yaml`)"),
        ("[`configs/rlaif/tiny.yaml`](../configs/rlaif/tiny.yaml)", "`configs/rlaif/tiny.yaml`"),
        ("`[a](b)` [w](https://example.org/a)", "`[a](b)` [w](https://example.org/a)"),
    ],
)
def test_links_out_of_the_docs_become_pages_or_code(text, shown):
    assert relinked(text, "train.md") == shown


def test_a_link_to_no_file_ends_the_build():
    with pytest.raises(ValueError, match=r"train\.md: \.\./configs/tea\.yaml is no file"):
        relinked("[a](../configs/tea.yaml)", "train.md")


def test_lists_are_nested_as_git_hosts_nest_them():
    text = "Text:\n- one\n  more\n  - two\n    ```bash\n    a\n      b\n    ```\n- three\n\nEnd\n"
    assert listed(text) == "Text:\n\n- one\n    more\n    - two\n        ```bash\n        a\n          b\n        ```\n- three\n\nEnd\n"


def test_flags_and_intervals_are_not_broken_into_lines():
    html = '<p title="a --b">Take <code>mmalign --dry-run</code></p><td><code>a/b</code> 1.5 [+1.2, +1.9]</td>'
    shown = on_page_content(html, None, None, None)
    assert '<p title="a --b">Take <code>mmalign <span class="whole">--dry-run</span></code></p>' in shown
    assert '<code>a/<wbr>b</code> 1.5 <span class="whole">[+1.2, +1.9]</span>' in shown


def test_docstrings_show_shapes_and_names_as_code():
    assert marked("features: [B, N, D], result [i][j] of *x*.", ["features"]) == "`features`: `[B, N, D]`, result `[i][j]` of \\*x\\*."
    assert marked("B tensors [n_i, D]", []) == "B tensors `[n_i, D]`"

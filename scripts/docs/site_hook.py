"""The site's hook: pages made at build (reference, cards, changes), and links of Git hosts turned into links of the site."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from cli_reference import cli_page
from python_reference import python_pages
from site_lists import listed

ROOT = Path(__file__).resolve().parents[2]
# Files outside docs/ that the site holds as pages; any other is named as code.
COPIED = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "mm_align/zoo/tiny-aitqe/README.md": "cards/tiny-aitqe.md",
    "mm_align/zoo/tiny-judge/README.md": "cards/tiny-judge.md",
    "mm_align/zoo/tiny-lvlm/README.md": "cards/tiny-lvlm.md",
    "README.md": "index.md",
}
WIDE = ("aitqe_results.md", "eeca.md", "methods.md", "performance.md")  # tables that need the room of the table of contents
ORIGIN = {page: path for path, page in COPIED.items() if page != "index.md"}
CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")
FLAG = re.compile(r"(?<=[>\s])--[a-z][\w-]*(?![^<]*>)")  # in the text, not within a tag
INTERVAL = re.compile(r"\[[+-]?\d[\d.,%+ -]*\]")
WHOLE = r'<span class="whole">\g<0></span>'
PARTS = re.compile(r"(^ *```.*?^ *```$|`[^`\n]*`)|(!?)\[([^\]\n]*)\]\(([^)\s#]+)(#[^)\s]*)?\)", re.DOTALL | re.MULTILINE)


def on_files(files, config):
    """Add the pages that are made here. mkdocs calls it with the files of docs/."""
    from mkdocs.structure.files import File

    pages = {"reference/cli.md": cli_page(), **python_pages()}
    pages |= {page: (ROOT / path).read_text(encoding="utf-8") for page, path in ORIGIN.items()}
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """A page's text as the site's Markdown reads it: lists as Git hosts nest them, links where the site has their target."""
    if page.file.src_uri in WIDE:
        page.meta["hide"] = ["toc"]
    return relinked(listed(markdown), page.file.src_uri)


def on_page_content(html, page, config, files):
    """Long paths within tables may break behind their slashes and underscores; flags may not, nor intervals in tables."""
    cells = re.sub(r"(?<=<td>).*?(?=</td>)", lambda cell: INTERVAL.sub(WHOLE, CODE.sub(_breakable, cell[0])), html, flags=re.DOTALL)
    return FLAG.sub(WHOLE, cells)


def _breakable(code: re.Match[str]) -> str:
    return re.sub(r"([/_=])(?=\w)", r"\1<wbr>", code[0])


def relinked(text: str, page: str) -> str:
    """`text` of the site's page `page` with each relative link to where the site has it, or as plain code where it has not."""
    folder = posixpath.dirname(ORIGIN.get(page, f"docs/{page}"))

    def link(found: re.Match[str]) -> str:
        code, picture, label, target, anchor = found.groups()
        if code or re.match(r"\w+:|/", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        place = path.removeprefix("docs/") if path.startswith("docs/") else COPIED.get(path)
        if place:
            anchor = None if path == "README.md" else anchor  # the home page is not README's text
            return f"{picture}[{label}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{anchor or ''})"
        if not (ROOT / path).exists():
            raise ValueError(f"{page}: {target} is no file")
        return f"`{path}`" if label.strip("`") in (path, target, posixpath.basename(path)) else f"{label} (`{path}`)"

    return PARTS.sub(link, text)

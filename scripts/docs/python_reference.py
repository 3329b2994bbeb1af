"""The pages of the Python reference: which faces stand on which page; mkdocstrings reads them without importing them."""

from __future__ import annotations

from mm_align import _LAZY

FACES: dict[str, tuple[str, str, list[str]]] = {
    "reference/records.md": (
        "Records and calls",
        "What lands on disk, and what may be asked of a model. No torch.",
        ["data_tools.records", "data_tools.calls"],
    ),
    "reference/io.md": (
        "Reading and writing",
        "Samples in and out of every format: `from data_tools.io import read, write`.",
        ["data_tools.io"],
    ),
    "reference/vision.md": (
        "Vision",
        "Pixels to visual tokens.",
        ["vision.tokens", "vision.encoders.base", "vision.adapters.base"],
    ),
    "reference/video.md": (
        "Video",
        "Files to clips, and what to keep of them under a budget.",
        ["video.clip", "video.decode", "video.decode.base", "video.frames.base", "video.tokens.base", "video.budget"],
    ),
    "reference/models.md": (
        "Models",
        "The vision-language model as transformers knows it, its processor and its batches.",
        ["mm_align.models"],
    ),
    "reference/bases.md": (
        "Losses, rewards, search, evals",
        "What one of each kind must offer, and the searches.",
        [
            "mm_align.losses.base",
            "mm_align.rewards.base",
            "mm_align.search.best_of_n",
            "mm_align.search.replay_audit",
            "mm_align.evals.base",
        ],
    ),
}


def python_pages() -> dict[str, str]:
    """Page -> Markdown."""
    pages = {page: _page(*face) for page, face in FACES.items()}
    public = [f"{module}.{name}" for module, name in _LAZY.values()]
    return pages | {"reference/mm_align.md": _page("mm_align", "Names of the package itself, imported when first used.", public)}


def _page(title: str, sentence: str, names: list[str]) -> str:
    return "\n\n".join([f"# {title}", sentence, *(f"::: {name}\n    options:\n      toc_label: {name}" for name in names)]) + "\n"

"""The page: self-contained, escaped, complete, and honest about what it cannot show."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import PIL.Image
import pytest

from data_tools.records import Image, Rejected, Sample, Source, Verdict
from data_tools.report import Stats, write_report
from data_tools.report.charts import Series, columns, length_bins, overlay, round_ticks
from data_tools.report.diff import word_diff
from data_tools.report.page import number, percent
from data_tools.report.visible import visible

NASTY = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    "</style></title></svg><b>bold</b> & \"quotes\" 'single' {{ 7*7 }} {% raw %}",
    "A " + "very " * 1000 + "long caption.",
    "صورة دائرة حمراء",
    "🎉 emoji http://spam.example",
    "",
    "bell\x07 null\x00 esc\x1b[31m rlo \u202eevil\u202c bad \ud83d",
]


class Page(HTMLParser):
    """Collects tags and attributes, and checks that what is opened is closed."""

    VOID = frozenset({"meta", "img", "br", "rect", "line", "path", "link"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, k, v) for k, v in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes something else"


def nasty_stats():
    stats = Stats()
    picture = Image(pixels=PIL.Image.new("RGB", (64, 64), "teal"))
    for row, caption in enumerate(NASTY * 4):
        sample = Sample(id=caption, caption=caption, source=Source(caption[:40], row), images=(picture,))
        scores, why = {"overall": 3, "text_quality": None, caption[:20]: 2.5}, {"overall": caption, caption[:20]: caption}
        if row % 4 == 0:
            stats.add(sample, Verdict("rewrite", scores, why, caption[::-1], caption[::-1], 0.9, "ok", caption[:30]), caption[::-1])
        elif row % 4 == 1:
            stats.add(sample, Verdict("keep", scores, why, None, caption[::-1], 0.1, "ok", caption[:30]), caption)
        elif row % 4 == 2:
            stats.add(sample, Verdict("keep", parse_status="unparsable", reason="unparsable", raw=caption), caption)
        else:
            stats.reject(Rejected(Source(caption[:40], row), caption[:30] or "empty", caption, caption))
    return stats


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    run = {"title": NASTY[0], "domain": NASTY[1], "notes": [NASTY[0]], "config": {NASTY[0]: NASTY[6]}, "timing": {"seconds": 1.5}}
    write_report(folder, nasty_stats(), title="unused", run=run)
    return (folder / "report.html").read_text(encoding="utf-8")


def test_captions_are_shown_and_not_run(page):
    tags = Page(page).tags
    assert "script" not in tags
    assert "b" not in {t for t, k, _ in Page(page).attributes if k.startswith("on")}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert not [k for _, k, _ in Page(page).attributes if k.startswith("on")]


def test_nothing_outside_the_file_is_named(page):
    for _, name, value in Page(page).attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert value.startswith(("data:image/", "#")), value
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page


def test_markup_is_balanced(page):
    assert Page(page).open == []


def test_links_lead_somewhere(page):
    targets = set(re.findall(r'href="#(\w+)"', page))
    assert targets <= set(re.findall(r'id="(\w+)"', page))
    assert {"outcome", "rewritten", "scores", "quarantine", "run"} <= targets


def test_every_picture_has_words_for_it(page):
    images = Page(page).tags.count("img")
    assert images > 0
    assert len([1 for tag, k, v in Page(page).attributes if tag == "img" and k == "alt" and v]) == images


def test_control_characters_are_made_visible(page):
    assert "bell⟨U+0007⟩ null⟨U+0000⟩ esc⟨U+001B⟩" in page
    assert "⟨U+202E⟩" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\ud800-\udfff]", page)
    assert visible("a\tb\nc") == "a\tb\nc"


def test_long_captions_are_cut_and_say_so(page):
    assert "5,015 characters, cut" in page
    assert "very " * 200 not in page


def test_json_has_the_numbers_and_the_run(tmp_path):
    stats = nasty_stats()
    write_report(tmp_path, stats, title="enhance-data", run={"model": {"model": "m"}, "config": {"path": Path("x")}, "rows_in": 28})
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["schema"] == 1
    assert numbers["title"] == "enhance-data"
    assert numbers["identity"] == {"rows_in": 28, "kept": 14, "rewritten": 7, "dropped": 0, "quarantined": 7, "holds": True}
    assert numbers["run"]["config"] == {"path": "x"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_a_broken_sum_is_said(tmp_path):
    write_report(tmp_path, nasty_stats(), title="t", run={"rows_in": 29})
    assert json.loads((tmp_path / "report.json").read_text())["identity"]["holds"] is False
    assert "the sum does not hold" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_title_names_the_domain(tmp_path):
    write_report(tmp_path, Stats(), title="enhance-data", run={"domain": "a small world"})
    assert "<title>enhance-data · a small world</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_run_without_rows_is_a_page_too(tmp_path):
    write_report(tmp_path / "new" / "folder", Stats(), title="empty", run={})
    text = (tmp_path / "new" / "folder" / "report.html").read_text(encoding="utf-8")
    assert Page(text).open == []
    assert json.loads((tmp_path / "new" / "folder" / "report.json").read_text())["counts"]["rows"] == 0


def test_same_statistics_same_page(tmp_path):
    for name in ("a", "b"):
        stats = nasty_stats() if name == "a" else Stats.from_dict(json.loads(json.dumps(nasty_stats().to_dict())))
        write_report(tmp_path / name, stats, title="t", run={})
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_an_unwritable_place_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="file"):
        write_report(tmp_path / "file", Stats(), title="t", run={})


def page_of(folder, *verdicts):
    stats = Stats()
    for row, verdict in enumerate(verdicts):
        stats.add(Sample(f"s{row}", caption="old", source=Source("a", row)), verdict, verdict.text or "old")
    write_report(folder, stats, title="t", run={})
    return (folder / "report.html").read_text(encoding="utf-8")


def test_rescored_rewrites_stand_beside_the_kept(tmp_path):
    text = page_of(tmp_path, Verdict("keep", {"overall": 8}), Verdict("rewrite", {"overall": 2, "overall_after": 9}, text="new"))
    assert "Overall, captions written <small>2 known, mean 8.50" in text
    assert "the 1 of 1 rewrites that were scored again (mean 9" in text
    assert "<dt>Overall after</dt>" in text
    assert Page(text).open == []


def test_without_rescoring_the_chart_says_that_it_holds_kept_rows_only(tmp_path):
    text = page_of(tmp_path, Verdict("keep", {"overall": 8}), Verdict("rewrite", {"overall": 2}, text="new"))
    assert "Overall, kept captions only <small>1 known" in text
    assert "the 1 rewrites were not scored again" in text
    assert "captions written <small>" not in text


def test_no_empty_chart_where_everything_was_rewritten(tmp_path):
    text = page_of(tmp_path, Verdict("rewrite", {"overall": 2}, text="new"))
    assert "No chart of the captions written" in text
    assert "where known" not in text


def test_rewrites_scored_only_afterwards_have_a_chart(tmp_path):
    text = page_of(tmp_path, Verdict("rewrite", {"overall_after": 9}, text="new"))
    assert "captions as read <small>" not in text
    assert "Overall, captions written <small>1 known" in text


def test_prompts_that_did_not_fit_are_among_the_reasons(tmp_path):
    text = page_of(tmp_path, Verdict("keep", reason="prompt_too_long", flags=("prompt_too_long",)))
    assert "prompt_too_long" in text[text.index("Why captions were kept") :].partition("</table>")[0]
    assert json.loads((tmp_path / "report.json").read_text())["counts"]["unparsable"] == 0


def test_word_diff_by_hand():
    """`a red ball` -> `A blue ball`: case is no change, `red` and `blue` differ; each side joins to its text."""
    old, new = word_diff("a red ball", "A blue ball")
    assert [(s.text, s.changed) for s in old] == [("a ", False), ("red", True), (" ball", False)]
    assert [(s.text, s.changed) for s in new] == [("A ", False), ("blue", True), (" ball", False)]
    assert word_diff("", "new") == ([], [("new", True)])


@pytest.mark.parametrize("text", NASTY[:6])
def test_word_diff_loses_nothing(text):
    old, new = word_diff(text, text[::-1])
    assert "".join(s.text for s in old) == text
    assert "".join(s.text for s in new) == text[::-1]


@pytest.mark.parametrize(("top", "ticks"), [(0, [0, 1]), (3, [0, 1, 2, 3]), (37, [0, 10, 20, 30, 40]), (100, [0, 25, 50, 75, 100])])
def test_round_ticks(top, ticks):
    assert round_ticks(top) == ticks


@pytest.mark.parametrize("top", [*range(60), 99, 101, 999, 12_345, 10**9])
def test_ticks_cover_the_top_in_few_steps(top):
    ticks = round_ticks(top)
    assert ticks[-1] >= top
    assert 2 <= len(ticks) <= 6
    assert len(set(ticks)) == len(ticks)


def test_length_bins_put_runaways_in_the_last():
    """99 captions of 10 words and one of 1,000: the chart ends at 15 (1.5 times the 95th percentile); edges 0..15 by 1."""
    edges, old, new = length_bins([(10, 99), (1000, 1)], [(12, 100)])
    assert edges == list(range(16))
    assert (old[10], old[15], new[12]) == (99, 1, 100)


def test_charts_escape_their_labels():
    chart = columns([Series("kept", "<i>", [1, 2])], ["<b>", "y"], axis="<u>", name='"<a>')
    assert "<b>" not in chart
    assert "<i>" not in chart
    assert 'aria-label="&#34;&lt;a&gt;"' in chart
    assert "NaN" not in overlay([Series("raw", "r", [0])], [0], axis="", name="empty")


def test_numbers_and_shares_for_people():
    assert [number(v) for v in (None, 12_345, 1.005, "x")] == ["–", "12,345", "1.00", "x"]
    assert [percent(*v) for v in ((0, 5), (5, 5), (1, 3), (1, 10_000), (99_999, 100_000), (1, 0))] == [
        "0 %", "100 %", "33.3 %", "<0.1 %", "99.9 %", "0 %",
    ]  # fmt: skip

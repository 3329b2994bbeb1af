"""Stages: what is done again and what is not, what a failing model costs, that no row is lost."""

import json

import pytest

from data_tools.calls import CallFailed
from data_tools.run.directory import RunStopped
from mm_align.config import UserError
from mm_align.rlaif.files import joined
from mm_align.rlaif.stage import Done, Gone, Places, Stage, Unit, Watch, read_quarantine, run_stage


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "ledger", tmp_path / "out.jsonl", tmp_path / "gone.jsonl", lambda what: tmp_path / f"tmp.{what}")


class Shouts:
    """Work: a word in capitals. `bad`: words whose call fails; `never`: words that the model refuses for good."""

    def __init__(self, bad=(), never=()):
        self.bad, self.never = set(bad), set(never)
        self.asked = []

    def __call__(self, words):
        self.asked.append(list(words))
        for word in words:
            if word in self.never | self.bad:
                raise CallFailed(f"cannot do {word}", again=word in self.bad)
        return [Done(gone=[Gone(word, "too_short")]) if len(word) < 2 else Done([{"word": word.upper()}]) for word in words]


def stage(words, work, settings=None, block=2):
    return Stage("shout", settings or {}, lambda: [Unit((word,), word, word) for word in words], work, block)


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_are_in_order_and_counted(places):
    summary = run_stage(stage(["aa", "b", "cc"], Shouts()), places, Watch())
    assert rows(places.output) == [{"word": "AA"}, {"word": "CC"}]
    assert rows(places.quarantine) == [{"subject": "b", "reason": "too_short", "detail": ""}]
    assert (summary.rows, summary.out, summary.quarantined, summary.fresh, summary.reused) == (3, 2, 1, 3, 0)
    assert read_quarantine(places.quarantine) == {"b": "too_short"}


def test_only_what_changed_is_done_again(places):
    run_stage(stage(["aa", "b", "cc"], Shouts()), places, Watch())
    again = Shouts()
    summary = run_stage(stage(["cc", "dd", "aa"], again), places, Watch())
    assert again.asked == [["dd"]]
    assert rows(places.output) == [{"word": "CC"}, {"word": "DD"}, {"word": "AA"}]
    assert (summary.fresh, summary.reused) == (1, 2)


def test_other_settings_are_other_work_and_the_old_ones_are_remembered(places):
    for settings, n in (({"a": 1}, 1), ({"a": 2}, 1), ({"a": 1}, 0)):
        work = Shouts()
        run_stage(stage(["aa"], work, settings), places, Watch())
        assert len(work.asked) == n


def test_a_stop_keeps_what_was_done(places):
    work = Shouts()
    with pytest.raises(RunStopped, match="same command"):
        run_stage(stage(["aa", "bb", "cc", "dd"], work), places, Watch(stop=lambda: bool(work.asked)))
    assert not places.output.exists()
    again = Shouts()
    run_stage(stage(["aa", "bb", "cc", "dd"], again), places, Watch())
    assert again.asked == [["cc", "dd"]]
    assert len(rows(places.output)) == 4


def test_a_row_whose_call_fails_leaves_alone_and_is_tried_again(places):
    """`bb` fails with its block, then by itself; at the next start it alone is asked for."""
    summary = run_stage(stage(["aa", "bb", "cc", "dd"], Shouts(bad=["bb"])), places, Watch())
    assert (summary.out, summary.quarantined, summary.again) == (3, 1, 1)
    assert rows(places.quarantine) == [{"subject": "bb", "reason": "call_failed", "detail": "cannot do bb"}]
    again = Shouts()
    assert run_stage(stage(["aa", "bb", "cc", "dd"], again), places, Watch()).again == 0
    assert again.asked == [["bb"]]
    assert [row["word"] for row in rows(places.output)] == ["AA", "BB", "CC", "DD"]


def test_a_row_that_is_refused_for_good_is_not_tried_again(places):
    words = ["aa", "bb", "cc", "dd", "ee"]
    summary = run_stage(stage(words, Shouts(never=words[:4])), places, Watch())
    assert (summary.out, summary.quarantined, summary.again) == (1, 4, 0)
    again = Shouts()
    run_stage(stage(words, again), places, Watch())
    assert again.asked == []


def test_a_model_that_is_gone_stops_the_run(places):
    """Three failures in a row are no fault of the rows."""
    words = ["aa", "bb", "cc", "dd", "ee"]
    with pytest.raises(RunStopped, match="failed 3 times in a row"):
        run_stage(stage(words, Shouts(bad=words[1:]), block=1), places, Watch())
    again = Shouts()
    run_stage(stage(words, again, block=1), places, Watch())
    assert again.asked == [[word] for word in words[1:]]


def test_work_must_answer_every_unit(places):
    with pytest.raises(ValueError, match="1 results for 2 units"):
        run_stage(stage(["aa", "bb"], lambda words: [Done()]), places, Watch())


def test_rows_find_theirs_in_the_file_before():
    left, right = ["a", "b", "c"], [("a", 1), ("a", 2), ("c", 3)]
    assert list(joined(left, right, str, lambda row: row[0], "claims")) == [("a", right[:2]), ("b", []), ("c", right[2:])]


@pytest.mark.parametrize("right", [[("x", 1)], [("c", 1), ("a", 2)]])
def test_a_row_of_nothing_or_out_of_order_is_told(right):
    with pytest.raises(UserError, match=r"claims.jsonl: the row of '[xa]'"):
        list(joined(["a", "b", "c"], right, str, lambda row: row[0], "claims"))

"""Pairs: which answers are paired, how many, and the length balance against numbers worked out by hand."""

import json
from collections import Counter

import pytest

from data_tools.records import Image, Message, Part, Response, Sample, Score
from mm_align.rlaif.pairs import Pair, Pairs, balanced, draw, make_pairs, paired


def sample(name="p", picture="a.png", question="what?", **meta):
    return Sample(name, (Message("user", (Part("image"), Part("text", question))),), (Image(path=picture),), meta=meta)


def pair(chosen_words, rejected_words, number=0):
    chosen, rejected = (
        Response(f"{number}:{side}", "p", " ".join(["w"] * n) + side) for side, n in (("c", chosen_words), ("r", rejected_words))
    )
    return Pair(sample(), chosen, rejected, 1.0)


@pytest.fixture
def folder(tmp_path):
    """A function that writes the files that pairs are made of: [(sample, [(text, score or None), ...]), ...]."""

    def make(told):
        files = {"samples": [], "candidates": [], "scores": []}
        for one, answers in told:
            files["samples"].append(one.to_dict())
            for j, (text, score) in enumerate(answers):
                files["candidates"].append(Response(f"{one.id}:{j}", one.id, text, truncated=text.endswith("...")).to_dict())
                files["scores"] += [] if score is None else [Score(f"{one.id}:{j}", "rejected", score).to_dict()]
        for name, rows in files.items():
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path

    return make


def texts(pairs):
    return [(one.chosen.text, one.rejected.text, one.margin) for one in pairs]


def test_all_pairs_whose_scores_differ(folder):
    """Scores 0, -2, 0, -1: five of six combinations differ; the higher is chosen whichever comes first."""
    root = folder([(sample(), [("a", 0.0), ("b", -2.0), ("c", 0.0), ("d", -1.0)])])
    assert texts(paired(root, Pairs())) == [("a", "b", 2), ("a", "d", 1), ("c", "b", 2), ("d", "b", 1), ("c", "d", 1)]
    assert texts(paired(root, Pairs(min_difference=2))) == [("a", "b", 2), ("c", "b", 2)]


def test_what_is_never_paired(folder):
    """Equal texts, empty ones, answers without a score, and answers of different prompts; truncated ones where asked."""
    root = folder([(sample(), [("a", 0.0), ("a ", -1.0), (" ", -3.0), ("b", None), ("c...", -1.0)]), (sample("q"), [("z", -5.0)])])
    assert texts(paired(root, Pairs())) == [("a", "c...", 1)]
    assert texts(paired(root, Pairs(drop_truncated=True))) == []


def test_at_most_k_of_a_key_drawn_by_the_seed(folder):
    """Two prompts about one picture with 4 answers of different scores have 6 pairs each."""
    answers = [(word, -float(i)) for i, word in enumerate("abcd")]
    root = folder([(sample("p"), answers), (sample("q", question="and?"), answers), (sample("r", "b.png"), answers)])
    keys = {"instruction": {"p": 2, "q": 2, "r": 2}, "image": {("p", "q"): 2, "r": 2}}
    for per in keys:
        found = draw(paired(root, Pairs()), Pairs(per=per))
        counts = Counter(one.sample.id for one in found)
        assert len(found) == (6 if per == "instruction" else 4)
        assert counts["r"] == 2
        assert counts["p"] + counts["q"] == (4 if per == "instruction" else 2)
    drawn = [texts(draw(paired(root, Pairs()), Pairs(seed=seed))) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(draw(paired(root, Pairs()), Pairs(k=100))) == 18


def test_a_picture_is_known_by_the_datas_own_key(folder):
    answers = [("a", 0.0), ("b", -1.0)]
    root = folder([(sample("p", "a.png", ds_question_id="1"), answers), (sample("q", "b.png", ds_question_id="1"), answers)])
    assert len(draw(paired(root, Pairs()), Pairs(per="image", k=1))) == 1


def test_drawing_is_uniform():
    """Of 6 pairs 2 are drawn, so each is drawn by a third of 3000 seeds: 1000 +- 4 standard deviations of 26."""
    pairs = [pair(3, 3, number) for number in range(6)]
    counts = Counter(one.chosen.id for seed in range(3000) for one in draw(pairs, Pairs(seed=seed)))
    assert all(abs(n - 1000) < 104 for n in counts.values()), counts


def test_the_length_balance_by_hand():
    """Words (chosen, rejected): (10, 10), (12, 10), (4, 10), (9, 10), shorter by 0, -0.2, 0.6, 0.1 of the rejected.

    r = 0 keeps the first two: means 11 and 10, gap 0.1. r = 0.1 adds the last: 31/3 and 10, gap 0.033. r = 0.6 keeps all: 8.75 and 10,
    gap 0.125. The least is at r = 0.1.
    """
    pairs = [pair(10, 10, 0), pair(12, 10, 1), pair(4, 10, 2), pair(9, 10, 3)]
    assert [one.chosen.id for one in balanced(pairs)] == ["0:c", "1:c", "3:c"]


def test_the_first_of_equal_gaps_is_taken():
    """(8, 10) and (12, 10): r = 0 keeps the second, gap 0.2; r = 0.2 keeps both, gap 0. With (8, 10), (11, 10) and (9, 10): r = 0 has
    gap 0.1, r = 0.1 keeps 11 and 9, gap 0, r = 0.2 keeps all, gap 0.067. With (5, 5) alone every r is 0: all that is kept is the pair."""
    assert len(balanced([pair(8, 10, 0), pair(12, 10, 1)])) == 2
    assert [one.chosen.id for one in balanced([pair(8, 10, 0), pair(11, 10, 1), pair(9, 10, 2)])] == ["1:c", "2:c"]
    assert len(balanced([pair(5, 5)])) == 1
    assert balanced([]) == []


def test_much_shorter_chosen_answers_leave_nothing():
    """(1, 100) is shorter by 0.99, more than the largest ratio of 0.98."""
    assert balanced([pair(1, 100)]) == []


def test_what_the_balance_drops_is_told(folder):
    root = folder([(sample(), [("w w w w w", -1.0), ("w w", 0.0)]), (sample("q"), [("v v v", -1.0), ("w w w", 0.0)])])
    kept, dropped = make_pairs(root, Pairs())
    assert texts(kept) == [("w w w", "v v v", 1)]
    assert texts(dropped) == [("w w", "w w w w w", 1)]
    assert texts(make_pairs(root, Pairs(balance=False))[0]) == [("w w", "w w w w w", 1), ("w w w", "v v v", 1)]


def test_prompts_that_come_again_are_discarded_where_asked(folder):
    """The reference code keeps of p, q, p only the last p (and q)."""
    answers = [("a", 0.0), ("b", -1.0)]
    root = folder([(sample("1", question="p"), answers), (sample("2", question="q"), answers), (sample("3", question="p"), answers)])
    assert [one.sample.id for one in make_pairs(root, Pairs())[0]] == ["1", "2", "3"]
    assert [one.sample.id for one in make_pairs(root, Pairs(discard_reappearing=True))[0]] == ["2", "3"]

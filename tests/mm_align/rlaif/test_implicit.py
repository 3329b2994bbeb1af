"""Labels of the implicit reward: pairs worked out by hand, and the whole way through the feedback job's door."""

import json

import pytest

from data_tools.records import Response, Sample
from mm_align.cli import main
from mm_align.rlaif.files import scores
from mm_align.rlaif.implicit import Implicit, Ranked, balanced, jaccard, ngrams, pairs_of, rewards, without_alike
from mm_align.rlaif.pairs import Pair

SAMPLE = Sample("s")


def words(n: int, of: str = "w") -> str:
    return " ".join(f"{of}{i}" for i in range(n))


def ranked(text: str, total: float = 0.0, tokens: int = 1) -> Ranked:
    return Ranked(Response(text, "s", text), total, total / tokens)


def pairs(rated: dict[str, tuple[float, int]], **options) -> list[tuple[str, str]]:
    found = pairs_of(SAMPLE, [ranked(text, *told) for text, told in rated.items()], Implicit(**options))
    return [(pair.chosen.text, pair.rejected.text) for pair in found]


def test_chosen_are_among_the_best_by_sum_and_by_mean():
    """Sums: a 8, b 6, c 1, d -4, e -6, f -9. Means: a 2, b 0.6, c 1, d -2, e -0.6, f -9.

    Best two by sum a b, by mean a c: a. Worst two by sum e f, by mean d f: f.
    """
    rated = {"a": (8, 4), "b": (6, 10), "c": (1, 1), "d": (-4, 2), "e": (-6, 10), "f": (-9, 1)}
    assert pairs(rated, top=2) == [("a", "f")]


def test_all_that_match_in_length_or_one_by_one_in_rank():
    """With the best and worst three of six everything is in both; lengths differ by 0 to 5 words."""
    rated = {words(6 - i, f"t{i}"): (3.0 - i, 1) for i in range(6)}
    names = list(rated)
    assert pairs(rated, strict_rank=True) == list(zip(names[:3], names[3:], strict=True))
    assert set(pairs(rated, a_row=9)) == {(a, b) for a in names[:3] for b in names[3:]}
    assert len(pairs(rated)) == 3
    assert pairs(rated) == pairs(rated) != pairs(rated, seed=1)
    assert set(pairs(rated, distance=2, a_row=9)) == {(names[2], names[3])}


def test_answers_alike_count_once():
    """Eleven words have two 10-grams. One changed last word shares one of three: 1/3. The same words again: 1."""
    a, b = words(11), f"{words(10)} other"
    assert jaccard(ngrams(a), ngrams(b)) == pytest.approx(1 / 3)
    rated = [ranked(text) for text in (a, b, f"{a}!", "too short", "too short.")]
    assert [one.response.text for one in without_alike(rated, 0.9)] == [a, b, "too short", "too short."]
    assert [one.response.text for one in without_alike(rated, 0.3)] == [a, "too short", "too short."]


def test_an_answer_is_never_its_own_rival():
    assert pairs({"a": (1, 1)}) == []
    assert pairs({"a": (1, 1), "b": (1, 1)}) == []
    assert pairs({"a": (2, 1), "b": (1, 1)}) == [("a", "b")]
    assert pairs({"a": (2, 1), "a ": (1, 1)}) == []


def test_the_longest_chosen_go_until_lengths_are_alike():
    """Chosen minus rejected: 4, 0, 1, 0. Mean 1.25 > 0.5; without the 4 it is 1/3."""
    made = [Pair(SAMPLE, Response("c", "s", words(2 + more)), Response("r", "s", words(2)), 1.0) for more in (4, 0, 1, 0)]
    assert balanced(made, 0.5) == made[1:]
    assert balanced(made[:1], 0.5) == []
    assert balanced([], 0.5) == []


def test_rewards_are_differences_by_the_policy_s_tokens(tmp_path):
    """0.5 (-2 - -6) = 2 over 4 tokens: 0.5 a token. What one model could not score has no reward."""
    for name, told in (("policy", [("a", -2.0, 4), ("b", -1.0, 1)]), ("reference", [("a", -6.0, 5)])):
        rows = [Response(i, "s", "x", logprob=logprob, tokens=n).to_dict() for i, logprob, n in told]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rewards(tmp_path, 0.5) == {"a": (2.0, 0.5)}


def test_bundled_models_label_through_the_job(tmp_path, picture, capsys):
    """tiny-judge, which grew out of tiny-lvlm, as the trained one: scores are means, margins differences of sums."""
    for seed in range(2):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        picture(seed).save(tmp_path / f"pictures/{seed}.png")
    out = tmp_path / "out"
    words = [
        "rlaif",
        "feedback",
        "--images",
        str(tmp_path / "pictures"),
        "--model",
        "tiny-lvlm",
        "--judge",
        "tiny-judge",
        "--out",
        str(out),
    ]
    words += ["--labeller", "implicit", "--device", "cpu", "--set", "candidates={n: 4, temperature: 1, max_tokens: 12}"]
    words += ["--set", "implicit={longer: 9, alike: 1}"]
    assert main(words) == 2
    assert "give `reference`" in capsys.readouterr().err
    assert main([*words, "--reference", "tiny-lvlm"]) == 0
    assert main([*words, "--reference", "tiny-lvlm"]) == 0
    known = rewards(out, 0.1)
    assert {score.subject_id: score.value for score in scores(out)} == {name: pytest.approx(mean) for name, (_, mean) in known.items()}
    assert len(known) == 8
    made = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert made
    for pair in made:
        told = pair["sample"]["meta"]["feedback"]
        assert pair["margin"] == pytest.approx(known[told["chosen_id"]][0] - known[told["rejected_id"]][0])
    assert (out / "feedback.html").is_file()
    assert not (out / "judged.jsonl").exists()

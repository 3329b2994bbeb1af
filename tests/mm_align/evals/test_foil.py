"""FOIL: VALSE's numbers on its example, ties, items that do not count, and logits that cannot be read."""

import json

import pytest

from mm_align.evals import build_benchmark, score


def test_the_example_gives_upstream_s_numbers(example, published_data, said):
    folder = example("foil/dev_ties")
    expected = json.loads((folder / "expected.json").read_text())
    for responses in (folder, folder / "scores.json"):
        found = said("foil", responses=responses, data=published_data("foil_valse"))
        assert found["results"] == expected["printed"]
        assert [str(n) for n in found["raw"]["counted"]] == expected["counted"]
    assert found["printed"][0] == "foil_it sample 853/1000."


def items(folder, votes):
    made = {f"i{n}": {"image_file": "a.jpg", "caption": "c", "foil": "f", "mturk": {"caption": vote}} for n, vote in enumerate(votes)}
    (folder / "foil-it.json").write_text(json.dumps(made))
    return str(folder)


def test_by_hand(tmp_path):
    """i0: both right and ranked. i1: caption not fitting at a tie, foil detected at... equal logits: dropped. i2: one vote: does not
    count. i3: caption wrong, foil missed, ranked the right way. Of 2: p_c 50, p_f 50, acc 50, acc_r 100."""
    data = items(tmp_path, (3, 2, 1, 2))
    logits = {"i0": [[0, 1], [1, 0]], "i1": [[0, 1], [2, 2]], "i2": [[0, 1], [1, 0]], "i3": [[2, 1], [0, 0.5]]}
    (tmp_path / "scores.json").write_text(json.dumps(logits))
    found = score("foil", tmp_path, data)
    assert list(found.results.values()) == [50.0, 50.0, 50.0, 100.0]
    assert found.raw["counted"] == [2, 4]


def test_a_tie_of_the_caption_is_no_fit_and_all_dropped_is_guarded(tmp_path):
    data = items(tmp_path, (3,))
    assert score("foil", [{"id": "i0", "answer": [[1, 1], [1, 0]]}], data).results["Caption fits p_c"] == 0
    found = score("foil", [{"id": "i0", "answer": [[0, 1], [1, 1]]}], data)
    assert set(found.results.values()) == {0.0}
    assert "upstream raises ZeroDivisionError" in found.flags[1]


def test_logits_that_are_equal_in_single_precision_tie(tmp_path):
    """As upstream's tensors have them: the second item is dropped."""
    data = items(tmp_path, (3, 3))
    logits = [[0, 1], [0.1, 0.1 + 1e-9]]
    assert score("foil", [{"id": "i0", "answer": [[0, 1], [1, 0]]}, {"id": "i1", "answer": logits}], data).raw["counted"] == [1, 2]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"i1": [[0, 1], [1, 0]]}, "1 of 1 items have no logits, 'i0'"),
        ({"i0": [0, 1]}, "row 1, item 'i0': expected"),
        ([], "logits by item id"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, answer, sentence):
    (tmp_path / "scores.json").write_text(json.dumps(answer))
    with pytest.raises(ValueError, match=sentence):
        score("foil", tmp_path / "scores.json", items(tmp_path, (3,)))


def test_the_packaged_items_are_those_that_count(tmp_path):
    assert len(build_benchmark({"type": "foil"}).samples()) == 2 * 943
    (tmp_path / "foil-it.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is no foil-it\.json"):
        build_benchmark({"type": "foil", "data": str(tmp_path)}).samples()

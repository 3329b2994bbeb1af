"""CCEval: upstream's numbers on its example, how a reply is read, rows without objects or replies."""

import json

import pytest

from data_tools.records import Response
from mm_align.evals import build_benchmark, score
from mm_align.evals.cceval import AUTHORS, listed
from mm_align.evals.judges import ModelJudge


@pytest.mark.parametrize("whole", [True, False])
def test_the_example_gives_upstream_s_numbers(example, said, whole):
    folder = example("cceval/dev_made_up")
    expected = json.loads((folder / "expected.json").read_text())
    files = {"data": folder / "gt_objects_by_1_based_row.json", "judge_replies": folder / "judge_replies_by_caption.json"}
    found = said("cceval", responses=folder, data=folder) if whole else said("cceval", responses=folder / "captions.json", **files)
    for block in ("compute_chair_vg", "coverage"):
        assert found["results"][block] == expected[block]
        assert expected[block].items() <= found["results"].items()


@pytest.mark.parametrize(
    ("reply", "names"),
    [("['a', 'b']", ["a", "b"]), ("x = []", [""]), ("none", []), ("[a] and [b]", ["a"]), ("['a',\n'b']", []), ('["a"]', ['"a"'])],
)
def test_how_a_reply_is_read(reply, names):
    assert listed(reply) == names


def case(folder, captions, **replies):
    (folder / "vg_info_100.json").write_text(json.dumps({"1": {"gt_objs": ["cup", "cup", "dog"]}, "2": {"gt_objs": ["man"]}}))
    (folder / "judge_replies.json").write_text(json.dumps(replies))
    (folder / "captions.json").write_text(json.dumps([{"image_id": 9, "text": text} for text in captions]))
    return folder


def test_by_hand(tmp_path):
    """Row 1: cup, cat and [sky]: 2 named, 3 together, cat invented. Row 2: nothing named ("[]" is one empty name), none invented.
    CHAIRs 1/2; CHAIRi 1/(3 + 1); CHAIRi_n 1/(2 + 1). Truth: 2 + 1 distinct; dog and man uncovered: Coveri 1/3."""
    replies = {"obj": {"a b [sky]": "[cup, cat, cup]", "b": "[]"}, "hall": {"a b [sky]": "[cat]", "b": "[]"}}
    folder = case(tmp_path, ["a b [sky]", "b"], **replies, unc={"a b [sky]": "[dog]", "b": "[man]"})
    found = score("cceval", folder).results
    assert (found["CHAIRs"], found["CHAIRi"], found["CHAIRi_n"]) == (0.5, 0.25, 1 / 3)
    assert (found["Coveri"], found["Uncovers"], found["avg cap objects"]) == (pytest.approx(1 / 3), 1, 2)
    (tmp_path / "judge_replies.json").write_text(json.dumps(replies))
    without = score("cceval", folder)
    assert "Coveri" not in without.results
    assert "coverage is left out" in without.flags[0]


def test_what_cannot_be_scored_is_named(tmp_path):
    with pytest.raises(ValueError, match="no reply for 'hall/1'"):
        score("cceval", case(tmp_path, ["a"], obj={"a": "[]"}, hall={}))
    replies = {"obj": {"a": "[]"}, "hall": {"a": "[]"}}
    with pytest.raises(ValueError, match="row 3: there are no objects for row 3"):
        score("cceval", case(tmp_path, ["a", "a", "a"], **replies))
    with pytest.raises(ValueError, match="row 1: the caption is None"):
        score("cceval", case(tmp_path, [None], **replies))
    case(tmp_path, ["a"], **replies)
    (tmp_path / "vg_info_100.json").unlink()
    with pytest.raises(ValueError, match=r"no vg_info_100\.json"):
        score("cceval", tmp_path)


def test_a_live_judge_is_asked_three_times_in_our_words_or_the_authors(tmp_path):
    """It answers with objects a and b, of which b is invented, and c uncovered; its first reply on objects has no list."""
    asked = []

    def generate(samples, sampling):
        texts = [sample.messages[0].parts[0].text for sample in samples]
        asked.extend(texts)
        replies = {"Descr": "objects = ['a', 'b']" if sampling.temperature else "well", "In th": "[b]", "Named": "uncover = ['c']"}
        return [Response("r", s.id, next(v for k, v in replies.items() if f"\n\n{k}" in t)) for s, t in zip(samples, texts, strict=True)]

    (tmp_path / "vg_info_100.json").write_text(json.dumps({"1": {"gt_objs": ["a", "c", "c"]}}))
    benchmark = build_benchmark({"type": "cceval", "data": str(tmp_path)})
    benchmark.judge = ModelJudge(generate, {"model": "m"}, tmp_path / "ledger.jsonl")
    found = benchmark.report(benchmark.answers({"1": Response("r", "1", "a and b")}))
    assert (found.results["CHAIRi"], found.results["Coveri"]) == (0.5, 0.5)
    assert asked[-2].endswith("In the picture: ['a', 'c', 'c']\nNamed: ['a', 'b']\n")
    assert asked[-1].endswith("Named: ['a', 'b']\nIn the picture: ['a', 'c']\n")
    assert any("this project's wording" in flag for flag in found.flags)
    assert len(found.raw["judge"]["prompts_sha256"]) == 3
    for name in AUTHORS.values():
        (tmp_path / name).write_text("theirs\n\nNamed")
    theirs = build_benchmark({"type": "cceval", "data": str(tmp_path), "prompt": str(tmp_path)})
    theirs.judge = benchmark.judge
    assert theirs.report(theirs.answers({"1": Response("r", "1", "a")})).flags == ()
    assert asked[-1] == "theirs\n\nNamed"

"""HallusionBench: upstream's numbers on the example and on made-up verdicts, each flavor, a judge, and files that have no score."""

import json

import pytest

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import score
from mm_align.evals.hallusionbench import CODES, KEY, PARTS, HallusionBenchmark, code_of
from mm_align.evals.hallusionbench_rules import Row, grid, needs_same, whose
from mm_align.evals.judges import ModelJudge

QUESTIONS = list(HallusionBenchmark().questions.values())
ANSWERS = ("Yes", "No", "yes.", "**Yes**", "no, it is", "maybe")


@pytest.mark.parametrize("whole", [True, False])
def test_the_example_gives_upstream_s_numbers(example, published_data, said, whole):
    folder = example("hallusionbench/dev_seeded")
    expected = json.loads((folder / "expected.json").read_text())
    responses, data = (folder, folder) if whole else (folder / "judged.jsonl", published_data("hallusionbench"))
    found = said("hallusionbench", responses=responses, data=data)
    assert found["results"] == expected["evaluation_py"]
    assert found["flags"] == []
    assert found["raw"]["yes_ratio_stats"] == expected["yes_ratio_stats"]
    for part, told in expected["counts"].items():
        assert part == "per_category" or told.items() - {("note", told.get("note"))} <= found["raw"]["counts"][part].items()
    assert said("hallusionbench", responses=responses, data=data, flavor="lmms-eval")["results"] == expected["lmms_eval_image_split_951"]


def judged(pattern: str, every: int = 1) -> list[dict]:
    """Upstream's questions with made-up verdicts; of the figures behind the first those of each `every`th row."""
    rows = [
        {**row, "model_prediction": "x", CODES[1]: pattern[i * i // 3 % len(pattern)], "same": str(i // 2 % 2)}
        for i, row in enumerate(QUESTIONS)
    ]
    return [row for i, row in enumerate(rows) if row["figure_id"] == "0" or i % every == 0]


ACCURACIES = {
    ("01112", 1): [34.9451, 34.9711, 59.5604, 61.3953, 66.6076],
    ("011121", 3): [45.0549, 40.7643, 59.1209, 55.7471, 61.3043],
    ("2", 1): [0.0, 0.0, 1.7582, 0.0, 15.7662],
    ("0", 1): [0.0, 0.0, 0.0, 0.0, 0.0],
}
TESTS = {
    ("01112", 1): [0.04871567759078832, 0.5729442970822282, 34.9711, 54.6243, 10.4046, 28.382, 57.5597, 14.0584],
    ("011121", 3): [0.050724637681159424, 0.5655430711610487, 40.7643, 29.2994, 29.9363, 19.8502, 67.0412, 13.1086],
    ("2", 1): [0.13197519929140833, 0.5783385909568874, 0.0, 0.0, 100.0, 0.0, 100.0, 0.0],
    ("0", 1): [0.14260407440212575, 0.5713020372010629, 0.0, 0.0, 100.0, 31.5323, 52.3472, 16.1205],
}


@pytest.mark.parametrize(("pattern", "every"), ACCURACIES)
def test_made_up_verdicts_give_upstream_s_numbers(tmp_path, pattern, every):
    """As evaluation.py prints for the same lists, which it saves by category."""
    rows = judged(pattern, every)
    for name in ("VD", "VS"):
        saved = [row for row in rows if row["category"] == name]
        (tmp_path / f"hallusion_output_{name.lower()}_model.json").write_text(json.dumps(saved))
    found = score("hallusionbench", tmp_path)
    assert [value for value in found.results.values() if isinstance(value, float)] == [
        *ACCURACIES[pattern, every],
        *TESTS[pattern, every],
    ]
    assert len(found.flags) == (every > 1)


def test_what_upstream_prints():
    found = score("hallusionbench", judged("0"))
    assert found.printed[2] == "Easy Questions: 277(Visual Dependent) + 348(Visual Supplement)"
    assert grid([["", "a bc", "de"], ["GPT Eval", 0.0, 12.5]]) == [
        "+----------+------+------+",
        "|          | a bc |  de  |",
        "+----------+------+------+",
        "| GPT Eval | 0.0  | 12.5 |",
        "+----------+------+------+",
    ]


def test_all_right_divides_by_no_wrong_answer():
    found = score("hallusionbench", judged("1"))
    assert found.results["Acc per question (aAcc)"] == 100
    assert (found.results["Yes/No Bias (FP Ratio)"], found.results["LH"]) == (0.0, 0.0)
    assert [flag.partition(":")[0] for flag in found.flags] == ["Yes/No Bias (FP Ratio)", "LH", "VI", "Mixed"]


@pytest.mark.parametrize(
    ("category", "figure", "shown", "code", "first", "same", "cause"),
    [
        ("VS", "0", "0", 2, 2, False, ""),
        ("VS", "0", "0", 0, 0, False, "LH"),
        ("VS", "1", "1", 0, 0, True, "LH"),
        ("VS", "1", "1", 0, 0, False, "Mix"),
        ("VS", "1", "1", 2, 0, True, "Mix"),
        ("VS", "1", "1", 0, 2, True, "VI"),
        ("VS", "1", "1", 0, 1, True, "VI"),
        ("VS", "2", "2", 0, 1, True, "LH"),
        ("VS", "2", "2", 0, 1, False, "VI"),
        ("VD", "0", "1", 2, 2, False, "VI"),
        ("VD", "1", "2", 0, 1, True, "Mix"),
        ("VD", "1", "2", 0, 1, False, "VI"),
        ("VD", "1", "2", 0, 0, True, "VI"),
        ("VD", "1", "2", 1, 0, True, ""),
    ],
)
def test_whose_an_error_is(category, figure, shown, code, first, same, cause):
    """The cases of upstream's get_eval_pair_all."""
    row = Row((category, "map", "0", figure, "0"), shown, True, code, same)
    assert whose(row, first) == cause
    assert needs_same(row, first) or whose(row._replace(same=not same), first) == cause


def test_lmms_eval_takes_questions_with_an_image():
    """Its figures for the verdicts of the first row of numbers above; the others are 178 rows without a picture."""
    found = score("hallusionbench", judged("01112"), flavor="lmms-eval")
    assert found.results == {"n": 951, "aAcc": 66.7718, "fAcc": 34.9711, "qAcc": 41.7582}
    assert found.flags == ()


@pytest.mark.parametrize("sheet", [True, False])
def test_vlmevalkit_reads_words_and_mixes_categories(sheet):
    """VLMEvalKit's figures for these answers; an unknown answer is wrong, ocr of both categories is one."""
    told = [ANSWERS[i * i // 3 % 6] for i in range(len(QUESTIONS))]
    names = [[row[name] for name in ("category", "subcategory", "visual_input", "set_id", "figure_id", "question_id")] for row in QUESTIONS]
    rows = [{"index": "_".join(name), "answer": "truth", "prediction": text} for name, text in zip(names, told, strict=True)]
    plain = [{"prediction": text} for text in told]
    found = score("hallusionbench", rows if sheet else plain, flavor="vlmevalkit").results
    assert [found[name] for name in ("aAcc", "fAcc", "qAcc")] == [28.520814880425156, 5.319148936170213, 3.263403263403263]
    assert list(found["ocr"].values()) == [32.35294117647059, 3.6363636363636362, 2.272727272727273]


@pytest.mark.parametrize(
    ("reply", "code"), [("Incorrect.", 0), ("not incorrect", 0), ("CORRECT", 1), ("It is not correct", 1), ("unclear", 2), ("", 2)]
)
def test_how_a_verdict_is_read(reply, code):
    assert code_of(reply) == code


def test_a_live_judge_is_asked_whether_answers_are_right_and_where_it_matters_whether_they_are_the_same(tmp_path):
    """Two questions about figure 0 (right, wrong) and their like about figure 1 (both wrong): `same` is asked of both."""
    asked = []

    def generate(samples, sampling):
        prompts = [sample.messages[0].parts[0].text for sample in samples]
        asked.extend(prompts)
        replies = ["not the same" if "response2: " in p else "correct" if "answer:good" in p else "incorrect" for p in prompts]
        return [Response("r", sample.id, reply) for sample, reply in zip(samples, replies, strict=True)]

    def rows(*texts):
        chosen = [row for row in QUESTIONS if (row["category"], row["subcategory"], row["set_id"]) == ("VD", "illusion", "0")]
        keys = [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
        by_key = {(row["figure_id"], row["question_id"]): row for row in chosen}
        return [{**by_key[key], "model_prediction": text} for key, text in zip(keys, texts, strict=True)]

    benchmark = HallusionBenchmark()
    benchmark.judge = ModelJudge(generate, {"model": "m"}, tmp_path / "ledger.jsonl")
    found = benchmark.report(benchmark.read(rows("good", "bad", "worse", "bad")))
    assert [row.score for row in found.items] == [1, 0, 0, 0]
    assert asked[0].startswith("Imagine you are an intelligent teacher. Thoroughly read the question, reference answer")
    assert asked[-1].endswith("response1:worse\nresponse2: good\nOutput:")
    assert found.raw["counts"]["pair"]["Mix_cg"] == 1  # "not the same" contains same
    assert found.raw["judge"]["asked"] == 5
    again = score("hallusionbench", rows("good", "bad", "worse", "bad"), judge_replies=str(tmp_path / "ledger.jsonl"))
    assert again.results == found.results


def change(at: int, **fields: object) -> list[dict]:
    rows = judged("01112")
    rows[at] = {key: value for key, value in {**rows[at], **fields}.items() if value != "gone"}
    return rows


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (change(3, gpt4v_output_gpt_check="3"), "row 4: `gpt4v_output_gpt_check` is '3'; expected 0 (wrong)"),
        (change(3, gpt4v_output_gpt_check="gone"), "row 4: `gpt4v_output_gpt_check` is None"),
        (change(3, set_id="99"), "row 4 answers question VS_chart_99_0_3, which is not in HallusionBench.json"),
        ([*judged("1"), judged("1")[2]], "rows 3 and 1130 both answer question VS_chart_0_0_2"),
        ([row for row in judged("1") if row["figure_id"] != "0"], "VD_illusion_0_0_0, the same question about figure 0"),
        ([], "holds no answers"),
        ([{"model_prediction": "yes"}] * 3, "row 1 does not tell its question (category"),
        ([{**{name: row[name] for name in PARTS}, CODES[0]: "0"} for row in QUESTIONS], "has no flag `same`"),
        ([{**row, "model_prediction": None} for row in QUESTIONS], "row 539: the answer is None"),
        ([{**row, "model_prediction": "yes"} for row in QUESTIONS], "judged by a model: give its replies"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, capsys, rows, told):
    (tmp_path / "answers.json").write_text(json.dumps(rows))
    assert main(["score", "hallusionbench", "--responses", str(tmp_path / "answers.json")]) == 2
    assert told in capsys.readouterr().err


def test_rows_named_by_a_list_are_those_named_by_fields():
    rows = judged("01112")
    short = [{KEY: [row[name] for name in PARTS], "correctness": row[CODES[1]], "same": row["same"]} for row in rows]
    assert score("hallusionbench", short).results == score("hallusionbench", rows).results

"""HallusionBench (Guan et al. 2024, arXiv 2310.14566): yes/no questions about figures and their edited twins, judged by a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import TEXTS, Answer, Answers, as_answers, parse_json, read_rows
from .base import Judged
from .extraction import vlmevalkit_yes_no
from .hallusionbench_rules import FIGURES, LANGUAGE, RIGHT, UNCERTAIN, VISION, WRONG, Row, needs_same
from .judged import JudgedBenchmark, Prompt
from .judges import JudgeCall
from .official import Flavor, Scored, rows_of
from .sources import Published, published

QUESTIONS = Published(
    "HallusionBench.json",
    "ca6e0fb677dd56e5fb0e2700d06c58d01f8a6ae66e0f1773b2ac48c0a095d051",
    "https://github.com/tianyi-lab/HallusionBench (BSD-3; images: its hallusion_bench.zip)",
)
KEY = "key_category_subcategory_set_figure_question"
PARTS = ("category", "subcategory", "set_id", "figure_id", "question_id")
CODES = ("correctness", "gpt4v_output_gpt_check")  # fields that hold a verdict: 0 wrong, 1 right, 2 uncertain
SAVED = (("hallusion_output_vd_model.json", "hallusion_output_vs_model.json"), ("judged.jsonl",), ("HallusionBench_result.json",))
Key = tuple[str, str, str, str, str]


class HallusionBenchmark(JudgedBenchmark):
    """Answers to 1,129 questions, with a judge's verdicts or with a judge.

    Responses: the lists that upstream's script saves (hallusion_output_vd_model.json and ..._vs_model.json, or their folder: question
    fields, model_prediction, gpt4v_output_gpt_check, same); rows of `key_category_subcategory_set_figure_question`, correctness (0 wrong,
    1 right, 2 uncertain), same (0 or 1) and model_prediction; lmms-eval's logs; VLMEvalKit's sheets, whose index ends in set, figure and
    question; answers in the order of the questions. Where no row has a verdict, a judge is asked, whether the answer is right (topic
    `correctness`) and, where it matters, whether it is the one about figure 0 (`same`); replies may be filed under VD_chart_0_1_2.
    data: HallusionBench.json, which is packaged. images: the folder hallusion_bench, with VD and VS in it.

    A reply that contains "incorrect" is wrong, else "correct" right, else uncertain; "same" is the same, all else is not. Flavors:
    `official`; `lmms-eval`, the questions with an image only; `vlmevalkit`, yes or no by the answer's words, which needs no judge.
    """

    name = "hallusionbench"
    main = "Acc per question (aAcc)"
    lower = frozenset(("Yes/No Bias (FP Ratio)", "Consistency Test (inconsistent)", "Consistency Test (wrong)", LANGUAGE, VISION, "Mixed"))
    needs = "hallusion_bench.zip (images), a judge"
    sampling = Sampling(max_tokens=128)
    items_scale = 100.0
    flavors = {
        "official": Flavor("tianyi-lab/HallusionBench 744007c evaluation.py"),
        "lmms-eval": Flavor("lmms-eval 75571cf tasks/hallusion_bench/evaluate_hb.py, split image"),
        "vlmevalkit": Flavor("VLMEvalKit e8e78f0 dataset/utils/yorn.py, Hallusion_rating, exact matching"),
    }

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, judge_replies=judge_replies, images=images, limit=limit)
        self.items_metric = self.main if self.flavor == "official" else "aAcc"

    # -- asking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def questions(self) -> dict[Key, dict[str, Any]]:
        """By key, in the order of the file. ValueError for a file of something else."""
        rows = parse_json(published(self.name, QUESTIONS, self.data, self.flags), self.data or QUESTIONS.name)
        keys = [_own_key(row) if isinstance(row, dict) else None for row in rows] if isinstance(rows, list) else [None]
        if None in keys:
            raise ValueError(f"{self.data} is no question file: row {keys.index(None) + 1} lacks one of {', '.join(PARTS)}")
        return dict(list(zip(keys, rows, strict=True))[: self.limit])  # type: ignore[arg-type]

    def samples(self) -> list[Sample]:
        return [self._sample("_".join(key), row) for key, row in self.questions.items()]

    def _sample(self, name: str, row: Mapping[str, Any]) -> Sample:
        """A question without a figure is asked without one."""
        pictures = (Image(path=str(Path(self.images or ".") / row["filename"])),) if row["filename"] else ()
        asked = (*(Part("image") for _ in pictures), Part("text", row["question"]))
        return Sample(name, (Message("user", asked),), pictures, meta={"id": name, **row})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [row.meta for row in rows], text="model_prediction")

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        texts = ("model_prediction", *TEXTS, *CODES)
        if not isinstance(responses, str | Path):
            return as_answers(responses, texts=texts)
        paths = _in_folder(Path(responses))
        self.beside = str(paths[0].parent)
        shapes, rows = zip(*map(read_rows, paths), strict=True)
        names = ", ".join(path.name for path in paths)
        return as_answers([row for of in rows for row in of], f"{names}: {shapes[0]}", texts=texts)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        placed = self._placed(answers)
        pictured = {key for key, row in self.questions.items() if row["filename"]}
        asked = set(self.questions) if self.flavor == "official" else pictured
        if missing := asked - set(placed):
            flags.append(f"{len(missing)} of {len(asked)} questions have no answer and are left out, as upstream does")
        if self.flavor == "lmms-eval":
            placed = {key: answer for key, answer in placed.items() if key in pictured}
        if not placed:
            raise ValueError("there are no answers to questions with an image")
        rows = self._rows(placed, flags)
        results, raw, printed = FIGURES[self.flavor](rows, flags)
        raw = {**raw, "judge": self.judging} if self.judging else raw
        items = tuple(Judged("_".join(row.key), float(row.right), row.category) for row in rows)
        return self.scored(len(rows), results, flags=flags, raw=raw, printed=tuple(printed), items=items)

    def _placed(self, answers: Answers) -> dict[Key, Answer]:
        """The answers by question. ValueError for one to no question, and for two to one question."""
        found: dict[Key, Answer] = {}
        for answer in answers.rows:
            key = key_of(answer.fields) or self._by_place(answer, len(answers.rows))
            if key not in self.questions:
                raise ValueError(f"row {answer.row} answers question {'_'.join(key)}, which is not in {QUESTIONS.name}")
            if key in found:
                raise ValueError(f"rows {found[key].row} and {answer.row} both answer question {'_'.join(key)}")
            found[key] = answer
        return found

    def _by_place(self, answer: Answer, n: int) -> Key:
        if n != len(self.questions):
            told = f"row {answer.row} does not tell its question ({', '.join(PARTS)})"
            raise ValueError(f"{told}, and there are {n} rows for {len(self.questions)} questions")
        return list(self.questions)[answer.row - 1]

    # -- verdicts ----------------------------------------------------------------------------------------------------------

    def _rows(self, placed: Mapping[Key, Answer], flags: list[str]) -> list[Row]:
        """Judged answers, the visual-dependent questions first, as upstream puts them."""
        order = sorted(placed, key=lambda key: key[0])
        codes, same = self._verdicts({key: placed[key] for key in order}, flags)
        return [self._row(key, codes[key], same.get(key, False)) for key in order]

    def _row(self, key: Key, code: int, same: bool) -> Row:
        question = self.questions[key]
        return Row(key, str(question["visual_input"]), str(question["gt_answer"]) == "1", code, same)

    def _verdicts(self, placed: Mapping[Key, Answer], flags: list[str]) -> tuple[dict[Key, int], dict[Key, bool]]:
        """Codes, and for the questions for which it matters whether the answer is the one about figure 0."""
        if self.flavor == "vlmevalkit":
            return {key: self._says_so(key, answer) for key, answer in placed.items()}, {}
        field = next((name for name in CODES if any(name in answer.fields for answer in placed.values())), None)
        codes = self._judged(placed, flags) if field is None else {key: _code(answer, field) for key, answer in placed.items()}
        if self.flavor == "lmms-eval":
            return codes, {}
        return codes, self._same(placed, codes)

    def _says_so(self, key: Key, answer: Answer) -> int:
        """By the words of the answer: one that cannot be told is wrong, also where there is no figure."""
        truth = "Yes" if str(self.questions[key]["gt_answer"]) == "1" else "No"
        return RIGHT if vlmevalkit_yes_no(str(answer.text)) == truth else WRONG

    def _judged(self, placed: Mapping[Key, Answer], flags: list[str]) -> dict[Key, int]:
        prompt = Prompt(self.name, "prompt_correctness.txt")
        calls = [self._call(key, answer, prompt) for key, answer in placed.items()]
        replies = [said[0] if said else "" for said in self.ask(calls, lambda reply: True)]
        if vague := sum(code_of(reply) == UNCERTAIN and "unclear" not in reply.lower() for reply in replies):
            flags.append(f"{vague} replies say none of correct, incorrect and unclear and count as uncertain, as upstream does")
        return {key: code_of(reply) for key, reply in zip(placed, replies, strict=True)}

    def _call(self, key: Key, answer: Answer, prompt: Prompt) -> JudgeCall:
        question, said = self.questions[key], _text(answer)
        fields = {"question": question["question"], "gt_answer_details": question["gt_answer_details"], "model_prediction": said}
        return JudgeCall("_".join(key), prompt.filled(fields), "correctness", said)

    def _same(self, placed: Mapping[Key, Answer], codes: Mapping[Key, int]) -> dict[Key, bool]:
        """By the rows' flag, else by the judge. ValueError where there is neither."""
        first = {key: _first(key, placed) for key in placed}
        wanted = {key: answer for key, answer in placed.items() if needs_same(self._row(key, codes[key], False), codes[first[key]])}
        lacking = [key for key, answer in wanted.items() if "same" not in answer.fields]
        if lacking and not self.judging and self.chosen_judge() is None:
            told = "has no flag `same`, whether it says what the answer about figure 0 says"
            raise ValueError(f"row {placed[lacking[0]].row} {told}, and there is no judge to ask")
        asked = self._judged_same([(key, _text(placed[key]), _text(placed[first[key]])) for key in lacking])
        return {key: asked[key] if key in asked else str(answer.fields["same"]) == "1" for key, answer in wanted.items()}

    def _judged_same(self, lacking: Sequence[tuple[Key, str, str]]) -> dict[Key, bool]:
        """Of (question, its answer, the answer about figure 0)."""
        if not lacking:
            return {}
        prompt = Prompt(self.name, "prompt_same.txt")
        calls = [JudgeCall("_".join(key), prompt.filled({"response1": one, "response2": two}), "same", one) for key, one, two in lacking]
        replies = self.ask(calls, lambda reply: True)
        return {key: bool(said) and "same" in said[0].lower() for (key, *_), said in zip(lacking, replies, strict=True)}


# -- upstream's rules --------------------------------------------------------------------------------------------------


def code_of(reply: str) -> int:
    """A reply's verdict: "not incorrect" is `WRONG`, "not correct" is `RIGHT`."""
    said = reply.lower()
    return WRONG if "incorrect" in said else RIGHT if "correct" in said else UNCERTAIN


# -- response files ------------------------------------------------------------------------------------------------------


def key_of(fields: Mapping[str, Any]) -> Key | None:
    """A row's question: named by a list, by fields, or by VLMEvalKit's index, whose third part plays no role. None for none."""
    named = fields.get(KEY)
    if isinstance(named, list) and len(named) == len(PARTS):
        return _key(named)
    parts = str(fields.get("index", "")).split("_")
    return _own_key(fields) or (_key([*parts[:2], *parts[3:]]) if len(parts) == len(PARTS) + 1 else None)


def _own_key(fields: Mapping[str, Any]) -> Key | None:
    return _key([fields[name] for name in PARTS]) if fields.keys() >= set(PARTS) else None


def _key(parts: Sequence[Any]) -> Key:
    category, subcategory, of_set, figure, question = map(str, parts)
    return category, subcategory, of_set, figure, question


def _first(key: Key, placed: Mapping[Key, Answer]) -> Key:
    """The same question about figure 0. ValueError where it has no answer."""
    first = (*key[:3], "0", key[4])
    if first not in placed:
        told = f"there is no answer to {'_'.join(first)}, the same question about figure 0"
        raise ValueError(f"row {placed[key].row}: {told}; upstream stops with KeyError")
    return first


def _code(answer: Answer, field: str) -> int:
    said = str(answer.fields.get(field)).removesuffix(".0")  # a number's, where a table made it one
    code = next((code for code in (WRONG, RIGHT, UNCERTAIN) if said == str(code)), None)
    if code is None:
        raise ValueError(f"row {answer.row}: `{field}` is {answer.fields.get(field)!r}; expected 0 (wrong), 1 (right) or 2 (uncertain)")
    return code


def _text(answer: Answer) -> str:
    if not isinstance(answer.text, str):
        raise ValueError(f"row {answer.row}: the answer is {answer.text!r}; expected a text")
    return answer.text


def _in_folder(path: Path) -> list[Path]:
    """The saved lists of a folder, else its only file of answers. ValueError for none or several."""
    if not path.is_dir():
        return [path]
    for names in SAVED:
        if all((path / name).is_file() for name in names):
            return [path / name for name in names]
    others = [one for one in sorted(path.iterdir()) if one.suffix in (".json", ".jsonl", ".xlsx", ".tsv") and _holds_answers(one.name)]
    if len(others) != 1:
        raise ValueError(f"{path} should hold one file of answers; found {', '.join(one.name for one in others) or 'none'}")
    return others


def _holds_answers(name: str) -> bool:
    return name not in ("expected.json", QUESTIONS.name) and "replies" not in name

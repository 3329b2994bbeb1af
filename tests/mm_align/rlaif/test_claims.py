"""Claims and questions by a model: long lists, lists that do not end, missing and shifted lines, the reference code's defects."""

import json

import pytest

from data_tools.records import Claim, Message, Part, Response, Sample
from mm_align.rlaif.claims import Claims, claims_stage
from mm_align.rlaif.questions import Questions, questions_stage


class Writes:
    """Answers each prompt with `reply(text)`, of which `limit` words are written at most."""

    def __init__(self, reply, limit=10_000):
        self.reply, self.limit = reply, limit
        self.prompts = []

    def __call__(self, samples, sampling):
        return [self.answer(sample, sampling) for sample in samples]

    def answer(self, sample, sampling):
        text = sample.messages[0].parts[0].text
        self.prompts.append(text)
        words = self.reply(text).split(" ")
        limit = min(self.limit, sampling.max_tokens)
        return Response("x", sample.id, " ".join(words[:limit]), truncated=len(words) > limit)


def answer_in(prompt):
    return prompt.partition("Answer: ")[2].partition("\n\nFacts:")[0]


def a_line_a_sentence(prompt):
    return "\n".join(f"- {part.strip()}." for part in answer_in(prompt).split(".") if part.strip())


@pytest.fixture
def divide(tmp_path):
    """A function: the claims that a model finds in answers, or why an answer leaves."""

    def work(answers, reply, limit=10_000, **options):
        prompt = Sample("p", (Message("user", (Part("text", "What is  there?"),)),))
        (tmp_path / "samples.jsonl").write_text(json.dumps(prompt.to_dict()) + "\n")
        rows = [Response(f"p:{j}", "p", text).to_dict() for j, text in enumerate(answers)]
        (tmp_path / "candidates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        model = Writes(reply, limit)
        stage = claims_stage(tmp_path, Claims(splitter="llm", **options), model, {"model": "m"})
        done = stage.work([unit.item for unit in stage.units()])
        return [[row["text"] for row in one.rows] or [gone.reason for gone in one.gone] for one in done], model.prompts

    return work


def test_a_list_becomes_claims(divide):
    found, prompts = divide(["A dog is black. It rains.", ""], a_line_a_sentence)
    assert found == [["A dog is black.", "It rains."], []]
    assert len(prompts) == 1
    assert "Question: What is there?\nAnswer: A dog is black. It rains.\n" in prompts[0]


def test_an_answer_that_states_nothing_has_no_claim(divide):
    assert divide(["I cannot tell."], lambda _: "")[0] == [[]]


def test_a_list_that_does_not_end_is_asked_for_in_parts(divide):
    """Ten sentences make ten lines; in 8 words two of them end: 10 -> 5 + 5 -> 2 + 3 each -> 1 + 2 of the threes."""
    answer = " ".join(f"Dog {n} barks." for n in range(10))
    found, prompts = divide([answer, "A cat sits."], a_line_a_sentence, limit=8)
    assert found == [[f"Dog {n} barks." for n in range(10)], ["A cat sits."]]
    assert len(prompts) > 4


def test_a_sentence_whose_list_never_ends_leaves_with_its_answer(divide):
    loop = " ".join(["- again"] * 100)
    found, _ = divide(["A dog. A cat.", "A cow."], lambda prompt: loop if "dog" in prompt else "- A cow.", limit=20)
    assert found == [["split_failed"], ["A cow."]]


def test_300_words_of_the_prompt_are_seen_where_asked(divide):
    answer = " ".join(f"Dog {n} barks." for n in range(150))
    whole, prompts = divide([answer], a_line_a_sentence)
    assert len(whole[0]) == 150
    cut, prompts = divide([answer], a_line_a_sentence, cut_300_words=True)
    assert len(prompts[0].split(" ")) == 300
    assert len(cut[0]) < 100


def test_256_tokens_are_written_where_asked(divide):
    """A line of `- Dog 1 barks.` has three words beside the one that the newline joins: 256 words hold 85 lines or so."""
    answer = " ".join(f"Dog {n} barks." for n in range(150))
    found, prompts = divide([answer], a_line_a_sentence, cap_256_tokens=True)
    assert len(prompts) == 1
    assert 80 <= len(found[0]) <= 90


def test_the_first_character_goes_where_asked(divide):
    reply = "### Facts:\n- A dog.\nA cat.\n1. A cow.\n\n"
    assert divide(["x y z."], lambda _: reply)[0] == [["A dog. A cat.", "A cow."]]
    assert divide(["x y z."], lambda _: reply, first_character_parser=True)[0] == [["A dog.", "cat.", ". A cow."]]


# Questions


@pytest.fixture
def ask(tmp_path):
    """A function: the questions that a model writes for the claims of one answer, or why it leaves."""

    def work(claims, reply, limit=10_000, **options):
        rows = [Claim("p:0", index, text).to_dict() for index, text in enumerate(claims)]
        (tmp_path / "claims.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        model = Writes(reply, limit)
        stage = questions_stage(tmp_path, Questions(writer="llm", ending="", **options), model, {"model": "m"})
        (done,) = stage.work([unit.item for unit in stage.units()])
        return [row["question"] for row in done.rows] or [gone.reason for gone in done.gone], model.prompts

    return work


def numbered(prompt):
    """`1. Dogs bark.` -> `1. Do we agree: Dogs bark?`"""
    lines = [line for line in prompt.splitlines() if line[:1].isdigit()]
    return "\n".join(line.rstrip(".").replace(". ", ". Right: ", 1) + "?" for line in lines)


def test_questions_are_found_by_number(ask):
    found, prompts = ask(["A dog.", "A cat."], lambda p: "Here you are:\n2) Is it a cat?\n1) Is it a dog?" if "A dog" in p else "")
    assert found == ["Is it a dog?", "Is it a cat?"]
    assert len(prompts) == 1


def test_equal_claims_keep_their_questions(ask):
    assert ask(["A dog.", "A dog."], numbered)[0] == ["Right: A dog?", "Right: A dog?"]


def test_many_claims_are_asked_about_in_parts(ask):
    claims = [f"Dog {n}." for n in range(45)]
    found, prompts = ask(claims, numbered)
    assert found == [f"Right: Dog {n}?" for n in range(45)]
    assert len(prompts) == 3


def test_what_a_list_lacks_is_asked_for_by_itself_and_then_written_by_rule(ask):
    """The list is cut in its third line; the third claim is then asked for alone, and the fourth, which the model never writes, by rule."""

    def reply(prompt):
        return "1. One?\n2. Two?\n3. Thr ee?" if "1. A dog" in prompt else "1. Three?" if "a cow" in prompt else "no idea"

    found, prompts = ask(["A dog.", "A cat.", "There is a cow.", "There is an owl."], reply, limit=4)
    assert found == ["One?", "Two?", "Three?", "Is there an owl?"]
    assert len(prompts) == 3


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("- One?\n- Two?\n- Three?", ["One?", "Two?"]),  # a shifted list goes unnoticed
        ("- One?", ["question_count"]),
        ("One?\n- Two?", ["ne?", "Two?"]),
    ],
)
def test_questions_by_order_where_asked(ask, reply, found):
    assert ask(["A dog.", "A cat."], lambda _: reply, by_order=True, first_character_parser=True)[0] == found


def test_256_tokens_of_questions_where_asked(ask):
    claims = [f"There is dog {n}." for n in range(100)]
    assert ask(claims, numbered, by_order=True, cap_256_tokens=True)[0] == ["question_count"]
    assert len(ask(claims, numbered, by_order=True)[0]) == 100

"""Replies of every kind and the status each gets."""

import json
import time

import pytest

from data_tools.aitqe import ASPECTS, Reply, parse, render

FULL = {
    "Recaption": 'A red circle beside a sign that says "STOP".',
    "Overall Score": "2<Overall>",
    "Overall Explanation": "The caption names a dog.",
    "Text Quality Score": 3,
    "Text Quality Explanation": "Short.",
    "Image-Text Matching Score": 2,
    "Image-Text Matching Explanation": "No dog.",
    "Object Detail Score": 2,
    "Object Detail Explanation": "No colour.",
    "Semantic Understanding Score": 2,
    "Semantic Understanding Explanation": "None.",
    "Text/Chart Description Score": 2,
    "Text/Chart Description Explanation": "The sign is missed.",
}
KEEP = {key: value for key, value in FULL.items() if key != "Recaption"}


def test_whole_answer():
    reply = parse(json.dumps(FULL))
    assert (reply.status, reply.recaption, reply.overall, reply.flags) == ("ok", FULL["Recaption"], 2.0, ())
    assert reply.scores == {
        "text_quality": 3,
        "image_text_matching": 2,
        "object_detail": 2,
        "semantic_understanding": 2,
        "text_chart_description": 2,
    }
    assert reply.explanations["text_chart_description"] == "The sign is missed."
    assert tuple(reply.all_scores()) == ("overall", *ASPECTS)


HEAD = '{"Recaption": "A red circle.", "Overall Score": "2<Overall>'


@pytest.mark.parametrize(
    ("ending", "status", "overall"),
    [
        ('",', "repaired", 2),  # token 21156 of the Qwen vocabulary: the one ending upstream repairs rightly
        ('"', "repaired", 2),  # token 9877
        ("", "repaired", 2),
        ('", "Overall Explan', "repaired", 2),
        ('", "Overall Explanation":', "repaired", 2),
        ('", "Overall Explanation": "x"}', "ok", 2),
        ('", "Overall Explanation": "The capt', "truncated", 2),
        ('", "Overall Explanation": "x", "Text Quality Score": 1', "truncated", 2),
    ],
)
def test_endings(ending, status, overall):
    reply = parse(HEAD + ending)
    assert (reply.status, reply.overall, reply.recaption) == (status, overall, "A red circle.")


def test_a_number_the_text_ends_in_is_not_trusted():
    assert "text_quality" not in parse(HEAD + '", "Overall Explanation": "x", "Text Quality Score": 1').scores
    assert parse('{"Overall Score": "1').overall is None


@pytest.mark.parametrize(
    ("text", "status", "flag"),
    [
        ('{"Recaption": "A red cir', "truncated", "cut:recaption"),
        ('{"Overall Score": "1', "truncated", "cut:overall"),
        ('{"Recaption": "A red circle.", "Over', "truncated", None),
        ('{"Recaption": "A red circle.", "Text Quality Score": 3}', "no_score", None),
        ('{"Overall Score": "good"}', "no_score", "unreadable:overall"),
        ('{"foo": 1}', "unparsable", None),
        ('{"Reca', "unparsable", None),
        ("", "unparsable", None),
        ("{", "unparsable", None),
    ],
)
def test_without_a_score(text, status, flag):
    reply = parse(text)
    assert (reply.status, reply.overall) == (status, None)
    assert flag is None or flag in reply.flags
    assert reply.raw == text


def test_every_prefix_of_an_answer_is_read_without_a_wrong_value():
    whole = json.dumps(FULL)
    for length in range(len(whole)):
        reply = parse(whole[:length])
        assert reply.recaption in (None, FULL["Recaption"])
        assert reply.overall in (None, 2.0)
        assert reply.status in ("unparsable", "truncated", "repaired")


def test_half_a_recaption_is_no_recaption():
    assert parse('{"Recaption": "A red cir').recaption is None


STYLES = {
    "fenced": ("```json\n" + json.dumps(FULL, indent=2) + "\n```", "ok", 2.0),
    "prose_first": ("Sure! Here is my evaluation of the caption:\n\n" + json.dumps(KEEP), "ok", 2.0),
    "single_quotes": (str(FULL), "repaired", 2.0),
    "trailing_comma": ('{"Overall Score": 4, "Overall Explanation": "Vague.",}', "repaired", 4.0),
    "truncated": (json.dumps(FULL)[:200], "truncated", 2.0),
    "two_objects": (json.dumps(FULL) + "\n\n" + json.dumps({"Overall Score": 9}), "ok", 2.0),
    "refusal": ("I'm sorry, but I can't help with evaluating this image.", "unparsable", None),
    "another_language": ('{"总体评分": 8, "总体说明": "图片与描述一致。"}', "unparsable", None),
    "floats": ('{"Overall Score": 7.5, "Text Quality Score": 8.0}', "ok", 7.5),
    "n_of_ten": ('{"Overall Score": "7/10", "Text Quality Score": "8 / 10"}', "ok", 7.0),
}


@pytest.mark.parametrize("style", STYLES)
def test_ten_styles_of_general_models(style):
    text, status, overall = STYLES[style]
    reply = parse(text)
    assert (reply.status, reply.overall) == (status, overall)


@pytest.mark.parametrize(
    ("style", "flags"),
    [
        ("fenced", ("text_after", "text_before")),
        ("prose_first", ("text_before",)),
        ("two_objects", ("second_object", "text_after")),
        ("refusal", ()),
        ("n_of_ten", ()),
    ],
)
def test_text_around_the_object_is_flagged(style, flags):
    assert parse(STYLES[style][0]).flags == flags


def test_values_in_another_language_under_the_asked_keys_are_fine():
    reply = parse('{"Overall Score": 8, "Overall Explanation": "图片与描述一致。"}')
    assert (reply.status, reply.explanations) == ("ok", {"overall": "图片与描述一致。"})


@pytest.mark.parametrize(
    "text",
    [
        '{"overall_score": 6, "image text matching": 5}',
        '{"OVERALL": "6", "Image-Text Matching Rating": "5"}',
        '{"Overall Score": 6, "Image-Text Matching": {"score": 5, "explanation": "ok"}}',
        '{"result": {"Overall Score": 6, "Image-Text Matching Score": 5}}',
        "**Overall Score**: 6/10\n- **Image-Text Matching Score**: 5\n",
        "{Overall Score: 6,\n Image-Text Matching Score: 5}",
    ],
)
def test_variants_of_the_keys(text):
    reply = parse(text)
    assert (reply.overall, reply.scores["image_text_matching"]) == (6.0, 5.0)


def test_a_missing_opening_brace():
    reply = parse('"Recaption": "A red circle.", "Overall Score": "2<Overall>", "Overall Explanation": "x"}')
    assert (reply.status, reply.recaption, reply.overall) == ("repaired", "A red circle.", 2.0)


def test_prose_only():
    reply = parse("I would give this caption an overall score of 7/10 since it is vague.")
    assert (reply.status, reply.overall, reply.flags) == ("repaired", 7.0, ("no_object",))


def test_an_inner_score_is_never_taken_for_the_overall_one():
    assert parse('{"Overall": {"reason": "x"}, "Text Quality": {"score": 3}').overall is None


@pytest.mark.parametrize(
    ("value", "overall", "flag"),
    [
        ("9", 9.0, None),
        ('"9<overall>"', 9.0, None),
        ('"**9**"', 9.0, None),
        ('"9 (very good)"', 9.0, None),
        ('"9 out of 10"', 9.0, None),
        ("85", 85.0, "out_of_range:overall"),
        ("0", 0.0, "out_of_range:overall"),
        ('"-3"', -3.0, "out_of_range:overall"),
        ('"4/5"', None, "other_scale:overall"),
        ('"7-8"', None, "unreadable:overall"),
        ('"7,5"', None, "unreadable:overall"),
        ("NaN", None, "unreadable:overall"),
        ("1e999", None, "unreadable:overall"),
        ("true", None, "unreadable:overall"),
        ("[7]", None, "unreadable:overall"),
        ("9" * 5000, None, "unreadable:overall"),
        ("null", None, None),
    ],
)
def test_overall_values(value, overall, flag):
    reply = parse(f'{{"Overall Score": {value}, "Overall Explanation": "x"}}')
    assert reply.overall == overall
    assert reply.flags == (() if flag is None else (flag,))


@pytest.mark.parametrize(
    ("value", "recaption", "flag"),
    [
        ('""', "", None),
        ("null", None, None),
        ('"N/A"', None, "recaption_placeholder"),
        ('"None."', None, "recaption_placeholder"),
        ('["a"]', None, "unreadable:recaption"),
        ('" A dog. "', "A dog.", None),
        ('"bad \\ud800"', "bad \ufffd", None),
    ],
)
def test_recaption_values(value, recaption, flag):
    reply = parse(f'{{"Recaption": {value}, "Overall Score": 5}}')
    assert reply.recaption == recaption
    assert reply.flags == (() if flag is None else (flag,))


def test_render_is_the_learned_format():
    reply = parse(json.dumps(FULL))
    assert render(reply) == json.dumps(FULL)
    assert render(parse(json.dumps(KEEP))) == json.dumps(KEEP)


def test_render_parses_back():
    reply = Reply("ok", 'Say "hi"\\', 7.5, {"object_detail": 10.0}, {"overall": "é\n"})
    again = parse(render(reply))
    assert (again.status, again.recaption, again.overall, again.scores, again.explanations) == (
        "ok", reply.recaption, 7.5, reply.scores, reply.explanations,
    )  # fmt: skip


@pytest.mark.parametrize("reply", [Reply("no_score"), Reply("ok", overall=11.0), Reply("ok", overall=5.0, scores={"object_detail": 0.0})])
def test_render_refuses_what_cannot_be_a_target(reply):
    with pytest.raises(ValueError, match="training target"):
        render(reply)


N = 1_000_000
HOSTILE = {
    "braces": "{" * N,
    "nested": '{"a":' * (N // 5),
    "brackets": '{"a": ' + "[" * N,
    "quotes": '{"Recaption": "' + '"' * N,
    "backslashes": '{"Recaption": "' + "\\" * N,
    "quote_spaces": '{"Recaption": "x' + ('"' + " " * 50) * (N // 51),
    "quote_newlines": '{"Recaption": "x' + ('"\n' + " " * 500 + ",") * (N // 503),
    "spaces": '{"Recaption": "x"' + " " * N,
    "commas": '{"Overall Score": 1' + ", " * (N // 2),
    "digits": '{"Overall Score": ' + "9" * N + "}",
    "dots": '{"Overall Score": "' + "9." * (N // 2) + '"}',
    "lines": "overall score\n" * (N // 14),
    "keyish_lines": ("-" * 12 + "ab " * 14 + '"' * 6 + "\n") * (N // 61),
    "sums": "{'Overall Score': 1" + "+1" * (N // 2) + ", }",
    "minus": "{'Overall Score': 1, 'a': " + "-" * N + "1}",
    "objects": '{"a": 1} ' * (N // 9),
    "parens": "{'Overall Score': 1, 'a': " + "(" * N + "}",
    "megabyte_answer": json.dumps(FULL | {"Overall Explanation": "word " * (N // 5)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_megabytes_are_read_in_linear_time(name):
    start = time.perf_counter()
    reply = parse(HOSTILE[name])
    assert time.perf_counter() - start < 2
    assert reply.status in ("ok", "repaired", "truncated", "no_score", "unparsable")


def test_an_endless_reply_is_flagged():
    reply = parse(HOSTILE["megabyte_answer"])
    assert (reply.status, reply.overall, reply.recaption) == ("truncated", 2.0, FULL["Recaption"])
    assert "reply_cut" in reply.flags

"""The step over signals: a rule drops, an unknown value drops nothing, the costly step sees only what is left."""

from data_tools.filters import FILTERS, FilterStep
from data_tools.filters.rules import parse
from data_tools.records import Sample, Verdict

ROWS = [Sample("a", caption="a red square on white"), Sample("b", caption="short"), Sample("c", caption="two words more")]


def step(then=None, report_only=False, rule="text.words < 3"):
    return FilterStep([FILTERS["text"](("text.words", "text.language"))], [parse(rule)], then, report_only)


def test_a_rule_drops_with_its_text_and_the_values_it_saw():
    kept, dropped, _ = step()(ROWS)
    assert (kept.action, kept.signals) == ("keep", {"text.words": 5, "text.language": "en"})
    assert (dropped.action, dropped.reason) == ("drop", "rule:text.words < 3")
    assert dropped.explanations == {"rule": "text.words = 1"}


def test_what_is_unknown_drops_no_row():
    """The language of one word cannot be told, so neither rule holds for the second row."""
    for rule in ("text.language == 'en'", "not (text.language == 'en')"):
        assert step(rule=rule)(ROWS)[1].action == "keep"


def test_the_costly_step_sees_only_open_rows_and_its_verdicts_bear_the_signals():
    seen = []

    def then(samples):
        seen.extend(s.id for s in samples)
        return [Verdict("rewrite", text="better", flags=("x",)) for _ in samples]

    first, dropped, _ = step(then)(ROWS)
    assert seen == ["a", "c"]
    assert (first.action, first.text, first.signals["text.words"], first.flags) == ("rewrite", "better", 5, ("x",))
    assert dropped.text is None


def test_report_only_flags_and_asks_every_row():
    asked = []
    verdicts = step(lambda rows: asked.extend(rows) or [Verdict("keep")] * len(rows), report_only=True)(ROWS)
    assert [v.action for v in verdicts] == ["keep"] * 3
    assert [v.flags for v in verdicts] == [(), ("rule:text.words < 3",), ()]
    assert len(asked) == 3


class Counting:
    """A filter that asks a model: tells `mlm.x`, and which rows it was asked about."""

    names = ("mlm.x",)
    needs = frozenset({"caption"})

    def __init__(self, values):
        self.values, self.asked = values, []

    def __call__(self, samples):
        self.asked += [s.id for s in samples]
        return [{"mlm.x": self.values[s.id]} for s in samples]


def scoring(scorer, *rules, **more):
    return FilterStep([FILTERS["text"](("text.words",))], [parse(rule) for rule in rules], scorers=[scorer], **more)


def test_a_scorer_is_asked_only_about_rows_that_are_still_open():
    """Row b falls to the cheap rule and is not asked about; c falls to the rule over both, which waits for the scorer."""
    scorer = Counting({"a": 90, "c": 10})
    verdicts = scoring(scorer, "text.words < 2", "text.words < 4 and mlm.x < 50")(ROWS)
    assert scorer.asked == ["a", "c"]
    assert [v.reason for v in verdicts] == ["", "rule:text.words < 2", "rule:text.words < 4 and mlm.x < 50"]
    assert [v.signals["mlm.x"] for v in verdicts] == [90, None, 10]


def test_a_rule_on_the_unknown_waits_until_it_was_asked():
    """Before the scorer spoke, everything is unknown; a rule that drops the unknown must not see that."""
    verdicts = scoring(Counting({"a": 90, "b": None, "c": 10}), "mlm.x is unknown")(ROWS)
    assert [v.action for v in verdicts] == ["keep", "drop", "keep"]


def test_report_only_asks_the_scorer_about_everything():
    scorer = Counting({"a": 1, "b": 2, "c": 3})
    assert [v.signals["mlm.x"] for v in scoring(scorer, "text.words < 2", report_only=True)(ROWS)] == [1, 2, 3]

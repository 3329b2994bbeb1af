"""The contract of rewards, over the table, and the implicit reward by hand."""

import math

import pytest

from data_tools.records import Response, Sample
from mm_align.rewards import REWARDS, ImplicitReward, LikelihoodReward

MODELS = {"likelihood": 1, "implicit": 2}  # one row a reward: how many models it is made of
LOGPS = {"a": (-1.0, -2.0, -3.0), "bb": (-2.0, -2.0), "long": (math.nan, math.nan)}


class Model:
    """Log-probabilities by text, `shift` less for each token; notes what it was asked."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift, self.asked = shift, []

    def __call__(self, samples, continuations, *, ended=False, temperature=1.0):
        assert ended
        self.asked += [list(texts) for texts in continuations]
        return [[tuple(value - self.shift for value in LOGPS[text]) for text in texts] for texts in continuations]


def response(text: str, truncated: bool = False) -> Response:
    return Response("r", "s", text, truncated=truncated)


def made(name: str, model: Model, **options):
    return REWARDS[name](*[model, Model(0.5)][: MODELS[name]], **options)


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("normalise", [True, False])
def test_contract(name, normalise):
    """One number a response, the same for equal ones; nan for an empty answer and one that does not fit."""
    model = Model()
    reward = made(name, model, normalise=normalise)
    rows = reward([Sample("s"), Sample("t")], [[response("a"), response(" "), response("a"), response("long")], [response("")]])
    assert [len(row) for row in rows] == [4, 1]
    assert rows[0][0] == rows[0][2]
    assert all(math.isnan(value) for value in (rows[0][1], rows[0][3], rows[1][0]))
    assert model.asked == [["a", "long"]]
    assert reward([], []) == []


def test_implicit_by_hand():
    """log pi - log pi_ref is 0.5 a token. a: 3 tokens, beta 0.2: sum 0.2 * 1.5 = 0.3, by length 0.1. Cut: 2 tokens, sum 0.2."""
    samples, responses = [Sample("s")], [[response("a"), response("a", truncated=True)]]
    assert ImplicitReward(Model(), Model(0.5), beta=0.2)(samples, responses)[0] == pytest.approx([0.1, 0.1])
    assert ImplicitReward(Model(), Model(0.5), beta=0.2, normalise=False)(samples, responses)[0] == pytest.approx([0.3, 0.2])


def test_likelihood_by_hand():
    """a: (-1 - 2 - 3) / 3 = -2, and without its end (-1 - 2) / 2 = -1.5; bb: -2."""
    rows = LikelihoodReward(Model())([Sample("s")], [[response("a"), response("a", truncated=True), response("bb")]])
    assert rows == [[-2.0, -1.5, -2.0]]
    assert LikelihoodReward(Model(), normalise=False)([Sample("s")], [[response("a"), response("bb")]]) == [[-6.0, -4.0]]


def test_the_log_ratio_of_a_bundled_model_with_itself_is_nothing():
    from data_tools.records import Message, Part
    from mm_align.backends import load_backend

    model = load_backend("tiny-lvlm", device="cpu").likelihood
    sample = Sample("s", (Message("user", (Part("text", "Describe the image in detail."),)),))
    responses = [response("There is a red circle."), response("There is a red circle.", truncated=True)]
    assert ImplicitReward(model, model)([sample], [responses]) == [[0.0, 0.0]]
    whole, cut = LikelihoodReward(model, normalise=False)([sample], [responses])[0]
    assert whole < cut < 0  # the end of the turn has a probability of its own

"""The small model of the cascade: what it can tell, unknown values, texts, and that it survives JSON."""

import json

import numpy as np
import pytest

from data_tools.filters.logistic import Logistic, columns_of, fit


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    told = [
        {"text.words": int(rng.integers(1, 40)), "similarity.x": float(rng.normal()), "text.language": str(rng.choice(["en", "de"]))}
        for _ in range(n)
    ]
    for i in range(0, n, 5):
        told[i]["similarity.x"] = None
    return told


KINDS = {"text.words": int, "similarity.x": float, "text.language": str}


def test_a_threshold_a_band_and_a_text_are_learned():
    """Too few and too many words are poor, and so is German: none of it is one line through a number."""
    told = rows()
    poor = np.array([not 5 <= row["text.words"] <= 30 or row["text.language"] == "de" for row in told])
    model = fit(told, poor, columns_of(told, KINDS))
    fresh = rows(seed=1)
    truth = np.array([not 5 <= row["text.words"] <= 30 or row["text.language"] == "de" for row in fresh])
    assert ((model.chances(fresh) > 0.5) == truth).mean() > 0.93
    assert "text.language=de" in model.names


def test_unknown_values_have_a_weight_of_their_own():
    told = rows()
    model = fit(told, np.array([row["similarity.x"] is None for row in told]), columns_of(told, KINDS))
    assert model.chance({"text.words": 9, "similarity.x": None, "text.language": "en"}) > 0.9
    assert model.chance({"text.words": 9, "similarity.x": 0.1, "text.language": "en"}) < 0.1
    assert 0 < model.chance({}) < 1


def test_it_comes_back_from_json_bit_for_bit():
    told = rows()
    model = fit(told, np.array([row["text.words"] < 9 for row in told]), columns_of(told, KINDS))
    again = Logistic.from_dict(json.loads(json.dumps(model.to_dict())))
    assert again == model
    assert [again.chance(row) for row in told] == model.chances(told).tolist()


def test_names_of_rows_and_constants_are_no_signals():
    """A text that is another in every row and a number that is always the same tell nothing."""
    told = [{"exact.copy": f"shard:{i}", "image.width": 40, "text.words": i % 7} for i in range(200)]
    names = columns_of(told, {"exact.copy": str, "image.width": int, "text.words": int})
    assert names == ["image.width", "text.words"]
    assert fit(told, np.array([i % 7 < 3 for i in range(200)]), names).names == ("text.words",)


@pytest.mark.parametrize("same", [True, False])
def test_one_sided_verdicts_and_no_signals_give_a_chance_all_the_same(same):
    told = rows(60)
    model = fit(told, np.full(60, same), [])
    assert abs(model.chance({}) - same) < 0.05

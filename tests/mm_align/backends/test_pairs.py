"""Pairs for models of other families: one row a prompt, the model's own positions, the log-probabilities of each answer alone."""

from typing import Any

import pytest
import torch

from data_tools.records import PreferencePair
from mm_align.backends.loading import load_model
from mm_align.backends.pairs import collate_chat_pairs
from mm_align.losses.answer_logps import answer_logps
from mm_align.train.pair_layouts import check_shared_prompt

FOREIGN = ("llava", "qwen2_5_vl", "idefics3")


@pytest.fixture
def pairs(samples: Any) -> list[PreferencePair]:
    """Two pairs of one prompt and one of each other; pictures differ."""
    first, second, third = samples[:3]
    answers = [("a red circle", "a red cube"), ("two", "twenty three"), ("no", "yes, it is"), ("é", "e")]
    return [PreferencePair(sample, *both) for sample, both in zip((first, first, second, third), answers, strict=True)]


@pytest.mark.parametrize("family", FOREIGN)
def test_both_layouts_agree_and_so_does_the_ordinary_model(family: str, backends: Any, pairs: Any) -> None:
    """The duplicated rows leave positions to the model; the last comparison is with its ordinary logits."""
    backend = backends(family)
    shared, duplicated = (collate_chat_pairs(pairs, backend.prompts, backend.model, layout=name) for name in ("shared", "duplicated"))
    assert len(shared["input_ids"]) == 3
    assert len(duplicated["input_ids"]) == 8
    found = check_shared_prompt(backend.model, shared, duplicated)
    assert found.layout == "shared", found.reason
    inputs = {name: value for name, value in duplicated.items() if not name.startswith("answer_") and name != "margins"}
    with torch.no_grad():
        logits = backend.model(**inputs).logits.flatten(0, 1).log_softmax(-1)
        expected = logits[duplicated["answer_places"], duplicated["answer_ids"]].masked_fill(~duplicated["answer_mask"], 0)
        assert torch.allclose(answer_logps(backend.model, shared), expected, atol=2e-4)


@pytest.mark.parametrize("family", FOREIGN)
def test_log_probabilities_are_the_backends_likelihood(family: str, backends: Any, pairs: Any) -> None:
    backend = backends(family)
    batch = collate_chat_pairs(pairs, backend.prompts, backend.model)
    with torch.no_grad():
        sums = answer_logps(backend.model, batch).sum(1)
    expected = backend.likelihood([pair.sample for pair in pairs], [[pair.chosen, pair.rejected] for pair in pairs], ended=True)
    assert sums.tolist() == pytest.approx([sum(row[side]) for side in (0, 1) for row in expected], abs=2e-3)


@pytest.mark.parametrize("family", FOREIGN)
def test_gradients_agree(family: str, model_folder: Any, pairs: Any) -> None:
    loaded = load_model(str(model_folder(family)), device="cpu")
    model = loaded.model.eval()
    found = []
    for layout in ("shared", "duplicated"):
        batch = collate_chat_pairs(pairs, loaded.prompts, model, layout=layout)
        model.zero_grad()
        logps = answer_logps(model, batch)
        (logps * torch.linspace(-1, 1, logps.numel()).view(logps.shape)).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert len(found[0]) > 5_000
    assert (found[0] - found[1]).norm() < 1e-3 * found[1].norm()


def test_positions_that_count_pictures_as_text_are_noticed(backends: Any, pairs: Any) -> None:
    """What TRL's issue 5277 was about: plain positions for a model whose positions come from the pictures' grids."""
    backend = backends("qwen2_5_vl")
    shared, duplicated = (collate_chat_pairs(pairs, backend.prompts, backend.model, layout=name) for name in ("shared", "duplicated"))
    length = shared["input_ids"].shape[1]
    plain = torch.arange(length).expand(3, 3, length)
    found = check_shared_prompt(backend.model, shared | {"position_ids": plain}, duplicated)
    assert found.layout == "duplicated"
    assert "log-probabilities move by" in found.reason

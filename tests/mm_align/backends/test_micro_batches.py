"""Running out of memory halves the micro-batch, says so, and goes on; the answers stay the same."""

from __future__ import annotations

import logging

import pytest
import torch

from data_tools.calls import Sampling
from mm_align.backends import load_backend
from mm_align.backends.micro_batches import LARGEST, MicroBatches, auto_size, is_out_of_memory, row_bytes

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    MemoryError(),
]


def failing_above(limit: int, error: Exception, seen: list[int]):
    def work(chunk):
        seen.append(len(chunk))
        if len(chunk) > limit:
            raise error
        return [item * 10 for item in chunk]

    return work


@pytest.mark.parametrize("error", ERRORS)
def test_halving(error, caplog):
    """8 fails, 4 fails, then 2 at a time: 5 rows in 2 + 2 + 1, and the next call starts at 2."""
    batches, seen = MicroBatches(8), []
    with caplog.at_level(logging.WARNING):
        assert batches.run([1, 2, 3, 4, 5], failing_above(2, error, seen)) == [10, 20, 30, 40, 50]
    assert seen == [5, 2, 2, 1]
    assert batches.size == 2
    assert "out of memory with 5 rows at once; going on with 2" in caplog.text
    seen.clear()
    batches.run([1, 2, 3, 4], failing_above(2, error, seen))
    assert seen == [2, 2]


def test_not_even_one_row():
    with pytest.raises(MemoryError, match="single row.*smaller model"):
        MicroBatches(4).run([1, 2], failing_above(0, ERRORS[0], []))


def test_other_errors_are_not_memory_errors():
    with pytest.raises(RuntimeError, match="shapes differ"):
        MicroBatches(4).run([1, 2], failing_above(0, RuntimeError("shapes differ"), []))
    assert not is_out_of_memory(RuntimeError("index out of range"))


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        MicroBatches(0)


def test_the_backend_survives_and_answers_the_same(model_folder, samples, caplog):
    whole = load_backend(str(model_folder("lvlm")), batch_size=8)
    short = load_backend(str(model_folder("lvlm")), batch_size=8)
    forward = short.model.model.language_model.forward

    def cramped(*args, **kwargs):
        if kwargs["inputs_embeds"].shape[0] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    short.model.model.language_model.forward = cramped
    sampling = Sampling(max_tokens=4)
    assert [a.text for a in short.generate(samples, sampling)] == [a.text for a in whole.generate(samples, sampling)]
    assert (whole.batch_size, short.batch_size) == (8, 2)
    assert "going on with 2" in caplog.text


def test_auto_follows_free_memory(model_folder, monkeypatch):
    backend = load_backend(str(model_folder("lvlm")))
    assert 1 <= backend.batch_size <= LARGEST
    one = row_bytes(backend.model, 1536)
    for free, size in ((2 * one, 1), (16 * one, 8), (10_000 * one, LARGEST)):
        monkeypatch.setattr("mm_align.backends.micro_batches.free_memory", lambda device, free=free: free)
        assert auto_size(backend.model, torch.device("cpu")) == size


def test_candidates_count_as_rows(model_folder, samples, monkeypatch):
    """Memory for 16 rows: sixteen samples at a time with one answer each, one with ten."""
    backend = load_backend(str(model_folder("lvlm")))
    room = 32 * row_bytes(backend.model, 1536)
    monkeypatch.setattr("mm_align.backends.micro_batches.free_memory", lambda device: room)
    sizes = []
    handle = backend.model.model.adapter.register_forward_hook(lambda module, args, out: sizes.append(len(out.features)))
    backend.generate(samples, Sampling(n=10, temperature=1.0, max_tokens=2))
    backend.generate(samples, Sampling(max_tokens=2))
    handle.remove()
    assert sizes == [1, 1, 1, 1, 1, 5]

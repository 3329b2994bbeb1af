"""Reference scores: those of the model without updates, kept through kills, and never another model's."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from data_tools.preference import write_pairs
from data_tools.records import Image, Message, Part, PreferencePair, Sample
from mm_align.losses.answer_logps import answer_logps
from mm_align.models.corruptions import Corruption
from mm_align.train import reference, reference_scores
from mm_align.train.footprint import Step, scoring, sizes_of
from mm_align.train.lora import apply_lora
from mm_align.train.pair_data import PairCollator, PairSet, pair_set
from mm_align.train.reference import Keys, ReferenceCache, Scores, context_of, weights_hash
from mm_align.train.reference_scores import Scorer, beside, fill, product_weights, references_of
from mm_align.train.sources import Source

CONTEXT = {"weights": "w", "precision": "float32"}


def scores(*values: float) -> Scores:
    return Scores(np.array(values, np.float32), np.array(values[:1], np.float32))


@pytest.fixture
def data(tmp_path: Path, picture: Callable[[int], PIL.Image.Image], processor: Any) -> PairSet:
    """Six pairs about three pictures."""
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    records = [
        PreferencePair(
            Sample(f"p{i}", (Message("user", (Part("image"), Part("text", f"{i}? "))),), (Image(str(tmp_path / f"{i % 3}.png")),)),
            "yes" * (i + 1),
            "no",
        )
        for i in range(6)
    ]
    write_pairs(tmp_path / "pairs.jsonl", records)
    return pair_set([Source(path=str(tmp_path / "pairs.jsonl"))], processor, quarantine=tmp_path / "gone.jsonl", shuffle=False)


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_what_was_added_is_found_by_others_and_after_a_restart(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path, CONTEXT)
    with cache.appending() as add, ReferenceCache(tmp_path, CONTEXT).appending() as add_elsewhere:
        add({b"a" * 32: scores(-1, -2)})
        add_elsewhere({b"b" * 32: scores(-3)})
        add({b"c" * 32: scores(-4, -5, -6)})
    again = ReferenceCache(tmp_path, CONTEXT)
    assert len(list(again.folder.glob("*.scores"))) == 2  # two at once write to two shards
    assert [again.find(key * 32).chosen.tolist() for key in (b"a", b"b", b"c")] == [[-1, -2], [-3], [-4, -5, -6]]
    assert again.find(b"c" * 32).rejected.tolist() == [-4]
    assert again.find(b"d" * 32) is None


@pytest.mark.parametrize("file", ["000.index", "000.scores"])
def test_a_write_that_a_kill_cut_off_is_as_if_it_had_not_been(file: str, tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path, CONTEXT)
    with cache.appending() as add:
        add({b"a" * 32: scores(-1, -2)})
        add({b"b" * 32: scores(-3, -4)})
    path = cache.folder / file
    path.write_bytes(path.read_bytes()[:-3])
    again = ReferenceCache(tmp_path, CONTEXT)
    assert again.find(b"a" * 32) is not None
    assert again.find(b"b" * 32) is None
    with again.appending() as add:
        add({b"b" * 32: scores(-5, -6)})
    assert again.find(b"a" * 32).chosen.tolist() == [-1, -2]
    assert again.find(b"b" * 32).chosen.tolist() == [-5, -6]


def test_numbers_that_changed_on_disk_are_not_used(tmp_path: Path) -> None:
    cache = ReferenceCache(tmp_path, CONTEXT)
    with cache.appending() as add:
        add({b"a" * 32: scores(-1, -2)})
    path = cache.folder / "000.scores"
    path.write_bytes(b"\0" * path.stat().st_size)
    assert ReferenceCache(tmp_path, CONTEXT).find(b"a" * 32) is None


def test_scores_of_another_model_are_not_read_and_said(tmp_path: Path) -> None:
    with ReferenceCache(tmp_path, CONTEXT).appending() as add:
        add({b"a" * 32: scores(-1)})
    other = ReferenceCache(tmp_path, CONTEXT | {"weights": "v"})
    assert other.find(b"a" * 32) is None
    assert other.others() == [["weights"]]
    assert ReferenceCache(tmp_path, CONTEXT).others() == []


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_context_is_that_of_weights_configuration_template_precision_and_layout(make_model: Any, make_processor: Any) -> None:
    def context(model: Any = None, processor: Any = None, dtype: torch.dtype = torch.float32, layout: str = "shared") -> dict[str, str]:
        return context_of(model or make_model(), processor or make_processor(), dtype=dtype, layout=layout)

    one = context()
    assert one == context()
    moved = make_model()
    with torch.no_grad():
        moved.lm_head.weight[0, 0] += 1e-6
    changed = make_model()
    changed.config.feature_layer = -1
    differing = {
        "weights": context(model=moved),
        "configuration": context(model=changed),
        "template": context(processor=make_processor(num_image_tokens=2)),
        "precision": context(dtype=torch.bfloat16),
        "layout": context(layout="duplicated"),
    }
    for name, other in differing.items():
        assert [part for part in one if one[part] != other[part]] == [name]


def test_a_pairs_key_is_that_of_its_pictures_tokens_and_corruption(data: PairSet, tmp_path: Path) -> None:
    pair = data.store[0]
    key = Keys().of(pair)
    assert key == Keys().of(replace(pair, margin=3.0))
    copied = tmp_path / "elsewhere.png"
    copied.write_bytes((tmp_path / "0.png").read_bytes())
    assert key == Keys().of(replace(pair, sample=replace(pair.sample, images=(Image(str(copied)),))))
    others = [
        replace(pair, chosen=pair.rejected),
        replace(pair, chosen=pair.rejected, rejected=pair.chosen),
        replace(pair, sample=replace(pair.sample, images=(Image(str(tmp_path / "1.png")),))),
    ]
    keys = [Keys().of(other) for other in others] + [Keys(Corruption(kind, seed)).of(pair) for kind, seed in (("crop", 0), ("crop", 1))]
    assert len({key, *keys}) == 6


def test_low_rank_updates_do_not_change_whose_scores_they_are(make_model: Any) -> None:
    model = make_model()
    plain = weights_hash(model)
    apply_lora(model, {"r": 2, "alpha": 4, "dropout": 0.0})
    assert weights_hash(model) == plain


# -- filling -----------------------------------------------------------------------------------------------------------


def filled(data: PairSet, model: Any, processor: Any, folder: Path, batch: int = 4, **options: Any) -> Any:
    collate = PairCollator(processor, **options)
    context = context_of(model, processor, dtype=torch.float32, layout=collate.layout)
    references = references_of(ReferenceCache(folder, context), data, Keys(collate.corruption))
    return references, fill(references, data, Scorer(model, collate), batch)


@torch.no_grad()
def test_scores_are_those_of_the_model_and_scored_once(data: PairSet, tiny_model: Any, processor: Any, tmp_path: Path) -> None:
    references, done = filled(data, tiny_model, processor, tmp_path / "cache")
    assert done[:2] == (6, 0)
    data.references = {"reference": references}
    batch = PairCollator(processor)(data.__getitems__(range(6)))
    assert torch.allclose(batch["reference_logps"], answer_logps(tiny_model, batch), atol=1e-5)
    references, again = filled(data, tiny_model, processor, tmp_path / "cache")
    assert again[:2] == (0, 6)
    references.keys.append(references.keys[0])  # the same pair in another row
    assert fill(references, data, Scorer(tiny_model, PairCollator(processor)), 4)[:2] == (0, 6)


@torch.no_grad()
def test_updates_are_off_while_scoring_and_as_they_were_afterwards(data: PairSet, make_model: Any, processor: Any, tmp_path: Path) -> None:
    model = make_model()
    plain, _ = filled(data, model, processor, tmp_path / "plain")
    apply_lora(model, {"r": 2, "alpha": 4, "dropout": 0.5}).train()
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.normal_()
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    updated, done = filled(data, model, processor, tmp_path / "updated")
    assert done.scored == 6
    for row in range(6):
        assert np.allclose(updated.of(row).chosen, plain.of(row).chosen, atol=1e-5)
    assert before == {name: p.requires_grad for name, p in model.named_parameters()}
    assert model.training
    batch = PairCollator(processor)(data.__getitems__([0]))
    with_updates = answer_logps(model.eval(), batch)
    assert not torch.allclose(with_updates[0][batch["answer_mask"][0]], torch.tensor(plain.of(0).chosen), atol=0.1)


def test_a_kill_keeps_what_was_scored(data: PairSet, tiny_model: Any, processor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(reference_scores, "APPEND_EVERY", 2)
    calls = []

    def dying(self: Scorer, pairs: Any) -> list[Scores]:
        calls.append(len(pairs))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return scored(self, pairs)

    scored = Scorer.__call__
    monkeypatch.setattr(Scorer, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        filled(data, tiny_model, processor, tmp_path / "cache", batch=2)
    monkeypatch.setattr(Scorer, "__call__", scored)
    _, rest = filled(data, tiny_model, processor, tmp_path / "cache", batch=2)
    assert rest[:2] == (2, 4)


def test_pairs_about_one_picture_are_scored_together(data: PairSet) -> None:
    """Pairs i and i + 3 show one picture, and later pairs are longer: the pictures of the longest pairs come first."""
    assert reference_scores.by_picture(range(6), data) == [2, 5, 1, 4, 0, 3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("updated", [False, True], ids=["plain", "lora"])
def test_a_copy_beside_the_model_gives_the_same_numbers(
    data: PairSet, make_model: Any, processor: Any, dtype: torch.dtype, updated: bool
) -> None:
    """To the bit, though in bfloat16 it holds the weights of its products in that; the model is left as it was, where it was."""
    model = make_model()
    if updated:
        apply_lora(model, {"r": 2, "alpha": 4, "dropout": 0.0})
    before = {name: (value.clone(), value.requires_grad) for name, value in model.named_parameters()}
    copied = beside(model, torch.device("cpu"), dtype)
    pairs, collate = data.pairs(range(6)), PairCollator(processor)
    expected, found = (Scorer(one, collate, dtype=dtype)(pairs) for one in (model, copied))
    assert all(np.array_equal(a, b) for one, other in zip(expected, found, strict=True) for a, b in zip(one, other, strict=True))
    assert {p.dtype for p in copied.model.language_model.layers.parameters() if p.dim() > 1} == {dtype}
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name][0])
        assert value.requires_grad == before[name][1]


def test_a_copy_elsewhere_takes_little_more_than_half(make_model: Any) -> None:
    """Embeddings, norms and positions stay in float32; an output head that is the embedding too stays with it."""
    model = make_model()
    copied = beside(model, torch.device("meta"), torch.bfloat16)
    assert {p.device.type for p in copied.parameters()} | {b.device.type for b in copied.buffers()} == {"meta"}
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("cpu", torch.float32)}
    assert copied.get_input_embeddings().weight.dtype == torch.float32
    assert copied.lm_head.weight is copied.get_input_embeddings().weight
    halved = sum(p.numel() for p in product_weights(model))
    bytes_of = sum(p.numel() * p.element_size() for p in copied.parameters())
    assert bytes_of == 4 * sum(p.numel() for p in model.parameters()) - 2 * halved
    assert scoring(sizes_of(model), Step(1, 1, 1, pairs=True, bf16=True, fsdp=True, processes=8)) == bytes_of
    assert scoring(sizes_of(model), Step(1, 1, 1, pairs=True, bf16=True)) == 0


def test_what_another_adds_between_opening_and_locking_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock comes late: meanwhile the other has written its scores and let go."""
    lock = reference.take_lock

    def late(file: Any) -> bool:
        monkeypatch.setattr(reference, "take_lock", lock)
        with ReferenceCache(tmp_path, CONTEXT).appending() as add:
            add({b"a" * 32: scores(-1, -2)})
        return lock(file)

    cache = ReferenceCache(tmp_path, CONTEXT)
    monkeypatch.setattr(reference, "take_lock", late)
    with cache.appending() as add:
        add({b"b" * 32: scores(-3)})
    assert len(ReferenceCache(tmp_path, CONTEXT)) == 2


def test_two_processes_share_the_work(data: PairSet, tiny_model: Any, processor: Any, tmp_path: Path) -> None:
    context = context_of(tiny_model, processor, dtype=torch.float32, layout="shared")
    parts = [references_of(ReferenceCache(tmp_path / "c", context), data, Keys()) for _ in range(2)]
    done = [fill(part, data, Scorer(tiny_model, PairCollator(processor)), 2, rank=rank, world=2) for rank, part in enumerate(parts)]
    assert [one.scored for one in done] == [4, 2]
    parts[0].cache.refresh()
    assert not parts[0].missing()


def test_a_broken_picture_leaves_with_its_reason_and_the_others_are_scored(
    data: PairSet, tiny_model: Any, processor: Any, tmp_path: Path
) -> None:
    (tmp_path / "1.png").write_bytes(b"no picture")
    references, done = filled(data, tiny_model, processor, tmp_path / "cache")
    assert done.scored == 4
    data.references = {"reference": references}
    assert [data[i].sample.id for i in range(6)] == ["p0", "p2", "p2", "p3", "p5", "p5"]
    lines = [json.loads(line) for line in (tmp_path / "gone.jsonl").read_text().splitlines()]
    assert sorted((line["source"]["row"], line["reason"]) for line in lines) == [(1, "image_unreadable"), (4, "image_unreadable")]


def test_a_picture_that_appears_after_scoring_leaves_its_pair_out(data: PairSet, tiny_model: Any, processor: Any, tmp_path: Path) -> None:
    good = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(b"no picture")
    references, _ = filled(data, tiny_model, processor, tmp_path / "cache")
    (tmp_path / "1.png").write_bytes(good)
    (tmp_path / "gone.jsonl").write_bytes(b"")
    data._broken.clear()
    data.references = {"reference": references}
    assert data[1].sample.id == "p2"
    assert json.loads((tmp_path / "gone.jsonl").read_text())["reason"] == "not_scored"


def test_scores_that_are_no_numbers_end_it(data: PairSet, make_model: Any, processor: Any, tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="pair 'p"):
        filled(data, model, processor, tmp_path / "cache")


def test_corrupted_pictures_have_scores_of_their_own(data: PairSet, tiny_model: Any, processor: Any, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    plain, _ = filled(data, tiny_model, processor, tmp_path / "cache")
    worse, done = filled(data, tiny_model, processor, tmp_path / "cache", corruption=Corruption("black", 0))
    assert done[:2] == (6, 0)
    assert not np.allclose(plain.of(0).chosen, worse.of(0).chosen)
    data.references = {"reference": plain, "contrast_reference": worse}
    batch = PairCollator(processor, corruption=Corruption("black", 0))(data.__getitems__([0, 1]))
    with torch.no_grad():
        assert torch.allclose(batch["contrast_reference_logps"], answer_logps(tiny_model, batch, contrast=True), atol=1e-5)

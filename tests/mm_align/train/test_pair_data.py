"""Files of pairs as training data: broken pairs out with a reason, the same order after a stop, batches as the objective needs them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from data_tools.preference import write_pairs
from data_tools.records import Image, Message, Part, PreferencePair, Sample
from mm_align.config import load
from mm_align.models.corruptions import CORRUPTIONS, Corruption
from mm_align.train.pair_data import PairCollator, PairSet, pair_set
from mm_align.train.sources import Source


def record(number: int, folder: Path, chosen: str = "a red ball", rejected: str = "blue", margin: float = 1.0) -> PreferencePair:
    asked = Message("user", (Part("image"), Part("text", f"what {number}? ")))
    return PreferencePair(Sample(f"p{number}", (asked,), (Image(str(folder / f"{number % 3}.png")),)), chosen, rejected, margin)


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[[int], PIL.Image.Image]) -> Path:
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def make(folder: Path, processor: Any) -> Callable[..., PairSet]:
    def make(records: list[PreferencePair], name: str = "pairs.jsonl", source: dict[str, Any] | None = None, **options: Any) -> PairSet:
        write_pairs(folder / name, records, options.pop("format", "mm_align"))
        settings = {"max_length": 64, "quarantine": folder / "out" / "quarantine.jsonl", "shuffle": False}
        return pair_set([load(Source, {"path": str(folder / name), **(source or {})})], processor, **(settings | options))

    return make


def gone(folder: Path) -> list[tuple[str, int]]:
    lines = (folder / "out" / "quarantine.jsonl").read_text().splitlines()
    return [(line["reason"], line["source"]["row"]) for line in map(json.loads, lines)]


@pytest.mark.parametrize(
    ("format", "name"), [("mm_align", "p.jsonl"), ("rlaifv", "p.parquet"), ("trl", "p.parquet"), ("ms_swift", "p.jsonl")]
)
def test_every_format_gives_the_same_batch(format: str, name: str, folder: Path, make: Callable[..., PairSet], processor: Any) -> None:
    records = [record(i, folder) for i in range(3)]
    data = make(records, name, format=format)
    batch = PairCollator(processor)(data.__getitems__([0, 1, 2]))
    expected = PairCollator(processor)(make(records, "plain.jsonl").__getitems__([0, 1, 2]))
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in batch)


def test_a_pair_whose_answer_would_be_cut_leaves_and_is_counted(folder: Path, make: Callable[..., PairSet]) -> None:
    data = make([record(0, folder), record(1, folder, rejected="long " * 20), record(2, folder, chosen="short", rejected="short ")])
    assert [pair.sample.id for pair in data.pairs(range(len(data.store))) if pair] == ["p0"]
    assert gone(folder) == [("too_long", 1), ("equal_answers", 2)]
    assert data.report["sources"][0]["reasons"] == {"too_long": 1, "equal_answers": 1}
    assert "quarantined: 1 equal_answers, 1 too_long" in data.summary()


def test_a_margin_that_is_no_number_leaves(folder: Path, make: Callable[..., PairSet]) -> None:
    make([record(0, folder), record(1, folder, margin=float("nan"))])
    assert gone(folder) == [("bad_margin", 1)]


def test_nothing_left_says_why(folder: Path, make: Callable[..., PairSet]) -> None:
    with pytest.raises(ValueError, match=r"none of the 1 rows can be trained on \(1 too_long\)"):
        make([record(0, folder)], max_length=10)


def test_settings_that_pairs_do_not_have_are_refused(folder: Path, make: Callable[..., PairSet]) -> None:
    with pytest.raises(ValueError, match="preference pairs, which have no prompt"):
        make([record(0, folder)], source={"prompt": "Describe it."})


def test_a_picture_that_breaks_later_leaves_and_the_next_pair_takes_its_place(folder: Path, make: Callable[..., PairSet]) -> None:
    data = make([record(i, folder) for i in range(3)])
    (folder / "1.png").write_bytes(b"no picture")
    assert data[1].sample.id == "p2"
    assert gone(folder) == [("image_unreadable", 1)]


def test_the_order_is_that_of_seed_and_epoch(folder: Path, make: Callable[..., PairSet]) -> None:
    data, again = (make([record(i, folder) for i in range(9)], shuffle=True, seed=4) for _ in range(2))
    first = [data[i].sample.id for i in range(9)]
    data.set_epoch(1)
    second = [data[i].sample.id for i in range(9)]
    assert first != second
    assert sorted(first) == sorted(second) == [f"p{i}" for i in range(9)]
    again.set_epoch(1)
    assert [again[i].sample.id for i in range(9)] == second


def test_what_is_shown_of_a_pair_is_the_chosen_answer(folder: Path, make: Callable[..., PairSet]) -> None:
    (sample,) = make([record(0, folder)]).samples()
    assert [(message.role, message.trains) for message in sample.messages] == [("user", False), ("assistant", True)]
    assert sample.messages[-1].parts[0].text == "a red ball"


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corrupted_pictures_are_the_same_in_every_batch(kind: str, folder: Path, make: Callable[..., PairSet], processor: Any) -> None:
    data = make([record(i, folder) for i in range(3)])
    collate = PairCollator(processor, corruption=Corruption(kind, 5))
    both, alone = collate(data.__getitems__([0, 1])), collate([data[1]])
    assert both["contrast_pixel_values"].shape == both["pixel_values"].shape
    assert torch.equal(both["contrast_pixel_values"][1], alone["contrast_pixel_values"][0])
    assert not torch.equal(both["contrast_pixel_values"], both["pixel_values"])
    other = PairCollator(processor, corruption=Corruption(kind, 6))([data[1]])["contrast_pixel_values"]
    assert torch.equal(other, alone["contrast_pixel_values"]) == (kind == "black")  # which has nothing random about it


def test_noise_keeps_the_share_of_signal_of_step_500(processor: Any) -> None:
    """With VCD's schedule the mean of x and of the noised x are alike up to sqrt(a), a the share of signal at step 500.

    Sum of beta_t for t <= 500: (0.5e-2 - 1e-5) * sum of s(-6 ... 0) + 501e-5; s is the logistic function, its sum over the 501 values
    about (1000 / 12) * ln 2 = 57.76 + 0.25, so beta sums to 0.00499 * 58.01 + 0.00501 = 0.2945 and a = exp(-0.2945 - 0.0006) = 0.7445.
    """
    import numpy as np

    grey = PIL.Image.new("RGB", (16, 16), (255, 255, 255))  # 1.0 at every pixel
    found = Corruption("noise", 0).pixels([grey] * 1, processor.image_processor)
    many = np.concatenate([Corruption("noise", seed).pixels([grey], processor.image_processor) for seed in range(50)])
    assert found.dtype == np.float32
    assert many.mean() == pytest.approx(0.7445**0.5, abs=0.01)
    assert many.std() == pytest.approx((1 - 0.7445) ** 0.5, abs=0.01)


def test_a_crop_shows_at_most_a_fifth(processor: Any) -> None:
    """Of a picture whose every column has a grey value of its own (0 to 199), a crop shows at most sqrt(0.2) of the columns."""
    import numpy as np

    columns = PIL.Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (200, 1, 3)))
    for seed in range(20):
        pixels = Corruption("crop", seed).pixels([columns], processor.image_processor)[0]
        assert (pixels.max() - pixels.min()) * 127.5 <= 0.2**0.5 * 200 + 2

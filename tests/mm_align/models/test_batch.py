"""Records become tensors: padding sides, labels, pictures, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from data_tools.io.images import BadImage
from data_tools.records import Image, Message, Part, Sample
from mm_align.models import collate


@pytest.fixture(scope="module")
def samples(picture: Callable[[int], Any]) -> list[Sample]:
    def sample(name: str, question: str, answer: str, pictures: int) -> Sample:
        asked = Message("user", (*[Part("image")] * pictures, Part("text", question)))
        told = Message("assistant", (Part("text", answer),), trains=True)
        return Sample(name, (asked, told), tuple(Image(pixels=picture(i)) for i in range(pictures)))

    return [sample("one", "q", "ab", 1), sample("two", "longer", "c", 2), sample("none", "r", "d", 0)]


def test_training_batch(samples: list[Sample], processor: Any) -> None:
    """Row lengths: 4 + 1 + 1 + 2 + 1 = 9; 2 x 5 + 6 + 1 + 1 = 18; 1 + 1 + 1 = 3. Right padding; "ab<eos>" trains."""
    batch = collate(samples, processor, for_training=True)
    assert batch["attention_mask"].sum(1).tolist() == [9, 18, 3]
    assert batch["attention_mask"][:, 0].all()
    assert batch["pixel_values"].shape == (3, 3, 16, 16)
    trained = [row[row != -100].tolist() for row in batch["labels"]]
    assert trained == [[*processor.text_ids(text), 256] for text in ("ab", "c", "d")]
    at_labels = batch["labels"] != -100
    assert torch.equal(batch["labels"][at_labels], batch["input_ids"][at_labels])


def test_generation_batch(samples: list[Sample], processor: Any) -> None:
    asked = [replace(s, messages=s.messages[:1]) for s in samples]
    batch = collate(asked, processor, for_training=False)
    assert "labels" not in batch
    assert batch["attention_mask"][:, -1].all()
    assert batch["attention_mask"].sum(1).tolist() == [6, 16, 1]


def test_text_alone_has_no_pixels(samples: list[Sample], processor: Any) -> None:
    assert "pixel_values" not in collate(samples[2:], processor, for_training=True)


def test_dtype_is_that_of_the_pixels(samples: list[Sample], processor: Any) -> None:
    batch = collate(samples, processor, for_training=True, dtype=torch.bfloat16, device="cpu")
    assert batch["pixel_values"].dtype == torch.bfloat16
    assert batch["input_ids"].dtype == torch.long


def test_max_length_cuts_the_end_but_no_picture(samples: list[Sample], processor: Any) -> None:
    assert collate(samples[:1], processor, for_training=True, max_length=8)["input_ids"].shape == (1, 8)
    with pytest.raises(ValueError, match="'two' has 18 tokens; max_length 8 would cut a picture"):
        collate(samples[1:], processor, for_training=True, max_length=8)
    with pytest.raises(ValueError, match="'one' has 9 tokens; max_length 6 leaves nothing to train on"):
        collate(samples[:1], processor, for_training=True, max_length=6)


def test_missing_pictures_are_refused(samples: list[Sample], processor: Any) -> None:
    with pytest.raises(ValueError, match="'two' has 2 image parts in its messages and 0 images"):
        collate([replace(samples[1], images=())], processor, for_training=True)


def test_a_sample_that_does_not_train_is_named(samples: list[Sample], processor: Any) -> None:
    with pytest.raises(ValueError, match="sample 'none': no message"):
        collate([replace(samples[2], messages=samples[2].messages[:1])], processor, for_training=True)


def test_a_broken_picture_is_refused(samples: list[Sample], processor: Any) -> None:
    with pytest.raises(BadImage, match="image_empty"):
        collate([replace(samples[0], images=(Image(data=b""),))], processor, for_training=True)


def test_training_rows_do_not_see_their_padding(samples: list[Sample], processor: Any, tiny_model: Any) -> None:
    together = collate(samples, processor, for_training=True)
    alone = collate(samples[:1], processor, for_training=True)
    logits = [tiny_model(**{k: v for k, v in batch.items() if k != "labels"}).logits[0, :9] for batch in (together, alone)]
    torch.testing.assert_close(logits[0], logits[1], atol=1e-4, rtol=0)

"""Image classifiers of transformers as one number: how probable a set of labels is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch

from .folders import check_folder, check_weights
from .safe_weights import refuse_pickled_folder

AT_ONCE = 32  # pictures in one forward
UNSAFE = frozenset(
    {"nsfw", "unsafe", "porn", "pornography", "hentai", "sexy", "explicit", "nude", "nudity"}
)  # as published models name them


class LabelScorer:
    """Probability that a picture bears one of some labels: their sum for a model of one label a picture, the greatest for one of many."""

    def __init__(self, model: Any, processor: Any, labels: Collection[int]) -> None:
        self.model, self.processor, self.labels = model.eval().requires_grad_(False), processor, sorted(labels)

    @property
    def names(self) -> list[str]:
        """The labels that count, as the model calls them."""
        return [self.model.config.id2label[i] for i in self.labels]

    def __call__(self, pictures: Sequence[PIL.Image.Image]) -> list[float]:
        parts = [pictures[i : i + AT_ONCE] for i in range(0, len(pictures), AT_ONCE)]
        return [chance for part in parts for chance in self._chances(part)]

    @torch.no_grad()
    def _chances(self, pictures: Sequence[PIL.Image.Image]) -> list[float]:
        inputs = self.processor(images=[p.convert("RGB") for p in pictures], return_tensors="pt").to(self.model.device, self.model.dtype)
        logits = self.model(**inputs).logits.float()  # [n, labels]
        if self.model.config.problem_type == "multi_label_classification":
            chances = logits.sigmoid()[:, self.labels].amax(-1)
        else:
            chances = logits.softmax(-1)[:, self.labels].sum(-1)
        told: list[float] = chances.tolist()
        return told


def load_label_scorer(
    name: str, labels: Sequence[str] = (), *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LabelScorer:
    """An image classifier of transformers, from a folder or the hub, read from safetensors alone.

    labels: those that count; none: those of `UNSAFE` that the model has, in any case. Raises ValueError in a sentence for a model that
    cannot be read, is no image classifier, or lacks the labels.
    """
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    if Path(name).is_dir():
        refuse_pickled_folder(name)
    try:
        check_folder(name)
        _check_kind(name)
        check_weights(name)
        model, told = AutoModelForImageClassification.from_pretrained(name, use_safetensors=True, dtype=dtype, output_loading_info=True)
        processor = AutoImageProcessor.from_pretrained(name, backend="pil")
    except (OSError, ValueError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"cannot load the image classifier '{name}': {first[:300]}") from error
    if told["missing_keys"]:
        missing = sorted(told["missing_keys"])
        raise ValueError(f"the weights of '{name}' are incomplete: {len(missing)} are missing, such as '{missing[0]}'; is it a classifier?")
    return LabelScorer(model.to(device), processor, _chosen(model.config.id2label, labels, name))


def _check_kind(name: str) -> None:
    """ValueError for a model of another kind, before its weights are read."""
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(name)
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise ValueError(f"it is a {config.model_type} model, which tells no labels of pictures")


def _chosen(id2label: dict[int, str], wanted: Sequence[str], name: str) -> list[int]:
    by_label = {label.lower(): i for i, label in id2label.items()}
    unknown = [label for label in wanted if label.lower() not in by_label]
    found = [by_label[label.lower()] for label in wanted if label.lower() in by_label] or [by_label[x] for x in UNSAFE & by_label.keys()]
    if unknown or not found:
        what = f"has no label {unknown[0]!r}" if unknown else "has no label that is known to mean unsafe"
        raise ValueError(f"'{name}' {what}; its labels are {', '.join(list(id2label.values())[:20])}. Say which count")
    return found

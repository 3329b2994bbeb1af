"""Encoders of pictures and texts into one space (CLIP, SigLIP, SigLIP2 and kin) behind one face, from transformers or open_clip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch.nn.functional import normalize

from .folders import check_folder, check_weights

LIBRARIES = ("transformers", "open_clip")


class Pair(ABC):
    """A frozen picture encoder and its text encoder; both give unit vectors in float32 on the model's device."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)

    @abstractmethod
    def _images(self, pictures: list[PIL.Image.Image]) -> torch.Tensor: ...

    @abstractmethod
    def _texts(self, texts: list[str]) -> torch.Tensor: ...

    @torch.no_grad()
    def image_embeddings(self, pictures: Sequence[PIL.Image.Image]) -> torch.Tensor:
        """n pictures, prepared as the encoder's own preprocessing says -> [n, D]."""
        return normalize(self._images([p.convert("RGB") for p in pictures]).float(), dim=-1)

    @torch.no_grad()
    def text_embeddings(self, texts: Sequence[str]) -> torch.Tensor:
        """n texts, cut at the encoder's context length -> [n, D]."""
        return normalize(self._texts(list(texts)).float(), dim=-1)

    @property
    def scale(self) -> float:
        """What similarities were multiplied with in training: exp of the learned logit scale (CLIP's is 100)."""
        return float(self.model.logit_scale.detach().float().exp())


class TransformersPair(Pair):
    """Any model with `get_image_features` and `get_text_features`, and its processor."""

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__(model)
        self.processor = processor

    def _images(self, pictures: list[PIL.Image.Image]) -> torch.Tensor:
        # not through the processor, whose defaults for SigLIP2 override what the checkpoint's image processor says
        inputs = self.processor.image_processor(images=pictures, return_tensors="pt").to(self.model.device, self.model.dtype)
        return self.model.get_image_features(**inputs).pooler_output

    def _texts(self, texts: list[str]) -> torch.Tensor:
        config = self.model.config
        length = getattr(config.text_config, "max_position_embeddings", None)
        padding = "max_length" if config.model_type.startswith("siglip") else True  # SigLIP was trained on full-length texts
        inputs = self.processor(text=texts, padding=padding, truncation=length is not None, max_length=length, return_tensors="pt")
        return self.model.get_text_features(**inputs.to(self.model.device)).pooler_output


class OpenClipPair(Pair):
    """A model of open_clip with its evaluation transform and its tokenizer."""

    def __init__(self, model: Any, transform: Any, tokenizer: Any) -> None:
        super().__init__(model)
        self.transform, self.tokenizer = transform, tokenizer

    @property
    def _weight(self) -> torch.Tensor:
        return next(self.model.visual.parameters())

    def _images(self, pictures: list[PIL.Image.Image]) -> torch.Tensor:
        pixels = torch.stack([self.transform(picture) for picture in pictures])  # [n, 3, S, S]
        return self.model.encode_image(pixels.to(self._weight.device, self._weight.dtype))

    def _texts(self, texts: list[str]) -> torch.Tensor:
        return self.model.encode_text(self.tokenizer(texts).to(self._weight.device))


def load_pair(
    name: str,
    library: str = "transformers",
    *,
    pretrained: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Pair:
    """The encoder pair of a local folder or of a name on the hub, with trained weights.

    library "transformers": a folder of `save_pretrained` (model and processor), or a hub id. "open_clip": a folder with
    open_clip_config.json, "hf-hub:OWNER/NAME", or a built-in name with `pretrained` (a tag or a checkpoint file).
    Raises ValueError in a sentence when there is no such model, it is no pair, its weights are incomplete, or the hub is
    out of reach.
    """
    if library not in LIBRARIES:
        raise ValueError(f"unknown library '{library}' of image-text encoders; known: {', '.join(LIBRARIES)}")
    if not Path(name).is_dir() and (Path(name).is_absolute() or name.startswith((".", "~"))):
        raise ValueError(f"no folder {name}; give a folder with an image-text encoder, or a name on the hub")
    if library == "open_clip":
        return _open_clip(name, pretrained, device, dtype)
    if pretrained is not None:
        raise ValueError(f"'pretrained' names weights of open_clip; transformers finds those of '{name}' itself, so leave it out")
    return _transformers(name, device, dtype)


def _transformers(name: str, device: str | torch.device, dtype: torch.dtype) -> Pair:
    from transformers import AutoModel, AutoProcessor

    _check_kind(name)
    try:
        check_weights(name)
        model, told = AutoModel.from_pretrained(name, dtype=dtype, output_loading_info=True)
    except (OSError, ValueError) as error:
        raise ValueError(_cannot(name, error)) from error
    if not hasattr(model, "logit_scale"):
        raise ValueError(_no_pair(name, model.config))
    missing = sorted(told["missing_keys"])
    if missing:
        raise ValueError(f"the weights of '{name}' are incomplete: {len(missing)} are missing, such as '{missing[0]}'")
    try:
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(f"'{name}' has no usable processor (tokenizer and preprocessor_config.json): {_first_line(error)}") from error
    return TransformersPair(model.to(device), processor)


def _check_kind(name: str) -> None:
    """ValueError for a model of another kind, before its weights are read."""
    from transformers import MODEL_MAPPING, AutoConfig

    try:
        check_folder(name)
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ValueError(_cannot(name, error)) from error
    kind = MODEL_MAPPING.get(type(config), None)
    if not (hasattr(kind, "get_image_features") and hasattr(kind, "get_text_features")):
        raise ValueError(_no_pair(name, config))


def _no_pair(name: str, config: Any) -> str:
    return f"'{name}' is a {config.model_type} model, no image-text encoder pair; give a CLIP, SigLIP or SigLIP2 model"


def _open_clip(name: str, pretrained: str | None, device: str | torch.device, dtype: torch.dtype) -> Pair:
    import open_clip

    source = f"local-dir:{name}" if Path(name).is_dir() else name
    if ":" not in source and pretrained is None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        known = f"its tags: {', '.join(tags)}" if tags else "open_clip.list_pretrained() shows names and tags"
        raise ValueError(f"open_clip's '{name}' needs 'pretrained', a tag or a checkpoint file, or its weights are random; {known}")
    try:
        check_folder(name, "open_clip_config.json", "model_cfg")
        check_weights(name)
        model, transform = open_clip.create_model_from_pretrained(source, pretrained, device=device)
        tokenizer = open_clip.get_tokenizer(source)
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(_cannot(name, error)) from error
    return OpenClipPair(model.to(dtype), transform, tokenizer)


def _cannot(name: str, error: BaseException) -> str:
    where = (
        ""
        if Path(name).exists()
        else "; it is no local folder, and without network only a folder or what the hub's cache holds can be read"
    )
    return f"cannot load the image-text encoder '{name}': {_first_line(error)}{where}"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]

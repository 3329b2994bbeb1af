"""A vision-language model out of parts: a tower, an adapter, a language model; or one that is there already, with a part replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken
from torch import nn
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig, PreTrainedModel

from vision.adapters import build_adapter
from vision.images import SquareImageProcessor

from ..config import UserError, first_line
from .chat_templates import chat_template
from .headers import check_whole
from .language import check_head, check_logits, load_language_model
from .layout import read_json
from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .others import MODEL_TYPES, load_others
from .processor import LvlmProcessor, PromptStyle, is_one_token

REPLACED = ("adapter", "branches", "more_towers", "feature_layer", "keep_cls", "video")  # what a config may change of a model that is there
TOKENIZERS = ("tokenizer*", "vocab*", "merges*", "*.model", "*.tiktoken")  # files, one of which every tokenizer has
ENDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def assemble(vision: Mapping[str, Any], text: Mapping[str, Any], **options: Any) -> LvlmForConditionalGeneration:
    """The model of a described tower and language model, each of a checkpoint ({"from": ...}) or random ({"model_type": ...}).

    options: further fields of `LvlmConfig`. Random weights follow torch's seed. UserError for parts that cannot be had or do
    not fit, and for a language model that is more than a decoder and a linear head (see `check_logits`).
    """
    tower, language = load_tower(vision), load_language_model(text)
    more = {name: load_tower(described) for name, described in (options.pop("more_towers", None) or {}).items()}
    config = checked_config(
        vision_config=tower.config, text_config=language.config, more_towers={name: t.config for name, t in more.items()}, **options
    )
    with torch.device("meta"):
        model = LvlmForConditionalGeneration(config)
    check_head(language, type(model.model.language_model))
    model.model.vision_tower, model.model.language_model = tower, language.base_model
    model.lm_head = language.get_output_embeddings()
    model.generation_config = GenerationConfig(**{key: getattr(language.generation_config, key) for key in ENDS})
    for name, further in more.items():
        model.model.more_towers[name] = further
    model.model.adapter = build_adapter(config.adapter, config.token_facts, config.text_config.hidden_size)
    model.tie_weights()
    check_logits(model, language)
    return model


def replace_parts(model: LvlmForConditionalGeneration, **changes: Any) -> LvlmForConditionalGeneration:
    """The same model with what `changes` name replaced: adapter (random weights), branches, layer, further towers.

    An adapter that is not named keeps its weights; UserError where it no longer fits.
    """
    old = model.config
    kept = {key: getattr(old, key) for key in (*REPLACED, "image_token_id", "tie_word_embeddings")}
    more = {name: load_tower(described) for name, described in (changes.get("more_towers") or {}).items()}
    changes |= {"more_towers": old.more_towers | {name: tower.config for name, tower in more.items()}}
    config = checked_config(vision_config=old.vision_config, text_config=old.text_config, **(kept | changes))
    for name, tower in more.items():
        model.model.more_towers[name] = tower
    adapter = build_adapter(config.adapter, config.token_facts, config.text_config.hidden_size)
    if "adapter" not in changes:
        _keep_weights(model.model.adapter, adapter)
    model.model.adapter = adapter.to(model.device, model.dtype)
    model.config = model.model.config = config
    model.set_attn_implementation(old._attn_implementation)
    return model


def _keep_weights(old: nn.Module, new: nn.Module) -> None:
    weights, wanted = old.state_dict(), new.state_dict()
    if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in wanted.items()}:
        raise UserError(
            "the model's adapter does not fit what is now read of a picture: name an `adapter`, which starts from random weights"
        )
    new.load_state_dict(weights)


def checked_config(**fields: Any) -> LvlmConfig:
    """The config, once its adapter fits its towers and its language model. UserError where it does not."""
    try:
        config = LvlmConfig(**fields)
        _ = config.num_image_tokens, config.film_grid  # builds the adapter on the meta device
    except (ValueError, TypeError, IndexError) as error:
        raise UserError(f"the parts of the model do not fit: {error}") from error
    return config


# -- parts -------------------------------------------------------------------------------------------------------------


def load_tower(described: Mapping[str, Any]) -> PreTrainedModel:
    """A vision tower. UserError where it cannot be had."""
    from vision import encoders

    try:
        return encoders.load_tower(dict(described))
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise UserError(f"cannot make the vision tower {dict(described)}: {first_line(error)}") from error


# -- words -------------------------------------------------------------------------------------------------------------


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a folder or hub id. UserError where there is none."""
    folder = Path(name)
    if folder.is_dir() and not any(path for pattern in TOKENIZERS for path in folder.glob(pattern)):
        raise UserError(f"the folder {name} holds no tokenizer (tokenizer.json); name another with `tokenizer`, a folder or a hub id")
    try:
        return AutoTokenizer.from_pretrained(name)
    except (ValueError, OSError) as error:
        raise UserError(f"cannot load the tokenizer of '{name}': {first_line(error)}") from error


def make_processor(
    model: LvlmForConditionalGeneration,
    tokenizer: Any,
    *,
    image_token: str = "<image>",
    prompt_style: PromptStyle | None = None,
    template: str | None = None,
    **pictures: Any,
) -> LvlmProcessor:
    """The processor of an assembled model. The image token is added where the tokenizer lacks it, and the model's embeddings grow with it.

    template: see `chat_template`; without one and without one of the tokenizer's own, prompts are plain. pictures: options of
    `SquareImageProcessor`.
    """
    if not is_one_token(tokenizer, image_token):
        tokenizer.add_tokens([AddedToken(image_token, special=True, normalized=False)], special_tokens=True)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    template = tokenizer.chat_template if template is None else chat_template(template, image_token)
    model.config.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
    return LvlmProcessor(
        SquareImageProcessor(size=model.config.image_size, **pictures),
        tokenizer,
        num_image_tokens=model.config.num_image_tokens,
        image_token=image_token,
        prompt_style=prompt_style or ("plain" if template is None else "chat"),
        chat_template=template,
        video=model.config.video_of_prompts(),
    )


# -- models that are there ---------------------------------------------------------------------------------------------

ModelAndProcessor = tuple[LvlmForConditionalGeneration, LvlmProcessor]


def kind_of(folder: Path) -> str | None:
    """`model_type` of the folder's config.json; None where there is no such file."""
    file = folder / "config.json"
    return str(read_json(file).get("model_type")) if file.is_file() else None


def _ours(folder: Path) -> ModelAndProcessor:
    check_whole(folder)
    try:
        return LvlmForConditionalGeneration.from_pretrained(folder, dtype=torch.float32), LvlmProcessor.from_pretrained(folder)
    except (ValueError, OSError, RuntimeError) as error:
        raise UserError(f"cannot load the model in {folder}: {first_line(error)}") from error


def _others(folder: Path) -> ModelAndProcessor:
    model, processor, _ = load_others(folder, dtype=torch.float32)
    return model, processor


# model_type -> how it is loaded, in float32
LOADERS: dict[str, Callable[[Path], ModelAndProcessor]] = {"mm_align_lvlm": _ours, **dict.fromkeys(MODEL_TYPES, _others)}


def adjusted(
    model: LvlmForConditionalGeneration, processor: LvlmProcessor, style: PromptStyle | None, template: str | None, **pictures: Any
) -> LvlmProcessor:
    """The processor after parts of the model were replaced: number and size of pictures are the model's, the rest as asked or as it was."""
    options = {key: getattr(processor.image_processor, key) for key in ("image_mean", "image_std", "resample", "aspect")} | pictures
    chat = processor.chat_template if template is None else chat_template(template, processor.image_token)
    return LvlmProcessor(
        SquareImageProcessor(size=model.config.image_size, **options),
        processor.tokenizer,
        num_image_tokens=model.config.num_image_tokens,
        image_token=processor.image_token,
        prompt_style=style or (processor.prompt_style if template is None else "chat"),
        chat_template=chat,
        video=model.config.video_of_prompts(),
    )


def picture_constants(name: str) -> dict[str, Any]:
    """Mean and standard deviation of the pixels that a tower's checkpoint was trained with; nothing where it does not say."""
    try:
        found = AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError, ImportError):
        return {}
    return {key: list(getattr(found, key)) for key in ("image_mean", "image_std") if getattr(found, key, None) is not None}

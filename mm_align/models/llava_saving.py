"""Our model written as LLaVA in transformers' layout, where that can hold it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlavaConfig, LlavaForConditionalGeneration

from ..config import UserError
from .layout import mlp_biases, write_json
from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .processor import LvlmProcessor

WRITTEN_TOWERS = ("clip_vision_model", "siglip_vision_model")
PLAIN = (  # prompt_style "plain" as a chat template, for a model that had none
    "{%- for m in messages -%}{%- for p in m['content'] -%}{{- '<image>\\n' if p['type'] == 'image' else p['text'] -}}{%- endfor -%}"
    "{{- eos_token if m['role'] == 'assistant' else '' -}}{%- endfor -%}"
)


def save_llava(model: LvlmForConditionalGeneration, processor: LvlmProcessor, folder: Path) -> list[str]:
    """Writes our model for transformers' LlavaForConditionalGeneration, and says what was written. UserError where that cannot hold it.

    Its adapter has both biases or none: a model whose second Linear has none (AITQE's) gets zeros there, which is the same
    function.
    """
    problems = does_not_fit(model.config)
    if problems:
        raise UserError(f"transformers' LLaVA cannot hold {', '.join(problems)}")
    theirs = {_transformers_name(name): tensor for name, tensor in model.state_dict().items()}
    zeros = [name for name in _meta(to_llava_config(model.config)).state_dict() if name not in theirs]
    theirs |= {name: torch.zeros(model.config.text_config.hidden_size, dtype=model.dtype) for name in zeros}
    written = LlavaForConditionalGeneration.from_pretrained(
        None, config=to_llava_config(model.config), state_dict=theirs, dtype=model.dtype
    )
    written.generation_config = model.generation_config
    written.save_pretrained(folder)
    _save_processor(processor, model.config, folder)
    told = f"{len(theirs)} weights written as transformers' LLaVA"
    return [told + (f", {', '.join(zeros)} as zeros" if zeros else "")]


def does_not_fit(config: LvlmConfig) -> list[str]:
    """What of a model transformers' LLaVA has no place for, in words."""
    adapter = config.adapter
    flags = mlp_biases(adapter)
    plain = adapter.get("type") == "mlp" and adapter.get("depth", 2) == 2
    width = adapter.get("hidden_size") or config.text_config.hidden_size
    problems = [
        f"the adapter {adapter}" if not plain or width != config.text_config.hidden_size or flags[1] > flags[0] else "",
        "several ways to read a picture" if config.branches is not None and len(config.branches) > 1 else "",
        "an explicit branch" if config.branches is not None and len(config.branches) == 1 else "",
        f"a tower of {config.vision_config.library}" if hasattr(config.vision_config, "library") else "",
        f"a {config.vision_config.model_type} tower" if config.vision_config.model_type not in WRITTEN_TOWERS else "",
    ]
    return [problem for problem in problems if problem]


def to_llava_config(config: LvlmConfig) -> LlavaConfig:
    """transformers' config of a model that fits (`does_not_fit`)."""
    drops_class = config.vision_config.model_type == "clip_vision_model" and not config.keep_cls
    return LlavaConfig(
        vision_config=config.vision_config.to_dict(),  # a copy: models write into the configs they are built from
        text_config=config.text_config.to_dict(),
        image_token_index=config.image_token_id,
        image_seq_length=config.num_image_tokens,
        projector_hidden_act=config.adapter.get("act", "gelu"),
        vision_feature_select_strategy="default" if drops_class else "full",
        vision_feature_layer=config.feature_layer,
        multimodal_projector_bias=mlp_biases(config.adapter)[0],
        tie_word_embeddings=bool(config.tie_word_embeddings),
    )


def _transformers_name(ours: str) -> str:
    return ours.replace("model.adapter.", "model.multi_modal_projector.")


def _meta(config: LlavaConfig) -> LlavaForConditionalGeneration:
    with torch.device("meta"):
        return LlavaForConditionalGeneration(config)


def _save_processor(processor: LvlmProcessor, config: LvlmConfig, folder: Path) -> None:
    """The files that AutoProcessor makes transformers' LlavaProcessor of, in versions 4 and 5 alike."""
    tokenizer, pictures = processor.tokenizer, processor.image_processor
    tokenizer.save_pretrained(folder)
    square = {"height": pictures.size, "width": pictures.size}
    squashed = pictures.aspect == "squash"
    shape = {"size": square if squashed else {"shortest_edge": pictures.size}, "crop_size": square, "do_center_crop": not squashed}
    kind = {
        "image_processor_type": "LlavaImageProcessor" if pictures.aspect == "pad" else "CLIPImageProcessor",
        "do_pad": pictures.aspect == "pad",
    }
    look = {"image_mean": pictures.image_mean, "image_std": pictures.image_std, "do_convert_rgb": True}
    scale = {"do_resize": True, "resample": pictures.resample, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}
    write_json(folder / "preprocessor_config.json", {"processor_class": "LlavaProcessor", **kind, **shape, **scale, **look})
    drops_class = to_llava_config(config).vision_feature_select_strategy == "default"
    write_json(
        folder / "processor_config.json",
        {
            "processor_class": "LlavaProcessor",
            "image_token": processor.image_token,
            "patch_size": config.vision_config.patch_size,
            "vision_feature_select_strategy": "default" if drops_class else "full",
            "num_additional_image_tokens": int(config.vision_config.model_type == "clip_vision_model"),
        },
    )
    template = processor.chat_template or tokenizer.chat_template if processor.prompt_style == "chat" else None
    template = template if isinstance(template, str) else PLAIN.replace("<image>", processor.image_token)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")

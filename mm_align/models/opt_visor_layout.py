"""The layout of released Opt-Visor checkpoints (arXiv 2410.13694): its config keys, its weight names, and our model made of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vision.images import SquareImageProcessor

from ..config import UserError
from . import aitqe_layout
from .aitqe_layout import MODEL_TYPE, generation_config, released_tokenizer, text_config_of, vision_config
from .headers import Header, read_headers
from .layout import Loaded, read_json, read_weights
from .lvlm_config import LvlmConfig
from .processor import LvlmProcessor

PROJECTORS = {"mean": False, "mean_after": True}  # our option `after` of the two that pool
# released prefix -> ours; longer ones first [R: modeling_mm.py, projector.py]
PREFIXES = (
    ("mm_projector.linear.0.", "model.adapter.mlp.linear_1."),
    ("mm_projector.linear.2.", "model.adapter.mlp.linear_2."),
    *aitqe_layout.PREFIXES,  # of a projector without pooling too
)
FRAMES = 120  # of the published checkpoint, where config.json does not say
# Its prompt has no turns: the film (or pictures by `image_pattern`), then the question [R: inference.py, process_prompt].
PROMPT = (
    "{%- set ns = namespace(n=0) -%}{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}"
    "{{- ' ' -}}{%- for p in m['content'] -%}{{- p['text'] -}}{%- endfor -%}{{- eos_token -}}"
    "{%- else -%}{%- for p in m['content'] -%}{%- if p['type'] == 'image' -%}{{- IMAGE -}}{%- set ns.n = ns.n + 1 -%}"
    "{%- elif m['role'] == 'user' and p.film is not defined -%}{{- '\\nQuestion: ' + p['text'] + '\\nAnswer:' -}}"
    "{%- else -%}{{- p['text'] -}}"
    "{%- endif -%}{%- endfor -%}{%- endif -%}{%- endfor -%}"
)


def is_opt_visor(written: Mapping[str, Any]) -> bool:
    """Whether a config.json is Opt-Visor's: AITQE's has the same model_type, and neither frames nor a projector that pools."""
    pools = any(word in str(written.get("mm_projector_type")).lower() for word in ("mean", "temp"))
    return written.get("model_type") == MODEL_TYPE and ("frame_pattern" in written or pools)


# Names as AITQE's, with the projector's first: see there.
released_name = partial(aitqe_layout.released_name, prefixes=PREFIXES)
released_shapes = partial(aitqe_layout.released_shapes, prefixes=PREFIXES)
lay_out = partial(aitqe_layout.lay_out, prefixes=PREFIXES)


# -- config ------------------------------------------------------------------------------------------------------------


def to_lvlm_config(released: Mapping[str, Any], headers: Mapping[str, Header] | None = None, folder: Path | None = None) -> LvlmConfig:
    """Our config from the released one. UserError for a projector that the released code does not run either.

    `image_aspect_ratio` is not looked at: the published checkpoint says "anyres_wo_global_tile", which its own code refuses, and its
    frames are squares. Tokens of a frame are those of its data path, ceil(27 / 4)^2 = 49, not of its `num_queries`.
    """
    _check(released)
    kernel, kind = int(released.get("pooling_kernel", 1)), str(released.get("mm_projector_type", "mlp")).lower()
    adapter: dict[str, Any] = {"type": "opt_visor", "kernel": kernel, "after": PROJECTORS.get(kind, False), "edges": "zeros", "act": "silu"}
    if kind == "mlp":
        adapter = {"type": "mlp", "hidden_size": int(released["hidden_size"]), "bias": [True, False], "act": "gelu"}
    config = LvlmConfig(
        vision_config=vision_config(released, headers or {}, folder),
        text_config=text_config_of(released, headers or {}),
        adapter=adapter,
        feature_layer=-2,
        keep_cls=False,
        tie_word_embeddings=bool(released.get("tie_word_embeddings", False)),
        video={
            "sampler": "opt_visor",
            "frames": int(released.get("frame_after_pooling", FRAMES)),
            "times": str(released.get("frame_pattern", "<frame>\n")),
        },
    )
    _check_tokens(released, config)
    return config


def _check(released: Mapping[str, Any]) -> None:
    absent = [key for key in aitqe_layout.REQUIRED_KEYS if key not in released]
    if absent:
        raise UserError(f"the Opt-Visor config lacks {', '.join(absent)} (the misspelling 'pesudo' is the real key)")
    kind = str(released.get("mm_projector_type", "mlp")).lower()
    if kind not in ("mlp", *PROJECTORS):
        raise UserError(
            f"the Opt-Visor config has mm_projector_type {kind!r}; known: mlp, {', '.join(PROJECTORS)} (over time it pools in no code that "
            "runs)"
        )
    if kind == "mlp" and int(released.get("pooling_kernel", 1)) != 1:
        raise UserError(f"the Opt-Visor config has no pooling and a pooling_kernel of {released['pooling_kernel']}")


def _check_tokens(released: Mapping[str, Any], config: LvlmConfig) -> None:
    patches = (int(released["pesudo_img_size"]) // int(released["pesudo_patch_size"])) ** 2
    facts = config.token_facts[0]
    if not facts.total == patches == int(released.get("image_tile_tokens", patches)):
        raise UserError(
            f"the Opt-Visor config disagrees with itself: {patches} patches a frame by its sizes, {released.get('image_tile_tokens')} by "
            f"image_tile_tokens, {facts.total} from the vision tower"
        )


# -- loading -----------------------------------------------------------------------------------------------------------


def load_opt_visor(folder: Path, *, dtype: torch.dtype | None = None) -> Loaded:
    """A checkpoint; `dtype` None keeps the file's. Raises UserError where weights are missing."""
    released, headers = read_json(folder / "config.json"), read_headers(folder)
    config = to_lvlm_config(released, headers, folder)
    processor = opt_visor_processor(folder, released, config)
    model, layout = read_weights(folder, headers, config, lay_out, dtype, what="Opt-Visor")
    model.generation_config = generation_config(folder, released, processor)
    return Loaded(model, processor, layout)


def opt_visor_processor(folder: Path, released: Mapping[str, Any], config: LvlmConfig) -> LvlmProcessor:
    """Squashed to squares, bicubic, mean and std 0.5; the placeholder is the token of `image_token_index`; sets `config.image_token_id`.

    The source keeps frames as JPEG files between decoding and the model; here they go straight in.
    """
    tokenizer = released_tokenizer(folder)
    token = _placeholder(tokenizer, released)
    config.image_token_id = tokenizer.convert_tokens_to_ids(token)
    if config.image_token_id >= config.text_config.vocab_size:
        raise UserError(
            f"the placeholder {token} has id {config.image_token_id}, beyond the {config.text_config.vocab_size} embedding rows"
        )
    return LvlmProcessor(
        SquareImageProcessor(int(released["pesudo_img_size"])),
        tokenizer,
        num_image_tokens=config.num_image_tokens,
        image_token=token,
        prompt_style="chat",
        chat_template=_template(str(released.get("image_pattern") or "<image>\n"), token),
        video=config.video_of_prompts(),
    )


def _placeholder(tokenizer: Any, released: Mapping[str, Any]) -> str:
    """The token that the source puts where a picture stands, before -1 takes its place; a new one where it is no single token."""
    index = released.get("image_token_index")
    token = None if index is None else tokenizer.convert_ids_to_tokens(int(index))
    if token is None or tokenizer(token, add_special_tokens=False)["input_ids"] != [index]:
        token = "<image>"
        tokenizer.add_special_tokens({"additional_special_tokens": [token]}, replace_extra_special_tokens=False)
    return str(token)


def _template(image_pattern: str, token: str) -> str:
    """The prompt with the picture's pattern in it: {} is its number."""
    before, _, after = image_pattern.replace("<image>", token).partition("{}")
    number = " ~ ns.n ~ " + repr(after) if "{}" in image_pattern else ""
    return PROMPT.replace("IMAGE", f"({before!r}{number})")

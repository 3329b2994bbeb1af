"""The layout of released AITQE checkpoints (`HymanH/AITQE`): its config keys, its weight names, and our model made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vision.images import SquareImageProcessor

from ..config import UserError
from .headers import Header, read_headers
from .layout import TEXT_KEYS, Loaded, WeightMap, described_tower, mlp_biases, read_json, read_weights, text_config, write_json
from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .processor import LvlmProcessor

MODEL_TYPE = "mm"
# released prefix -> ours; longer ones first [R: modeling_mm.py, confirmed by file sizes]
Prefixes = tuple[tuple[str, str], ...]  # theirs, ours
PREFIXES: Prefixes = (
    ("model.model.", "model.language_model."),
    ("model.lm_head.", "lm_head."),
    ("vision_model.vision_model.", "model.vision_tower."),
    ("mm_projector.0.", "model.adapter.linear_1."),
    ("mm_projector.2.", "model.adapter.linear_2."),
)
UNUSED = ("image_newline",)  # in the file, never read by the released code, no place in our model
OPTIONAL = ("model.vision_tower.head.", "model.vision_tower.post_layernorm.")  # in our model, never read at layer -2
REQUIRED_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "pesudo_img_size",
    "pesudo_patch_size",
)
# width -> layers, heads, MLP width of the published SigLIP and CLIP towers
SIGLIP = {768: (12, 12, 3072), 1024: (24, 16, 4096), 1152: (27, 16, 4304)}
CLIP = {768: (12, 12, 3072), 1024: (24, 16, 4096)}


# -- names -------------------------------------------------------------------------------------------------------------


def our_name(released: str, prefixes: Prefixes = PREFIXES) -> str | None:
    """`mm_projector.0.bias` -> `model.adapter.linear_1.bias`; None for a weight without a place in our model."""
    return next((ours + released[len(theirs) :] for theirs, ours in prefixes if released.startswith(theirs)), None)


def released_name(ours: str, prefixes: Prefixes = PREFIXES) -> str:
    """The inverse of `our_name`. Raises KeyError for a name that no released checkpoint has."""
    for theirs, prefix in prefixes:
        if ours.startswith(prefix):
            return theirs + ours[len(prefix) :]
    raise KeyError(ours)


def released_shapes(model: LvlmForConditionalGeneration, prefixes: Prefixes = PREFIXES) -> dict[str, tuple[int, ...]]:
    """Every weight of the released file that holds this model, `image_newline` [D] included; a model on the meta device will do."""
    shapes = {released_name(name, prefixes): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return shapes | {"image_newline": (model.config.text_config.hidden_size,)}


def lay_out(released: Iterable[str], ours: Iterable[str], prefixes: Prefixes = PREFIXES) -> WeightMap:
    """Matches the names in a file with those of our model."""
    known = set(ours)
    pairs = {name: our_name(name, prefixes) for name in released}
    mapped = {place: name for name, place in pairs.items() if place in known and place is not None}
    lacking = sorted(known - set(mapped))
    return WeightMap(
        mapped,
        ignored=sorted(name for name in pairs if name in UNUSED),
        absent=[name for name in lacking if name.startswith(OPTIONAL)],
        missing=[name for name in lacking if not name.startswith(OPTIONAL)],
        unknown=sorted(name for name, place in pairs.items() if name not in UNUSED and place not in known),
    )


# -- config ------------------------------------------------------------------------------------------------------------


def to_lvlm_config(released: Mapping[str, Any], headers: Mapping[str, Header] | None = None, folder: Path | None = None) -> LvlmConfig:
    """Our config from the released one (its misspelled keys read from the file, never assumed).

    The tower's kind comes from its own config where `vision_model_name_or_path` is a folder, else from the weights; never from
    the path's name, by which the released code decides. Raises UserError for what the released code could not run either.
    """
    _check(released)
    vision = vision_config(released, headers or {}, folder)
    hidden = int(released["hidden_size"])
    config = LvlmConfig(
        vision_config=vision,
        text_config=text_config_of(released, headers or {}),
        adapter={"type": "mlp", "hidden_size": hidden, "bias": [True, False], "act": "gelu"},
        feature_layer=-2,
        keep_cls=False,
        tie_word_embeddings=bool(released.get("tie_word_embeddings", False)),
    )
    _check_tokens(released, config)
    return config


def _check(released: Mapping[str, Any]) -> None:
    absent = [key for key in REQUIRED_KEYS if key not in released]
    if absent:
        raise UserError(f"the AITQE config lacks {', '.join(absent)} (the misspelling 'pesudo' is the real key)")
    for key, only in (("mm_projector_type", "mlp"), ("image_aspect_ratio", "square"), ("pooling_kernel", 1)):
        if released.get(key, only) != only:
            raise UserError(f"the AITQE config has {key} = {released[key]!r}; the released code and ours know {only!r} only")


def _check_tokens(released: Mapping[str, Any], config: LvlmConfig) -> None:
    expected = (int(released["pesudo_img_size"]) // int(released["pesudo_patch_size"])) ** 2  # the released num_queries
    declared = int(released.get("image_tile_tokens", expected))
    if not config.num_image_tokens == expected == declared:
        raise UserError(
            f"the AITQE config disagrees with itself: {expected} tokens a picture by its sizes, {declared} by image_tile_tokens, "
            f"{config.num_image_tokens} from the vision tower"
        )


def text_config_of(released: Mapping[str, Any], headers: Mapping[str, Header]) -> Any:
    """Qwen2 where the query projection has a bias (or nothing is known), else Llama."""
    layer = "model.model.layers.0.self_attn.q_proj."
    return text_config("llama" if f"{layer}weight" in headers and f"{layer}bias" not in headers else "qwen2", released)


def vision_config(released: Mapping[str, Any], headers: Mapping[str, Header], folder: Path | None) -> dict[str, Any]:
    own = _tower_folder(released, folder)
    described = described_tower(own) if own is not None else _derived_tower(released, headers)
    described |= {"image_size": int(released["pesudo_img_size"]), "patch_size": int(released["pesudo_patch_size"])}
    has_head = "vision_model.vision_model.head.probe" in headers or not headers
    return described | ({"vision_use_head": has_head} if described["model_type"] == "siglip_vision_model" else {})


def _tower_folder(released: Mapping[str, Any], folder: Path | None) -> Path | None:
    """The tower's own folder where `vision_model_name_or_path` names one, by itself or beside the checkpoint's files."""
    name = str(released.get("vision_model_name_or_path") or "")
    places = [Path(name), *([folder / name] if folder else [])] if name else []
    return next((place for place in places if (place / "config.json").is_file()), None)


def _derived_tower(released: Mapping[str, Any], headers: Mapping[str, Header]) -> dict[str, Any]:
    """Sizes from the weights' shapes, the number of heads from the published towers of that width."""
    stem = "vision_model.vision_model."
    clip = f"{stem}embeddings.class_embedding" in headers
    table = CLIP if clip else SIGLIP
    width = int(released.get("visual_hidden_dim", 1152))
    if width not in table:
        raise UserError(
            f"no published {'CLIP' if clip else 'SigLIP'} tower is {width} wide; put the tower's config.json into a folder and name that "
            "folder in vision_model_name_or_path"
        )
    layers, heads, mlp = table[width]
    if headers:
        layers = 1 + max((int(name.split(".")[4]) for name in headers if name.startswith(f"{stem}encoder.layers.")), default=-1)
        mlp = headers[f"{stem}encoder.layers.0.mlp.fc1.weight"].shape[0]
    kind = "clip_vision_model" if clip else "siglip_vision_model"
    return {"model_type": kind, "hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers, "num_attention_heads": heads}


# -- loading -----------------------------------------------------------------------------------------------------------


def load_released(folder: Path, *, dtype: torch.dtype | None = None) -> Loaded:
    """A checkpoint; `dtype` None keeps the file's. Raises UserError where weights are missing."""
    released = read_json(folder / "config.json")
    headers = read_headers(folder)
    config = to_lvlm_config(released, headers, folder)
    processor = released_processor(folder, released, config)
    model, layout = read_weights(folder, headers, config, lay_out, dtype, what="AITQE")
    model.generation_config = generation_config(folder, released, processor)
    return Loaded(model, processor, layout)


def generation_config(folder: Path, released: Mapping[str, Any], processor: LvlmProcessor) -> GenerationConfig:
    file = folder / "generation_config.json"
    written = read_json(file) if file.is_file() else {}
    ends = written.get("eos_token_id", released.get("eos_token_index", released.get("eos_token_id")))
    return GenerationConfig(
        bos_token_id=written.get("bos_token_id"),
        eos_token_id=processor.tokenizer.eos_token_id if ends is None else ends,
        pad_token_id=processor.tokenizer.pad_token_id,
    )


def released_processor(folder: Path, released: Mapping[str, Any], config: LvlmConfig) -> LvlmProcessor:
    """The processor of a released checkpoint, which brings no preprocessor_config.json; sets `config.image_token_id`.

    Pictures: direct bicubic resize, SigLIP's mean and std 0.5 (CLIP's own for a CLIP tower) [R: data_processor.py].
    """
    tokenizer = released_tokenizer(folder)
    token = _image_token(tokenizer, released)
    clip = config.vision_config.model_type == "clip_vision_model"
    look = {"image_mean": OPENAI_CLIP_MEAN, "image_std": OPENAI_CLIP_STD} if clip else {}
    pictures = SquareImageProcessor(int(released["pesudo_img_size"]), **look)
    processor = LvlmProcessor(pictures, tokenizer, num_image_tokens=config.num_image_tokens, image_token=token, prompt_style="plain")
    config.image_token_id = processor.image_token_id
    if processor.image_token_id >= config.text_config.vocab_size:
        raise UserError(
            f"the placeholder {token} has id {processor.image_token_id}, beyond the {config.text_config.vocab_size} rows of the embedding"
        )
    return processor


def released_tokenizer(folder: Path) -> Any:
    """From tokenizer.json, or Qwen2's from vocab.json + merges.txt."""
    if (folder / "tokenizer.json").is_file():
        return PreTrainedTokenizerFast.from_pretrained(folder)
    if not (folder / "vocab.json").is_file() or not (folder / "merges.txt").is_file():
        raise UserError("this AITQE checkpoint has no tokenizer: expected vocab.json and merges.txt (or tokenizer.json) in its folder")
    tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    _check_added(tokenizer, folder)
    return tokenizer


def _check_added(tokenizer: Any, folder: Path) -> None:
    """Added tokens must have the ids that the file declares: they index rows of the embedding."""
    file = folder / "tokenizer_config.json"
    declared = read_json(file).get("added_tokens_decoder", {}) if file.is_file() else {}
    for index, token in declared.items():
        if (found := tokenizer.convert_tokens_to_ids(token["content"])) != int(index):
            raise UserError(
                f"tokenizer_config.json gives {token['content']!r} the id {index}, but it comes out as {found}; is vocab.json whole?"
            )


def _image_token(tokenizer: Any, released: Mapping[str, Any]) -> str:
    """The text of the placeholder token: `image_pattern`, added as special where the tokenizer has no such token.

    The released code puts the id -1 at picture positions, which no embedding table holds; any free token does the same.
    """
    pattern = str(released.get("image_pattern") or "<image>")
    if len(tokenizer(pattern, add_special_tokens=False)["input_ids"]) != 1:
        tokenizer.add_special_tokens({"additional_special_tokens": [pattern]}, replace_extra_special_tokens=False)
    return pattern


# -- saving ------------------------------------------------------------------------------------------------------------


def save_released(model: LvlmForConditionalGeneration, processor: LvlmProcessor, folder: Path) -> list[str]:
    """Writes our model in the released layout, and says what was written; `image_newline` is zeros, since nobody reads it.

    The released code finds the tower's kind by the word "siglip" in its path, so the tower's config goes into `siglip_tower/`.
    Raises UserError for a model that the layout cannot hold.
    """
    config = model.config
    _check_fits(config)
    weights = {released_name(name): tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    weights["image_newline"] = torch.zeros(config.text_config.hidden_size, dtype=model.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _released_config(config, processor))
    write_json(folder / "generation_config.json", {"eos_token_id": model.generation_config.eos_token_id, "_from_model_config": True})
    tower = folder / ("siglip_tower" if config.vision_config.model_type.startswith("siglip") else "clip_tower")
    config.vision_config.save_pretrained(tower)
    processor.tokenizer.save_pretrained(folder)
    return [f"{len(weights)} weights written under their released names, image_newline (never read) as zeros"]


def _check_fits(config: LvlmConfig) -> None:
    if found := does_not_fit(config):
        raise UserError(f"the released AITQE layout cannot hold {', '.join(found)}")


def does_not_fit(config: LvlmConfig) -> list[str]:
    """What of a model the layout has no place for, in words."""
    vision = config.vision_config.model_type
    problems = [
        f"a {vision} tower" if vision not in ("siglip_vision_model", "clip_vision_model") else "",
        f"a {config.text_config.model_type} decoder" if config.text_config.model_type not in ("qwen2", "llama") else "",
        f"the adapter {config.adapter}"
        if config.adapter.get("type") != "mlp" or config.adapter.get("depth", 2) != 2 or mlp_biases(config.adapter) != [True, False]
        else "",
        f"feature layer {config.feature_layer}" if config.feature_layer != -2 else "",
        "a class token among the features" if config.keep_cls else "",
        "several ways to read a picture" if config.branches else "",
    ]
    return [problem for problem in problems if problem]


def _released_config(config: LvlmConfig, processor: LvlmProcessor) -> dict[str, Any]:
    text, vision = config.text_config, config.vision_config
    rope = dict(text.rope_parameters)
    return {key: getattr(text, key) for key in TEXT_KEYS if getattr(text, key, None) is not None} | {
        "architectures": ["MMForCausalLM"],
        "model_type": MODEL_TYPE,
        "rope_theta": rope["rope_theta"],
        "tie_word_embeddings": bool(config.tie_word_embeddings),
        "vision_model_name_or_path": "siglip_tower" if vision.model_type.startswith("siglip") else "clip_tower",
        "mm_projector_type": "mlp",
        "image_aspect_ratio": "square",
        "visual_hidden_dim": vision.hidden_size,
        "pesudo_img_size": vision.image_size,
        "pesudo_patch_size": vision.patch_size,
        "image_tile_tokens": config.num_image_tokens,
        "pooling_kernel": 1,
        "image_token_index": config.image_token_id,
        "image_pattern": processor.image_token,
        "pad_token_index": processor.tokenizer.pad_token_id,
        "eos_token_index": processor.tokenizer.eos_token_id,
        "IGNORE_INDEX": -100,
    }

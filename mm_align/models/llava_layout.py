"""LLaVA-1.5 checkpoints (arXiv 2310.03744), in their authors' layout or transformers', read into our model; `llava_saving.py` writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig, LlavaConfig
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vision.images import SquareImageProcessor

from ..config import UserError, first_line
from . import hub
from .chat_templates import VICUNA
from .headers import Header, load_tensors, read_headers
from .layout import Loaded, WeightMap, described_tower, filled, read_json, text_config
from .lvlm import LvlmForConditionalGeneration
from .lvlm_config import LvlmConfig
from .processor import LvlmProcessor

MODEL_TYPES = ("llava", "llava_llama")
# transformers' names, of version 4 and of version 5 -> ours; the first that fits counts
TRANSFORMERS = (
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("model.language_model.", "model.language_model."),
    ("lm_head.", "lm_head."),
    ("multi_modal_projector.", "model.adapter."),
    ("model.multi_modal_projector.", "model.adapter."),
    ("vision_tower.", "model.vision_tower."),
    ("model.vision_tower.", "model.vision_tower."),
)
# the authors' names -> ours [R: haotian-liu/LLaVA, llava/model/llava_arch.py, multimodal_projector/builder.py]
ORIGINAL = (("model.vision_tower.vision_tower.", "model.vision_tower."), ("lm_head.", "lm_head."), ("model.", "model.language_model."))
PROJECTOR = re.compile(r"model\.mm_projector\.(?:(\d+)\.)?(weight|bias)")
BUFFERS = (".position_ids", ".rotary_emb.inv_freq")  # older files hold them; they are computed
OPTIONAL = ("model.vision_tower.post_layernorm.", "model.vision_tower.head.")  # in our model, never read below the last layer
ROWS = 64  # embeddings grow to a multiple of it, as in llava-hf's conversion
CLIP_LARGE = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
TOWERS = {"clip-vit-large-patch14-336": CLIP_LARGE | {"image_size": 336}, "clip-vit-large-patch14": CLIP_LARGE | {"image_size": 224}}


def is_llava(written: Mapping[str, Any]) -> bool:
    """Whether a config.json is one of LLaVA's, of either layout."""
    return written.get("model_type") in MODEL_TYPES


def is_original(written: Mapping[str, Any]) -> bool:
    """Whether it is the authors' layout, which transformers cannot read although it has the same model_type."""
    return is_llava(written) and "text_config" not in written and "mm_vision_tower" in written


# -- names -------------------------------------------------------------------------------------------------------------


def our_name(theirs: str, *, original: bool) -> str | None:
    """`model.mm_projector.2.bias` -> `model.adapter.linear_2.bias`; None for a name of neither layout."""
    if original and (found := PROJECTOR.fullmatch(theirs)):
        return f"model.adapter.linear_{int(found[1] or 0) // 2 + 1}.{found[2]}"  # activations count too
    prefixes = ORIGINAL if original else TRANSFORMERS
    ours = next((ours + theirs[len(prefix) :] for prefix, ours in prefixes if theirs.startswith(prefix)), None)
    return None if ours is None else _tower_name(ours)


def _tower_name(ours: str) -> str:
    return ours.replace("model.vision_tower.vision_model.", "model.vision_tower.")  # version 4's wrapper around the tower


def lay_out(theirs: Iterable[str], ours: Iterable[str], *, original: bool) -> WeightMap:
    """Matches the names in a file with those of our model."""
    known = set(ours)
    pairs = {name: our_name(name, original=original) for name in theirs}
    mapped = {place: name for name, place in pairs.items() if place in known and place is not None}
    lacking = sorted(known - set(mapped))
    return WeightMap(
        mapped,
        ignored=sorted(name for name in pairs if name.endswith(BUFFERS)),
        absent=[name for name in lacking if name.startswith(OPTIONAL)],
        missing=[name for name in lacking if not name.startswith(OPTIONAL)],
        unknown=sorted(name for name, place in pairs.items() if place not in known and not name.endswith(BUFFERS)),
    )


# -- config ------------------------------------------------------------------------------------------------------------


def to_lvlm_config(written: Mapping[str, Any], folder: Path | None = None) -> LvlmConfig:
    """Our config from either layout's. UserError for what is no LLaVA-1.5.

    The authors' file names its tower: described in a folder of that name (as it stands, inside or beside the checkpoint), or
    one of OpenAI's CLIP-L/14. Its vocabulary stays as it is here; see `load_llava` for the image token.
    """
    if not is_llava(written):
        raise UserError(f"the config has model_type {written.get('model_type')!r}; expected LLaVA-1.5's ({' or '.join(MODEL_TYPES)})")
    return _from_original(written, folder) if is_original(written) else _from_transformers(written)


def _from_transformers(written: Mapping[str, Any]) -> LvlmConfig:
    config = LlavaConfig.from_dict(dict(written))
    if not isinstance(config.vision_feature_layer, int):
        raise UserError(f"this LLaVA joins the tower's layers {config.vision_feature_layer}; ours reads one")
    has_class = config.vision_config.model_type == "clip_vision_model"
    keeps_all = config.vision_feature_select_strategy == "full"
    if not keeps_all and not has_class:
        raise UserError(f"this LLaVA drops the first token of a {config.vision_config.model_type} tower, which is a patch; ours cannot")
    return LvlmConfig(
        vision_config=config.vision_config,
        text_config=config.text_config,
        adapter={"type": "mlp", "bias": bool(config.multimodal_projector_bias), "act": config.projector_hidden_act},
        feature_layer=config.vision_feature_layer,
        keep_cls=has_class and keeps_all,
        image_token_id=config.image_token_index,
        tie_word_embeddings=bool(config.tie_word_embeddings),
    )


def _from_original(written: Mapping[str, Any], folder: Path | None) -> LvlmConfig:
    _check_original(written)
    own = tower_folder(written, folder)
    name = Path(str(written["mm_vision_tower"])).name
    if own is None and name not in TOWERS:
        raise UserError(f"the vision tower {name!r} is not described anywhere; put its folder (with config.json) beside the checkpoint")
    return LvlmConfig(
        vision_config=described_tower(own) if own is not None else dict(TOWERS[name]),
        text_config=text_config("llama", written),
        adapter={"type": "mlp", "bias": True, "depth": _depth(written)},
        feature_layer=int(written.get("mm_vision_select_layer", -2)),
        keep_cls=written.get("mm_vision_select_feature", "patch") == "cls_patch",
        tie_word_embeddings=bool(written.get("tie_word_embeddings", False)),
    )


def _check_original(written: Mapping[str, Any]) -> None:
    makers = written.get("architectures") or ["LlavaLlamaForCausalLM"]
    problems = [
        f"the architecture {makers[0]}" if makers[0] != "LlavaLlamaForCausalLM" else "",
        f"pictures in tiles (image_aspect_ratio {written['image_aspect_ratio']})" if _tiled(written) else "",
        "picture start and end tokens (mm_use_im_start_end)" if written.get("mm_use_im_start_end") else "",
        f"a resampler ({written['mm_resampler_type']})" if written.get("mm_resampler_type") else "",
    ]
    if found := [problem for problem in problems if problem]:
        raise UserError(f"this LLaVA checkpoint has {' and '.join(found)}; expected LLaVA-1.5: Llama, one picture one grid, an MLP between")


def _tiled(written: Mapping[str, Any]) -> bool:
    return "anyres" in str(written.get("image_aspect_ratio")) or str(written.get("mm_patch_merge_type") or "flat") != "flat"


def _depth(written: Mapping[str, Any]) -> int:
    """How many Linear layers `mm_projector_type` has."""
    kind = str(written.get("mm_projector_type") or "linear")
    found = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if kind != "linear" and not found:
        raise UserError(f"this LLaVA checkpoint has mm_projector_type {kind!r}; known: linear and mlpNx_gelu")
    return int(found[1]) if found else 1


def tower_folder(written: Mapping[str, Any], folder: Path | None) -> Path | None:
    """The folder of the tower that the authors' config names: that path, or its last part inside or beside the checkpoint."""
    named = Path(str(written["mm_vision_tower"]))
    places = [named, *([folder / named.name, folder.resolve().parent / named.name] if folder else [])]
    return next((place for place in places if (place / "config.json").is_file()), None)


# -- loading -----------------------------------------------------------------------------------------------------------


def load_llava(folder: Path, *, dtype: torch.dtype | None = None) -> Loaded:
    """A checkpoint of either layout; `dtype` None keeps the file's. UserError where it is not whole or no LLaVA-1.5.

    The authors' files have no image token (their code puts -200 in its place) and mostly no tower. The tower's weights come from its
    own folder, or from the hub by the name in the config. `<image>` becomes the next free token; embedding and head grow to
    hold it, as in llava-hf's conversion, but by the mean row: nothing reads it, and its logit never is the largest.
    """
    written = read_json(folder / "config.json")
    config, headers = to_lvlm_config(written, folder), read_headers(folder)
    processor = llava_processor(folder, written, config)
    original, rows = is_original(written), config.text_config.vocab_size
    weights = {**headers, **_tower_headers(folder, written, headers)}
    with torch.device("meta"):
        layout = lay_out(weights, LvlmForConditionalGeneration(config).state_dict(), original=original)
    if config.tie_word_embeddings:
        layout = layout._replace(missing=[name for name in layout.missing if name != "lm_head.weight"])
    if layout.missing:
        raise UserError("this LLaVA checkpoint is not whole: " + "; ".join(layout.lines()))
    config.image_token_id = processor.image_token_id
    config.text_config.vocab_size = rows if processor.image_token_id < rows else -(-(processor.image_token_id + 1) // ROWS) * ROWS
    model = filled(
        config,
        _grown(dict(_weights(folder, written, headers, layout)), config.text_config.vocab_size),
        layout.absent,
        dtype or headers[next(name for name in headers if our_name(name, original=original) in layout.mapped)].dtype,
    )
    model.generation_config = _generation_config(folder, written, processor)
    return Loaded(model, processor, layout)


def _tower_headers(folder: Path, written: Mapping[str, Any], headers: Mapping[str, Header]) -> dict[str, Header]:
    """What the tower's own files hold, under the names it would have in the authors' file; nothing where that holds a tower."""
    if not is_original(written) or any(name.startswith("model.vision_tower.") for name in headers):
        return {}
    found = read_headers(_tower_files(folder, written))
    return {_in_original(name): header for name, header in found.items() if _of_tower(name, found)}


def _tower_files(folder: Path, written: Mapping[str, Any]) -> Path:
    own = tower_folder(written, folder)
    return own if own is not None else hub.snapshot(str(written["mm_vision_tower"]))


def _of_tower(name: str, names: Iterable[str]) -> bool:
    """A file may hold a whole CLIP: then the tower is what stands under vision_model."""
    whole = any(other.startswith("text_model.") for other in names)
    return name.startswith("vision_model.") if whole else True


def _in_original(name: str) -> str:
    return f"model.vision_tower.vision_tower.vision_model.{name.removeprefix('vision_model.')}"


def _weights(
    folder: Path, written: Mapping[str, Any], headers: Mapping[str, Header], layout: WeightMap
) -> Iterable[tuple[str, torch.Tensor]]:
    """Our names and the tensors, from the checkpoint and, for what it lacks, from the tower's files."""
    ours = {theirs: place for place, theirs in layout.mapped.items()}
    yield from ((ours[name], tensor) for name, tensor in load_tensors(folder, ours.keys() & headers.keys()))
    apart = ours.keys() - headers.keys()
    if apart:
        own = _tower_files(folder, written)
        names = {name: ours[_in_original(name)] for name in read_headers(own) if _in_original(name) in apart}
        yield from ((names[name], tensor) for name, tensor in load_tensors(own, names))


def _grown(weights: dict[str, torch.Tensor], rows: int) -> dict[str, torch.Tensor]:
    """Embedding and head with as many rows, the new ones the mean of the old."""
    for name in ("model.language_model.embed_tokens.weight", "lm_head.weight"):
        if name in weights and (more := rows - len(weights[name])) > 0:
            mean = weights[name].float().mean(0, keepdim=True).to(weights[name].dtype)
            weights[name] = torch.cat([weights[name], mean.expand(more, -1)])
    return weights


def _generation_config(folder: Path, written: Mapping[str, Any], processor: LvlmProcessor) -> GenerationConfig:
    file = folder / "generation_config.json"
    own = read_json(file) if file.is_file() else {}
    text = written.get("text_config", written)
    ends = own.get("eos_token_id", text.get("eos_token_id"))
    return GenerationConfig(
        bos_token_id=own.get("bos_token_id", text.get("bos_token_id")),
        eos_token_id=processor.tokenizer.eos_token_id if ends is None else ends,
        pad_token_id=processor.tokenizer.pad_token_id,
    )


# -- words and pictures ------------------------------------------------------------------------------------------------


def llava_processor(folder: Path, written: Mapping[str, Any], config: LvlmConfig) -> LvlmProcessor:
    """The processor of a checkpoint folder; `<image>` is added where its tokenizer has no such token.

    Prompts follow the folder's chat template, which gets the begin token that its tokenizer adds by itself, or else LLaVA-1.5's
    ("USER: ... ASSISTANT:", vicuna_v1). Pictures are padded where `image_aspect_ratio` or the folder's settings say so, else cut to their
    middle square, as CLIP's own processor does [R: llava/mm_utils.py, process_images].
    """
    tokenizer = _tokenizer(folder)
    if len(tokenizer("<image>", add_special_tokens=False)["input_ids"]) != 1:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]}, replace_extra_special_tokens=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    token_id = tokenizer.convert_tokens_to_ids("<image>")
    if config.image_token_id not in (None, token_id):
        raise UserError(f"config.json gives <image> the id {config.image_token_id}, its tokenizer {token_id}; do they belong together?")
    return LvlmProcessor(
        _pictures(folder, written, config),
        tokenizer,
        num_image_tokens=config.num_image_tokens,
        image_token="<image>",
        prompt_style="chat",
        chat_template=_template(folder, tokenizer),
    )


def _tokenizer(folder: Path) -> Any:
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"cannot read the tokenizer in {folder.name}: {first_line(error)}") from error


def _template(folder: Path, tokenizer: Any) -> str:
    found = tokenizer.chat_template
    for file in ("chat_template.jinja", "chat_template.json"):
        if (folder / file).is_file():
            found = (folder / file).read_text(encoding="utf-8") if file.endswith("jinja") else read_json(folder / file)["chat_template"]
            break
    if not isinstance(found, str):
        return VICUNA
    starts = tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return "{{- bos_token -}}" + found if starts and "bos_token" not in found else found


def _pictures(folder: Path, written: Mapping[str, Any], config: LvlmConfig) -> SquareImageProcessor:
    """As the folder's own settings say, else those of the tower's kind."""
    own: dict[str, Any] = {}
    for file in ("processor_config.json", "preprocessor_config.json"):
        if (folder / file).is_file():
            own |= read_json(folder / file).get("image_processor", {}) or read_json(folder / file)
    clip = config.vision_config.model_type == "clip_vision_model"
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if clip else ([0.5] * 3, [0.5] * 3)
    look = {"image_mean": own.get("image_mean") or mean, "image_std": own.get("image_std") or std}
    return SquareImageProcessor(config.image_size, **look, aspect=_aspect(written, own), resample=own.get("resample") or 3)


def _aspect(written: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    if own.get("do_pad") or written.get("image_aspect_ratio") == "pad":
        return "pad"
    return "squash" if own.get("do_center_crop") is False and "height" in (own.get("size") or {}) else "crop"

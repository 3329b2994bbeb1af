"""The model that `mmalign train` trains, and its processor: loaded, or assembled of parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import UserError

if TYPE_CHECKING:
    from ..models import LvlmForConditionalGeneration, LvlmProcessor
    from .train_config import ModelConfig

OURS, LLAVA = "mm_align_lvlm", ("llava", "llava_llama")


def build(config: ModelConfig, seed: int) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    """Model and processor in float32; new weights follow `seed`. UserError where they cannot be had or do not fit."""
    from transformers import set_seed

    from ..models.bars import hide_bars_without_terminal

    hide_bars_without_terminal()
    set_seed(seed)
    return _assembled(config) if config.from_ is None else _there(config, config.from_)


# -- of parts ----------------------------------------------------------------------------------------------------------


def _assembled(config: ModelConfig) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    from ..models import assembly

    vision, text = _placed(config.vision or {}), _placed(config.text or {})
    name = config.tokenizer or text.get("from")
    if name is None:
        raise UserError("a language model with random weights needs `model.tokenizer`: a folder, a hub id or a bundled model's name")
    tokenizer = assembly.load_tokenizer(place_of(name))
    if "from" not in text:
        text = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id} | text
    options = changes_of(config)
    more = {key: _placed(tower) for key, tower in options.pop("more_towers", {}).items()}
    model = assembly.assemble(vision, text, more_towers=more, **options)
    processor = assembly.make_processor(
        model,
        tokenizer,
        image_token=config.image_token,
        prompt_style=config.prompt_style,
        template=config.chat_template,
        **_pictures(config, model.config.vision_config, vision.get("from")),
    )
    return model, processor


def _pictures(config: ModelConfig, vision: Any, tower: str | None) -> dict[str, Any]:
    """How pictures become pixels: what the config says, else what the tower's checkpoint says, else SigLIP's constants."""
    from ..models import assembly

    stated = {key: value for key in ("image_mean", "image_std") if (value := getattr(vision, key, None)) is not None}  # timm's, open_clip's
    return (stated or (assembly.picture_constants(tower) if tower else {})) | _given_pictures(config)


def _given_pictures(config: ModelConfig) -> dict[str, Any]:
    given = {"image_mean": config.image_mean, "image_std": config.image_std, "aspect": config.aspect}
    return {key: value for key, value in given.items() if value is not None}


def changes_of(config: ModelConfig) -> dict[str, Any]:
    """The fields of the model's own config that are given."""
    given = {key: getattr(config, key) for key in ("adapter", "branches", "more_towers", "feature_layer", "keep_cls")}
    return {key: value for key, value in given.items() if value is not None}


def _placed(described: dict[str, Any]) -> dict[str, Any]:
    if "from" not in described or described.get("library", "transformers") != "transformers":
        return described  # timm's and open_clip's names are theirs to understand
    return described | {"from": place_of(described["from"])}


def place_of(name: str) -> str:
    """Where a named model is: the folder of a bundled one, else the name itself. UserError for a folder that is not there."""
    from ..backends.load import find_name

    scheme, place = find_name(name)
    if scheme != "hf":
        raise UserError(f"'{name}' has no weights to train; give a folder, a hub id or a bundled model's name")
    if not Path(place).is_dir() and (place.startswith((".", "/", "~")) or place.count("/") > 1):
        raise UserError(f"no folder {place}; give a folder with config.json, a hub id (owner/name) or a bundled model's name")
    return place


# -- one that is there -------------------------------------------------------------------------------------------------


def _there(config: ModelConfig, name: str) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    from ..models import assembly

    model, processor = _loaded(place_of(name), config.revision)
    changes = changes_of(config)
    if changes:
        more = {key: _placed(tower) for key, tower in changes.pop("more_towers", {}).items()}
        model = assembly.replace_parts(model, **changes, **({"more_towers": more} if more else {}))
    return model, assembly.adjusted(model, processor, config.prompt_style, config.chat_template, **_given_pictures(config))


def _loaded(place: str, revision: str | None) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    from ..models import assembly, hub

    folder = Path(place) if Path(place).is_dir() else hub.snapshot(place, revision)
    kind = assembly.kind_of(folder)
    if kind not in assembly.LOADERS:
        raise UserError(
            f"'{place}' holds a {kind or 'folder without config.json'}; training starts from a model of this toolkit ({OURS}), LLaVA "
            f"({', '.join(LLAVA)}) or released AITQE (mm). For another architecture give `model.vision` and `model.text`."
        )
    return assembly.LOADERS[kind](folder)

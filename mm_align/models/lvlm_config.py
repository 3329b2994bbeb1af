"""The config of the vision-language model: which towers, how they read a picture, which adapter and language model."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig

from vision.adapters import build_adapter
from vision.branches import Branch, facts, side
from vision.encoders import tower_config
from vision.tokens import TokenFacts, VisualTokens

from .video_settings import VideoSettings


class LvlmConfig(PreTrainedConfig):
    """Config of `LvlmForConditionalGeneration`.

    vision_config: any transformers vision config (object or dict with "model_type"), or {"library": "timm"|"open_clip",
    "name": ..., "kwargs": {...}}. text_config: any transformers config of a causal language model. adapter: {"type": ...,
    options} of `vision.adapters`. feature_layer, keep_cls: see `vision.encoders.Encoder`. image_token_id: the real token
    that stands for one visual token. tie_word_embeddings: copied from the text config when None; this top flag decides.
    branches: dicts of `vision.branches.Branch`, for a model that reads a picture in several ways (an adapter of several
    inputs); None: one branch with feature_layer and keep_cls. more_towers: name -> vision config, for branches that name them.
    video: a dict of `VideoSettings`, how films are shown; None: its defaults.
    """

    model_type = "mm_align_lvlm"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    vision_config: Any = None
    text_config: Any = None
    adapter: Any = None
    feature_layer: int = -2
    keep_cls: bool = False
    image_token_id: int | None = None
    tie_word_embeddings: bool | None = None
    branches: Any = None
    more_towers: Any = None
    video: Any = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = tower_config(self.vision_config or {"model_type": "siglip_vision_model"})
        self.text_config = _text_config(self.text_config or {"model_type": "qwen2"})
        self.adapter = dict(self.adapter or {"type": "mlp"})
        self.more_towers = {name: tower_config(tower).to_dict() for name, tower in (self.more_towers or {}).items()}
        self.branches = None if self.branches is None else [self._described(branch) for branch in self.branches]
        self.video = None if self.video is None else VideoSettings.of(self.video).to_dict()
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        self.text_config.tie_word_embeddings = self.tie_word_embeddings
        super().__post_init__(**kwargs)

    def _described(self, branch: dict[str, Any] | Branch) -> dict[str, Any]:
        """A branch with its size written out; ValueError for a key or a tower that there is not."""
        given = asdict(branch) if isinstance(branch, Branch) else dict(branch)
        unknown = sorted(set(given) - set(Branch.__dataclass_fields__))
        if unknown:
            raise ValueError(f"a branch has no '{unknown[0]}'; known: {', '.join(Branch.__dataclass_fields__)}")
        made = Branch(**given)
        towers = self.tower_configs
        if made.tower not in towers:
            raise ValueError(f"a branch names the tower '{made.tower}'; the model has {', '.join(towers)} (see more_towers)")
        return asdict(replace(made, image_size=side(made, towers[made.tower])))

    @property
    def tower_configs(self) -> dict[str, PreTrainedConfig]:
        """The config of every tower by the name that branches use."""
        return {"vision_tower": self.vision_config} | {name: tower_config(tower) for name, tower in self.more_towers.items()}

    @property
    def ways(self) -> list[Branch]:
        """How the towers read a picture: the configured branches, or the one of `feature_layer` and `keep_cls`."""
        if self.branches is None:
            return [Branch(layer=self.feature_layer, keep_cls=self.keep_cls)]
        return [Branch(**branch) for branch in self.branches]

    @property
    def token_facts(self) -> list[TokenFacts]:
        """What each branch gives the adapter. ValueError for a size that does not fit its tower."""
        towers = self.tower_configs
        return [facts(branch, towers[branch.tower]) for branch in self.ways]

    @property
    def num_image_tokens(self) -> int:
        """How many placeholders one picture takes."""
        with torch.device("meta"):  # no memory for weights
            return build_adapter(self.adapter, self.token_facts, self.text_config.hidden_size).tokens_out()

    @property
    def film_grid(self) -> tuple[int, int] | None:
        """Rows and columns of the tokens that a reducer of films works on; None without one. ValueError where they have no places."""
        settings = VideoSettings.of(self.video)
        if settings.reducer is None:
            return None
        facts = self.token_facts
        if settings.at == "tower":
            grid: tuple[int, int] | None = facts[0].grid if len(facts) == 1 and not facts[0].prefix else None
        else:
            with torch.device("meta"):
                adapter = build_adapter(self.adapter, facts, self.text_config.hidden_size)
                given = [VisualTokens.full(torch.empty(1, f.total, f.width), f.grid, prefix=f.prefix) for f in facts]
                made = adapter(*given)
            grid = made.grid if not made.prefix else None
        if grid is None:
            raise ValueError(
                f"films cannot be reduced at the {settings.at}: its tokens are no grid of one branch's patches; choose another adapter or "
                "`at`, or set keep_cls to False"
            )
        return grid

    def video_of_prompts(self) -> dict[str, Any]:
        """What a processor has to know of `video`: the settings and the grid."""
        return VideoSettings.of(self.video).to_dict() | {"grid": self.film_grid}

    @property
    def image_size(self) -> int:
        """Side of the square pictures that the model reads, in pixels: that of its largest branch."""
        towers = self.tower_configs
        return max(side(branch, towers[branch.tower]) for branch in self.ways)


def _text_config(described: PreTrainedConfig | dict[str, Any]) -> PreTrainedConfig:
    if isinstance(described, PreTrainedConfig):
        return described
    options = dict(described)
    return AutoConfig.for_model(options.pop("model_type", "qwen2"), **options)

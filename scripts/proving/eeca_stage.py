"""The stage of the EECA runs: a world's entities, frozen encoder and LLM, and its pictures read once, all kept in a folder."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from eeca_clip import embed_names, embed_pictures, train_clip
from eeca_facts import fact_accuracy, train_llm
from eeca_runs import Features, World, new_model, read_features, world_of
from eeca_world import Pictures, build_tokenizer, general_pictures, landmark_pictures, together
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, CLIPModel

from data_tools.disk.durable import put_in_place
from data_tools.scenes.entities import SPEC, landmarks
from vision.knowledge import Knowledge, measure, split


@dataclass(frozen=True)
class Scale:
    """How much of everything; `QUICK` is for a look at whether it runs."""

    clip_steps: int = 1200
    llm_steps: int = 900
    train_each: int = 20  # pictures of a landmark for the adapter
    test_each: int = 3
    general: int = 1500
    general_test: int = 100
    families: int = 18


QUICK = Scale(clip_steps=3, llm_steps=3, train_each=3, test_each=1, general=40, general_test=4, families=3)


class Seen(NamedTuple):
    """Pictures, what the tower read, and what the encoder knows of each landmark picture (in the order of the landmark pictures)."""

    pictures: Pictures
    features: Features
    knowledge: Knowledge
    split: list[str]


class Stage:
    """One world in `folder`; everything is made on first use and loaded afterwards."""

    def __init__(self, folder: Path, world: int, scale: Scale) -> None:
        self.folder, self.number, self.scale = folder, world, scale
        self._kept: dict[str, Seen] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self.entities = landmarks(world)[: scale.families * SPEC["siblings"]]
        self.known = self._known()
        self.tokenizer = build_tokenizer((self.entities,))
        self.clip = self._clip()
        self.llm = self._llm()
        self.world: World = world_of(self.entities, self.tokenizer, world)

    def _known(self) -> list[int]:
        """The entities the encoder is trained on: half of each family."""
        rng, n = random.Random(f"known-{self.number}"), SPEC["siblings"]
        return sorted(k for f in range(0, len(self.entities), n) for k in rng.sample(range(f, f + n), n // 2))

    def _clip(self) -> CLIPModel:
        folder = self.folder / "clip"
        if not (folder / "model.safetensors").is_file():
            train_clip(self.entities, self.known, self.tokenizer, self.number, self.scale.clip_steps).save_pretrained(folder)
        return CLIPModel.from_pretrained(folder).eval()

    def _llm(self) -> Any:
        folder = self.folder / "llm"
        if not (folder / "model.safetensors").is_file():
            train_llm(self.entities, self.tokenizer, self.number, self.scale.llm_steps).save_pretrained(folder)
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def model(self, high: bool, seed: int) -> Any:
        return new_model(self.clip.vision_model, self.llm, self.tokenizer.convert_tokens_to_ids("<image>"), high, seed)

    def train_pictures(self) -> Seen:
        """Of every entity, known or not, and general scenes."""
        return self._seen("train", self.scale.train_each, self.scale.general, "train")

    def test_pictures(self, seed: int) -> Seen:
        """Fresh ones for every seed; general scenes of a split that no training sees."""
        return self._seen(f"test-{seed}", self.scale.test_each, self.scale.general_test, "heldout")

    def _seen(self, name: str, each: int, general: int, split_of_scenes: str) -> Seen:
        if name not in self._kept:
            self._kept[name] = self._made(name, each, general, split_of_scenes)
        return self._kept[name]

    def _made(self, name: str, each: int, general: int, split_of_scenes: str) -> Seen:
        key = f"{self.number}-{name}"
        drawn = landmark_pictures(self.entities, list(range(len(self.entities))), each, key)
        knowledge = self._knowledge(drawn)
        pictures = together(drawn, general_pictures(general, split_of_scenes, key))
        return Seen(pictures, self._features(name, pictures), knowledge, split(knowledge))

    def _features(self, name: str, pictures: Pictures) -> Features:
        file = self.folder / f"features-{name}.safetensors"
        if not file.is_file():
            temporary = file.with_name(f".{os.getpid()}-{file.name}")  # two processes may share the folder
            save_file(read_features(self.model(True, 0).eval(), pictures.pixels)._asdict(), temporary)
            put_in_place(temporary, file)
        return Features(**load_file(file))

    def _knowledge(self, pictures: Pictures) -> Knowledge:
        names = embed_names(self.clip, self.tokenizer, [e.name for e in self.entities])
        images = torch.cat([embed_pictures(self.clip, pictures.pixels[i : i + 256]) for i in range(0, len(pictures.pixels), 256)])
        return measure(images, names, torch.from_numpy(np.asarray(pictures.entities)))

    def facts_by_name(self) -> dict[str, float]:
        """The premise: how many facts the LLM answers from the name alone, before any picture; of known and unknown entities."""
        told = {"all": fact_accuracy(self.llm, self.tokenizer, self.entities)}
        for part, inside in (("trained encoder names", True), ("other entities", False)):
            chosen = tuple(e for k, e in enumerate(self.entities) if (k in self.known) == inside)
            told[part] = fact_accuracy(self.llm, self.tokenizer, chosen)
        return told

    def told(self) -> dict[str, Any]:
        """What a reader should know of this world: premise, split, similarity of the encoder."""
        seen = self.test_pictures(0)
        trained = np.isin(seen.pictures.entities[seen.pictures.entities >= 0], self.known)
        rank = seen.knowledge.rank.numpy()
        return {
            "world": self.number,
            "entities": len(self.entities),
            "facts_by_name": self.facts_by_name(),
            "split_of_seed_0": {part: seen.split.count(part) for part in ("known", "uncertain", "unknown")},
            "rank_1": {"trained": float((rank[trained] == 1).mean()), "others": float((rank[~trained] == 1).mean())},
            "unknown_of_untrained": float(np.mean([s == "unknown" for s, t in zip(seen.split, trained, strict=True) if not t])),
        }


def write_json(file: Path, what: Any) -> None:
    """Whole or not at all."""
    temporary = file.with_name(f".{os.getpid()}-{file.name}")
    temporary.write_text(json.dumps(what) + "\n", encoding="utf-8")
    put_in_place(temporary, file)

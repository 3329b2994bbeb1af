"""The zoo's small tokenizers: byte-level BPE in which each word of SceneWorld and each piece of AITQE's JSON is one token."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from data_tools.aitqe.parser import ASPECTS, TITLES, render
from data_tools.aitqe.prompt import AITQE_TEMPLATE
from data_tools.scenes.opinion import opinion
from data_tools.scenes.questions import questions
from data_tools.scenes.rows import captioned_scene

SPECIAL = ("<pad>", "<eos>", "<image>")
WORDS = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]|\s"


def json_pieces() -> list[str]:
    """What stands between the words of an answer and of the prompt. `{"` is a piece of its own, so that the keep/rewrite
    decision falls on the second token, as with the released model's vocabulary."""
    keys = [f'", "{TITLES[a]} Score": ' for a in ASPECTS] + [f', "{TITLES[a]} Explanation": "' for a in ASPECTS]
    head, tail = AITQE_TEMPLATE.split("{caption}")
    return [
        *keys, '", "Overall Score": "', ' "Overall Explanation": "', '<Overall>",', '{"', "Recaption", "Overall", ' Score": "',
        '": "', '"}', head.rstrip(), tail,
    ]  # fmt: skip


def build_tokenizer(corpus: Iterable[str], pieces: Sequence[str] = ()) -> PreTrainedTokenizerFast:
    """Train one on `corpus`; `pieces` are never joined with what stands beside them."""
    pattern = "|".join([re.escape(p).replace("\\ ", " ") for p in sorted(pieces, key=len, reverse=True)] + [WORDS])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        min_frequency=30,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def aitqe_corpus(size: int = 12_000) -> Iterator[str]:
    """SceneWorld's captions, answers and questions, seeded."""
    rng = random.Random("zoo-tokenizer")
    for _ in range(size):
        made = captioned_scene(rng, "train")
        yield AITQE_TEMPLATE.replace("{caption}", made.text)
        yield made.text
        yield render(opinion(made))
        yield from (f"{q['question']} {q['answer']}" for q in questions(made.scene, rng))

"""Models of transformers in this process: answers and log-probabilities for samples, in micro-batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from data_tools.calls import Decision, Sampling
from data_tools.records import Response, Sample

from .beams import beam_search, check_beams
from .branches import common_prefix, find_branches
from .decoding import Answer, Decoder, Scorer
from .judge import Judge
from .loading import Loaded, load_model
from .micro_batches import MicroBatches, auto_size
from .prompts import append, assert_left_padded
from .stops import StopMatcher

log = logging.getLogger(__name__)


class TransformersBackend:
    """Generate, Likelihood and Decide over any image-text model of transformers.

    Greedy unless asked otherwise; the generation settings stored with a model are not applied. Sampled tokens depend on
    (seed, sample id, candidate), not on the batch. A prompt too long for the model gets an empty answer marked truncated
    (its continuations get NaN), so that one row cannot end a run.
    """

    faces = frozenset({"generate", "likelihood", "decide"})

    def __init__(self, loaded: Loaded, batch_size: int | str = "auto") -> None:
        self.model = loaded.model.eval()
        self.prompts = loaded.prompts
        self.tokenizer = loaded.prompts.tokenizer
        self.name = loaded.name
        self.loaded = loaded
        self.auto = batch_size == "auto"
        self.batches = MicroBatches(auto_size(self.model, self.model.device) if self.auto else int(batch_size))
        text = self.model.config.get_text_config()
        self.longest: int = getattr(text, "max_position_embeddings", None) or 1 << 30
        self._judge: Judge | None = None

    @property
    def batch_size(self) -> int:
        """Samples in one forward now (n rows each while n candidates are drawn); smaller after memory ran out."""
        return self.batches.size

    def describe(self) -> dict[str, Any]:
        """Model and revision (hub commit, or the first 16 hex digits of the weights' sha256)."""
        return {"model": self.name, "revision": self.loaded.revision()}

    # -- answers -----------------------------------------------------------------------------------------------------

    def generate(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]:
        """`sampling.n` responses a sample, sample-major. Text is decoded without special tokens and stripped, as upstream does.

        `tokens` counts the answer's tokens with the forced prefix and without the end token; `logprob` is their sum
        under the unscaled model, the end token's included and the prefix's not; beam search tells none.
        """
        if sampling.beams > 1:
            return self._beamed(samples, sampling)
        stops = StopMatcher(self.tokenizer, sampling.stop)
        branches = find_branches(self.tokenizer, sampling.branches)
        prefix = self._ids(sampling.prefix)
        fitting, order = self._fitting(samples, sampling.max_tokens + len(prefix))

        def work(chunk: Sequence[Sample]) -> list[list[Answer]]:
            decoder = Decoder(sampling, [s.id for s in chunk], prefix, branches, stops)
            answers = self._run(chunk, decoder, prefix, sampling.max_tokens)
            return [answers[i : i + sampling.n] for i in range(0, len(answers), sampling.n)]

        most = auto_size(self.model, self.model.device, rows=sampling.n) if self.auto and sampling.n > 1 else None
        found = dict(zip(order, self.batches.run(fitting, work, most), strict=True))
        settings = sampling.to_dict()
        nothing = [Answer([], 0.0, {}, True)] * sampling.n
        return [self._response(s, j, a, settings) for i, s in enumerate(samples) for j, a in enumerate(found.get(i, nothing))]

    def _beamed(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]:
        check_beams(sampling)
        fitting, order = self._fitting(samples, sampling.max_tokens)

        def work(chunk: Sequence[Sample]) -> list[Answer]:
            return beam_search(self.model, self.prompts.encode(chunk), sampling, self.loaded.ends, self.prompts.pad_id())

        most = auto_size(self.model, self.model.device, rows=sampling.beams) if self.auto else None
        found = dict(zip(order, self.batches.run(fitting, work, most), strict=True))
        settings, nothing = sampling.to_dict(), Answer([], None, {}, True)
        return [self._response(sample, 0, found.get(i, nothing), settings) for i, sample in enumerate(samples)]

    def _response(self, sample: Sample, j: int, answer: Answer, settings: dict[str, Any]) -> Response:
        text = self.tokenizer.decode(answer.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        return Response(
            f"{sample.id}:{j}",
            sample.id,
            text,
            self.name,
            settings,
            answer.logprob if answer.tokens else None,
            answer.branches,
            len(answer.tokens),
            answer.truncated,
        )

    # -- log-probabilities -------------------------------------------------------------------------------------------

    def likelihood(
        self, samples: Sequence[Sample], continuations: Sequence[Sequence[str]], *, ended: bool = False, temperature: float = 1.0
    ) -> list[list[tuple[float, ...]]]:
        """Log-probability of each token of each continuation; those of one sample share one prefill. See `data_tools.calls.Likelihood`.

        Tokens that all continuations of the call begin with are scored inside the prefill, so two short branches cost
        one forward when they part at their last token. Raises ValueError for an empty continuation.
        """
        if len(samples) != len(continuations):
            raise ValueError(f"{len(samples)} samples but {len(continuations)} lists of continuations")
        ids = [[self._continuation(s, text, ended) for text in texts] for s, texts in zip(samples, continuations, strict=True)]
        flat = [row for rows in ids for row in rows]
        common = self._shared(flat)
        fitting, order = self._fitting(samples, max(map(len, flat), default=0))
        items = [(sample, [row[len(common) :] for row in ids[i]]) for i, sample in zip(order, fitting, strict=True)]

        def work(chunk: Sequence[tuple[Sample, list[list[int]]]]) -> list[list[tuple[float, ...]]]:
            scorer = Scorer(common, [rests for _, rests in chunk], rows_at_once=max(len(chunk), 16), temperature=temperature)
            result: list[list[tuple[float, ...]]] = self._run([sample for sample, _ in chunk], scorer, common, 1)
            return result

        found = dict(zip(order, self.batches.run(items, work), strict=True))
        return [found[i] if i in found else [(math.nan,) * len(row) for row in rows] for i, rows in enumerate(ids)]

    def _continuation(self, sample: Sample, text: str, ended: bool) -> list[int]:
        ids: list[int] = self.prompts.answer_ids(sample, text) if ended and text.strip() else self._ids(text)
        if not ids:
            raise ValueError(f"a continuation must hold at least one token, got {text!r}")
        return ids

    @staticmethod
    def _shared(rows: list[list[int]]) -> list[int]:
        """What all rows begin with, short of the last token of any."""
        return common_prefix([row[:-1] for row in rows])

    # -- yes or no ---------------------------------------------------------------------------------------------------

    def decide(self, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]:
        """Yes or no to each question, asked behind one prefill of its sample's pictures.

        Raises UserError where the tokenizer has no single token for yes or for no.
        """
        if self._judge is None:
            self._judge = Judge(self.model, self.prompts, self.batches, self.longest, self._inside)
        return self._judge.decide(samples, questions)

    # -- one forward -------------------------------------------------------------------------------------------------

    def _run(self, samples: Sequence[Sample], loop: Any, tail: Sequence[int], max_tokens: int) -> Any:
        return self._inside(append(self.prompts.encode(samples), tail), loop, len(tail) + 1, max_tokens)

    def _inside(self, inputs: dict[str, torch.Tensor], loop: Any, keep: int = 1, max_tokens: int = 1) -> Any:
        """What `loop` returns from inside the model's `generate`; the prefill gives logits at the last `keep` positions."""
        assert_left_padded(inputs["attention_mask"])
        device, dtype = self.model.device, self.model.dtype
        moved = {k: v.to(device, dtype if v.is_floating_point() else None) for k, v in inputs.items()}
        extra = {"logits_to_keep": keep} if self.model._supports_logits_to_keep() else {}
        config = GenerationConfig(
            max_new_tokens=max(max_tokens, 1),
            eos_token_id=self.loaded.ends,
            pad_token_id=self.tokenizer.pad_token_id,
            use_cache=True,
            do_sample=False,
        )
        return self.model.generate(**moved, generation_config=config, custom_generate=loop, **extra)

    def _fitting(self, samples: Sequence[Sample], more: int) -> tuple[list[Sample], list[int]]:
        """Samples whose prompt fits the model with `more` tokens behind it, long ones first, and their places."""
        lengths = {i: self._length(sample, self.longest - more) for i, sample in enumerate(samples)}
        order = sorted((i for i in lengths if lengths[i] + more <= self.longest), key=lambda i: -lengths[i])
        if len(order) < len(samples):
            log.warning(
                "%d of %d prompts are too long for the model (%d tokens) and get no answer",
                len(samples) - len(order),
                len(samples),
                self.longest,
            )
        return [samples[i] for i in order], order

    def _length(self, sample: Sample, room: int) -> int:
        """An upper bound of the prompt's tokens (its bytes), or their count where the bound does not fit in `room`."""
        text = "".join(part.text for message in sample.messages for part in message.parts)
        pictures = self.prompts.room(sample)
        size = len(text.encode("utf-8", "replace"))
        return pictures + (size if pictures + size <= room else len(self._ids(text)))

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False) if text else []
        return ids


def load(name: str, *, batch_size: int | str = "auto", endpoint: object = None, **settings: Any) -> TransformersBackend:
    """The backend over `name`, a local folder or a hub id; see `load_backend`. It is no endpoint."""
    return TransformersBackend(load_model(name, **settings), batch_size)

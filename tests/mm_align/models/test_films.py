"""Films in models: frames with the text around them, every reducer inside a model that runs, batches that equal single films."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Sample
from mm_align.backends.loading import Loaded, prompts_for
from mm_align.backends.transformers_ import TransformersBackend
from mm_align.models import collate, collate_packs
from mm_align.models.chat_templates import VICUNA
from mm_align.models.films import Filmed, filmed
from mm_align.models.lvlm_config import LvlmConfig
from mm_align.models.video_settings import VideoSettings
from video.tokens import REDUCERS, build_reducer

LARGE = {"branches": [{"image_size": 32}]}  # 4 x 4 patches
KEEPS: dict[str, dict[str, Any]] = {  # options with which sixteen tokens a frame become fewer
    "average_pool": {"kernel": 3}, "diff_fp": {"threshold": 20.0}, "dycoke": {}, "fastvid": {"keep": 0.3, "cuts": 3},
    "grid_sample": {}, "holitom": {"keep": 0.3}, "llava_pool": {}, "prumerge": {"keep": 3, "neighbours": 4},
    "prunevid": {"small": 4, "segments": 0.5},
    "temporal_pool": {}, "tome": {"keep": 5}, "vidcom2": {}, "visionzip": {"dominant": 3, "contextual": 2},
}  # fmt: skip


def question(text: str, *paths: Path, pictures: tuple[Any, ...] = ()) -> Sample:
    parts = [Part("image") for _ in pictures] + [Part("video") for _ in paths] + [Part("text", text)]
    images = [Image(pixels=one) for one in pictures] + [Image(path=str(path)) for path in paths]
    return Sample(text, (Message("user", tuple(parts)),), tuple(images))


def backend_of(make_model: Any, make_processor: Any, video: dict[str, Any], style: str = "plain", **changes: Any) -> TransformersBackend:
    model = make_model(video=video, **(LARGE | changes))
    template = {"prompt_style": "chat", "chat_template": VICUNA} if style == "chat" else {}
    processor = make_processor(num_image_tokens=model.config.num_image_tokens, video=model.config.video_of_prompts(), **template)
    processor.image_processor.size = 32
    loaded = Loaded(model, prompts_for(processor), "tiny", lambda: "r", [processor.tokenizer.eos_token_id])
    return TransformersBackend(loaded, batch_size=4)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory, painted: Any) -> Path:
    path: Path = painted.write(tmp_path_factory.mktemp("film") / "other.mp4", range(500, 545))
    return path


# -- prompts -----------------------------------------------------------------------------------------------------------


def test_frames_stand_in_the_prompt_with_their_times(make_model: Any, make_processor: Any, film: Path) -> None:
    """Two seconds at 30 a second, three frames: middles of thirds are 1/3, 1 and 5/3 s, frames 10, 30 and 50."""
    backend = backend_of(make_model, make_processor, {"frames": 3, "times": "seconds"})
    processor = backend.prompts.processor
    sample = filmed(question("why?", film), processor)
    assert isinstance(sample, Filmed)
    assert len(sample.images) == 3
    assert sample.films[0].tokens == [16] * 3
    ids = backend.prompts.ids(sample)
    mark = [processor.image_token_id] * 16
    words = [processor.text_ids(text) for text in ("<0.3 seconds>", "<1.0 seconds>", "<1.7 seconds>", "\nwhy?")]
    assert ids == [*words[0], *mark, *words[1], *mark, *words[2], *mark, *words[3]]


def test_the_frames_are_those_asked_for(make_model: Any, make_processor: Any, film: Path, painted: Any) -> None:
    backend = backend_of(make_model, make_processor, {"frames": 4, "sampler": "linspace"})
    sample = filmed(question("?", film), backend.prompts.processor)
    assert [painted.read(np.asarray(image.pixels).transpose(2, 0, 1)) for image in sample.images] == [0, 19, 39, 59]


def test_a_film_in_a_chat_template(make_model: Any, make_processor: Any, film: Path) -> None:
    """What the template writes stays; control tokens count in the style's text, and in a question they are plain letters."""
    backend = backend_of(make_model, make_processor, {"frames": 2, "times": "[{}<image><frame>]"}, "chat")
    processor = backend.prompts.processor
    ids = backend.prompts.ids(question("what <image>?", film))
    assert ids.count(processor.image_token_id) == 2 * 16 + 2
    text = processor.tokenizer.decode([i for i in ids if i != processor.image_token_id])
    assert "USER: [0][1]what <image>? ASSISTANT:" in text


def test_labels_fall_on_the_answer_behind_a_film(make_model: Any, make_processor: Any, film: Path) -> None:
    for style in ("plain", "chat"):
        backend = backend_of(make_model, make_processor, {"frames": 2}, style)
        asked = question("colour?", film)
        sample = Sample("s", (*asked.messages, Message("assistant", (Part("text", "red"),), trains=True)), asked.images)
        batch = collate([sample], backend.prompts.processor, for_training=True)
        trained = batch["labels"][batch["labels"] != -100].tolist()
        assert backend.tokenizer.decode(trained).strip() in ("red<eos>", "red")
        assert torch.isfinite(backend.model(**batch).loss)


# -- reducers in a model that runs -------------------------------------------------------------------------------------


def by_hand(backend: TransformersBackend, sample: Sample, reducer: Any, at: str) -> torch.Tensor:
    """The next token's logits: frames through the tower, the reducer, embeddings laid end to end without any padding or placeholder."""
    from vision.encoders.attended import read_attended
    from vision.tokens import VisualTokens

    model, processor = backend.model, backend.prompts.processor
    shown = filmed(sample, processor)
    pixels = processor.image_processor([image.pixels for image in shown.images], return_tensors="pt")["pixel_values"]
    tower = model.tower_features(pixels)[0]
    attended = read_attended(model.model.encoder, pixels).attended
    seen = {"attention": attended.attention, "keys": attended.keys, "pixels": pixels}
    if at == "tower":
        made = reducer(tower.features, tower.grid, **seen)
        tokens = model.model.adapter(VisualTokens.full(made.features[None], None)).features[0]
    else:
        given = model.model.adapter(tower)
        made = reducer(given.features, given.grid, **seen)
        tokens = made.features
    counts, pieces, at_token = made.counts(len(shown.images)), [], 0
    table = model.get_input_embeddings()
    for (before, after), count in zip(shown.films[0].text.frames, counts, strict=True):
        pieces += [table(torch.tensor(processor.text_ids(before), dtype=torch.long)), tokens[at_token : at_token + count]]
        pieces += [table(torch.tensor(processor.text_ids(after), dtype=torch.long))]
        at_token += count
    pieces.append(table(torch.tensor(processor.text_ids(shown.films[0].text.tail + sample.messages[0].parts[-1].text))))
    return model(inputs_embeds=torch.cat(pieces)[None]).logits[0, -1]


@pytest.mark.parametrize("at", ["adapter", "tower"])
@pytest.mark.parametrize("name", REDUCERS)
@torch.no_grad()
def test_every_reducer_runs_inside_a_model(
    name: str, at: str, make_model: Any, make_processor: Any, film: Path, other: Path, picture: Any
) -> None:
    """The model's answer is that of the reduced tokens alone, and the same in a batch with another film and a picture."""
    described = {"type": name} | KEEPS[name]
    backend = backend_of(make_model, make_processor, {"frames": 6, "reducer": described, "at": at})
    samples = [question("what?", film), question("which colour is it?", other), question("and?", pictures=(picture(1),))]
    alone = [backend.generate([sample], Sampling(max_tokens=3))[0] for sample in samples]
    together = backend.generate(samples, Sampling(max_tokens=3))
    for one, many in zip(alone, together, strict=True):
        assert one.text == many.text
        assert one.logprob == pytest.approx(many.logprob, abs=1e-4)
    first = backend.generate(samples[:1], Sampling(max_tokens=1))[0]
    logits = by_hand(backend, samples[0], build_reducer(described), at)
    assert first.logprob == pytest.approx(logits.log_softmax(-1).max().item(), abs=1e-4)


@torch.no_grad()
def test_fewer_tokens_reach_the_language_model(make_model: Any, make_processor: Any, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """VidCom2 keeps a quarter of 6 x 16 tokens and does not know of which frame before it runs: the prompt loses the others."""
    lengths = {}
    for name, reducer in (("whole", None), ("vidcom2", {"type": "vidcom2"}), ("pool", {"type": "average_pool", "kernel": 4})):
        backend = backend_of(make_model, make_processor, {"frames": 6, "reducer": reducer, "times": "none"})
        seen: list[int] = []
        decoder = backend.model.model.language_model
        monkeypatch.setattr(
            decoder, "forward", lambda *a, f=decoder.forward, s=seen, **k: s.append(k["inputs_embeds"].shape[1]) or f(*a, **k)
        )
        backend.generate([question("?", film)], Sampling(max_tokens=1))
        lengths[name] = seen[0]
    words = len("\n?")
    assert lengths["whole"] == 96 + words
    assert lengths["pool"] == 6 + words
    assert 20 + words <= lengths["vidcom2"] <= 28 + words


@torch.no_grad()
def test_plain_generate_keeps_the_length_of_its_prompt(make_model: Any, make_processor: Any, film: Path) -> None:
    """transformers' own loop with a reducer that shortens prompts: answers still begin behind the prompt that was given."""
    backend = backend_of(make_model, make_processor, {"frames": 6, "reducer": {"type": "vidcom2"}})
    inputs = backend.prompts.encode([question("what?", film), question("why is it so?", film)])
    made = backend.model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert made.shape[0] == 2
    answers = backend.generate([question("what?", film), question("why is it so?", film)], Sampling(max_tokens=3))
    for row, answer in zip(made[:, inputs["input_ids"].shape[1] :], answers, strict=True):
        assert backend.tokenizer.decode(row, skip_special_tokens=True).strip() == answer.text
    beams = backend.model.generate(**inputs, max_new_tokens=2, num_beams=2, do_sample=False)
    assert beams.shape[0] == 2


def answered(asked: Sample, text: str) -> Sample:
    return Sample(asked.id, (*asked.messages, Message("assistant", (Part("text", text),), trains=True)), asked.images)


@pytest.mark.parametrize("name", ["diff_fp", "fastvid", "holitom", "prunevid", "vidcom2"])
def test_training_sees_what_generate_sees(name: str, make_model: Any, make_processor: Any, film: Path, other: Path) -> None:
    """Reducers whose number shows when they run, in a batch, in a pack, and with the answer right behind a frame's dropped placeholders:
    what comes next is as likely as in `generate`, whose prompts lose those placeholders. The adapter learns."""
    backend = backend_of(make_model, make_processor, {"frames": 6, "times": "none", "reducer": {"type": name} | KEEPS[name]})
    processor, model = backend.prompts.processor, backend.model
    asked = [question("what?", film), question("", other), question("which colour is it?", other, film)]
    told = [backend.generate([one], Sampling(max_tokens=1))[0].logprob for one in asked]
    rows = [answered(one, "red") for one in asked]
    batch = collate(rows, processor, for_training=True)
    with torch.no_grad():
        groups = model.model.film_groups(batch["clips"], batch["pixel_values"], None, batch.get("picture_index"))
        assert any(group.kept != group.offered for group in groups)
        pack = collate_packs([rows[:2], rows[2:]], processor)
        likely = model(**batch).logits.log_softmax(-1).max(-1).values
        packed = model(**pack).logits.log_softmax(-1).max(-1).values
    firsts = [int((line != -100).nonzero()[0]) for line in batch["labels"]]
    assert [likely[row, at - 1].item() for row, at in enumerate(firsts)] == pytest.approx(told, abs=1e-4)
    begins = [(0, 0), (0, int(batch["attention_mask"][0].sum())), (1, 0)]
    assert [packed[row, at + first - 1].item() for (row, at), first in zip(begins, firsts, strict=True)] == pytest.approx(told, abs=1e-4)
    model(**batch).loss.backward()
    assert model.model.adapter.linear_1.weight.grad.abs().sum() > 0


def test_what_shortened_rows_do_not_take_is_said(make_model: Any, make_processor: Any, film: Path) -> None:
    backend = backend_of(make_model, make_processor, {"frames": 6, "reducer": {"type": "vidcom2"}})
    batch = collate([answered(question("what?", film), "red")], backend.prompts.processor, for_training=True)
    square = torch.ones(1, 1, *[batch["input_ids"].shape[1]] * 2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"give an attention_mask \[B, L\], or position_ids of packs"):
        backend.model(**batch | {"attention_mask": square})


def test_gradients_reach_the_adapter_through_a_reducer(make_model: Any, make_processor: Any, film: Path, picture: Any) -> None:
    """A picture and two films that share frames in one batch: distinct frames run once, the loss is that of each row alone."""
    backend = backend_of(make_model, make_processor, {"frames": 4, "reducer": {"type": "tome", "keep": 5}})
    asked = question("colour?", film, pictures=(picture(3),))
    rows = [
        Sample(str(i), (*asked.messages, Message("assistant", (Part("text", text),), trains=True)), asked.images)
        for i, text in enumerate(("red", "green it is"))
    ]
    batch = collate(rows, backend.prompts.processor, for_training=True)
    assert batch["clips"].tolist() == [[1, 4], [6, 4]]
    loss = backend.model(**batch).loss
    loss.backward()
    assert backend.model.model.adapter.linear_1.weight.grad.abs().sum() > 0
    with torch.no_grad():
        sizes = [int((collate([row], backend.prompts.processor, for_training=True)["labels"][:, 1:] != -100).sum()) for row in rows]
        single = [float(backend.model(**collate([row], backend.prompts.processor, for_training=True)).loss) for row in rows]
    assert loss.item() == pytest.approx(np.average(single, weights=sizes), abs=1e-5)


# -- configs and mistakes ----------------------------------------------------------------------------------------------


def test_settings_are_saved_with_model_and_processor(make_model: Any, make_processor: Any, film: Path, tmp_path: Path) -> None:
    from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor

    video = {"frames": 5, "times": "seconds", "reducer": {"type": "grid_sample", "stride": 2}}
    backend = backend_of(make_model, make_processor, video)
    backend.model.save_pretrained(tmp_path)
    backend.prompts.processor.save_pretrained(tmp_path)
    model, processor = LvlmForConditionalGeneration.from_pretrained(tmp_path), LvlmProcessor.from_pretrained(tmp_path)
    assert model.config.video == backend.model.config.video
    assert processor.video_settings == VideoSettings.of(video)
    assert processor.film_grid == (4, 4)
    assert processor.fingerprint() == backend.prompts.processor.fingerprint()
    assert filmed(question("?", film), processor).films[0].tokens == [4] * 5


def test_a_model_that_says_nothing_of_films_shows_eight_frames(make_model: Any, make_processor: Any, film: Path) -> None:
    backend = TransformersBackend(Loaded(make_model(), prompts_for(make_processor()), "tiny", lambda: "r", [0]), 2)
    assert len(filmed(question("?", film), backend.prompts.processor).images) == 8
    assert backend.generate([question("?", film)], Sampling(max_tokens=1))[0].tokens <= 1


def test_mistakes_are_told(make_model: Any, make_processor: Any, tmp_path: Path, tokenizer: Any) -> None:
    from mm_align.config import UserError

    for video, said in (
        ({"frame": 3}, "no key 'frame'; did you mean 'frames'"),
        ({"sampler": "every"}, "unknown sampler"),
        ({"frames": 0}, "at least 1 frame"),
        ({"times": "clock"}, "unknown style"),
        ({"reducer": {"type": "tomes"}}, "did you mean 'tome'"),
        ({"at": "end"}, "at is 'adapter' or 'tower'"),
    ):
        with pytest.raises(ValueError, match=said):
            LvlmConfig(video=video)
    with pytest.raises(ValueError, match="no grid of one branch"):
        _ = make_model(adapter={"type": "resampler", "num_tokens": 2, "heads": 2}, video={"reducer": {"type": "tome"}}).config.film_grid
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    backend = backend_of(make_model, make_processor, {})
    with pytest.raises(UserError, match="video"):
        backend.generate([question("?", tmp_path / "no.mp4")], Sampling(max_tokens=1))
    with pytest.raises(UserError, match="is no file"):
        backend.generate([question("?", tmp_path / "absent.mp4")], Sampling(max_tokens=1))

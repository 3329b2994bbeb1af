"""Training data: real formats in, bad rows out with a reason, the same batches again after a stop."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from data_tools.io import SourceError
from data_tools.records import Image, Message, Part, Sample
from mm_align.config import UserError, load
from mm_align.train.data import Collator, TrainingSet, training_set
from mm_align.train.sources import Source

IMAGE, EOS = 258, 256
Turn = dict[str, str]


def talk(*turns: str) -> list[Turn]:
    return [{"from": "gpt" if i % 2 else "human", "value": text} for i, text in enumerate(turns)]


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[[int], PIL.Image.Image]) -> Path:
    """Pictures 0.png to 4.png; broken.png has the start of a PNG only."""
    for i in range(5):
        picture(i).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    return tmp_path


@pytest.fixture
def make(folder: Path, processor: Any) -> Callable[..., TrainingSet]:
    def make(
        rows: list[dict[str, Any]] | None, name: str = "data.json", source: dict[str, Any] | None = None, **options: Any
    ) -> TrainingSet:
        if rows is not None:
            (folder / name).write_text(json.dumps(rows))
        sources = [load(Source, {"path": str(folder / name), **(source or {})})]
        settings = {"max_length": 64, "quarantine": folder / "out" / "quarantine.jsonl", "shuffle": False}
        return training_set(sources, options.pop("processor", processor), **(settings | options))

    return make


def gone(folder: Path) -> list[tuple[int, str]]:
    lines = (folder / "out" / "quarantine.jsonl").read_text().splitlines()
    return [(line["source"]["row"], line["reason"]) for line in map(json.loads, lines)]


def decoded(processor: Any, ids: torch.Tensor) -> str:
    return processor.tokenizer.decode(ids[ids != IMAGE])


class TestFormats:
    def test_llava_json(self, make: Callable[..., TrainingSet], processor: Any) -> None:
        """A file as LLaVA's: one array; pictures by path, "<image>" in the first turn, two rounds, a row of text alone."""
        rows = [
            {"id": "0001", "image": "0.png", "conversations": talk("<image>\nWhat?", "A cat.", "Colour?", "Red.")},
            {"id": "0002", "conversations": talk("Hi", "Hello")},
        ]
        data = make(rows)
        batch = Collator(processor)([data[0], data[1]])
        assert batch["pixel_values"].shape == (1, 3, 16, 16)
        assert (batch["input_ids"] == IMAGE).sum(1).tolist() == [4, 0]
        trained = [decoded(processor, row[row != -100]) for row in batch["labels"]]
        assert trained == ["A cat.<eos>Red.<eos>", "Hello<eos>"]
        assert decoded(processor, batch["input_ids"][0]) == "\nWhat?A cat.<eos>Colour?Red.<eos>"

    def test_hf_messages(self, folder: Path, make: Callable[..., TrainingSet], processor: Any) -> None:
        """A dataset of `save_to_disk`: list content, several pictures in one turn, pictures embedded."""
        import datasets

        content = [
            {"type": "image", "text": None},
            {"type": "text", "text": "or"},
            {"type": "image", "text": None},
            {"type": "text", "text": "?"},
        ]
        answer = [{"type": "text", "text": "second"}]
        row = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]}
        pictures = [str(folder / "1.png"), str(folder / "2.png")]
        made = datasets.Dataset.from_list([row | {"images": pictures}]).cast_column("images", datasets.List(datasets.Image()))
        made.save_to_disk(folder / "hf")
        data = make(None, "hf")
        batch = Collator(processor)([data[0]])
        assert batch["pixel_values"].shape == (2, 3, 16, 16)
        assert decoded(processor, batch["input_ids"][0]) == "\nor\n?second<eos>"

    def test_our_records(self, folder: Path, make: Callable[..., TrainingSet], processor: Any) -> None:
        messages = (Message("user", (Part("image"), Part("text", "q"))), Message("assistant", (Part("text", "a"),), trains=True))
        record = Sample("r", messages, (Image(path="3.png"),), meta={"entity": {"name": "n", "levels": ["x", None]}}).to_dict()
        (folder / "ours.jsonl").write_text(json.dumps(record) + "\n")
        data = make(None, "ours.jsonl")
        assert data[0].sample.messages == messages
        assert data[0].sample.meta == {"entity": {"name": "n", "levels": ["x", None]}}

    def test_captions_as_in_llava_pretraining(self, make: Callable[..., TrainingSet], processor: Any) -> None:
        """No instruction: the picture, a newline, the caption."""
        batch = Collator(processor)([make([{"image": "0.png", "caption": "a dot"}])[0]])
        assert decoded(processor, batch["input_ids"][0]) == "\na dot<eos>"
        assert decoded(processor, batch["labels"][0][batch["labels"][0] != -100]) == "a dot<eos>"

    def test_captions_with_instructions(self, make: Callable[..., TrainingSet]) -> None:
        """One of several is drawn by the id: the same for the same seed, and each comes up."""
        rows = [{"id": str(i), "image": "0.png", "caption": "c"} for i in range(40)]
        drawn = [
            [s.messages[0].parts[1].text for s in make(rows, source={"prompt": ["A", "B"]}, seed=seed).samples()] for seed in (0, 0, 1)
        ]
        assert drawn[0] == drawn[1] != drawn[2]
        assert 10 < drawn[0].count("A") < 30

    def test_other_fields_reach_the_objective(self, make: Callable[..., TrainingSet]) -> None:
        data = make([{"image": "0.png", "conversations": talk("q", "a"), "entity": {"name": "n", "levels": ["x"]}}])
        assert next(data.samples()).meta == {"entity": {"name": "n", "levels": ["x"]}}
        assert data[0].sample.meta["entity"]["name"] == "n"

    def test_limit_and_nothing_readable(self, folder: Path, make: Callable[..., TrainingSet]) -> None:
        assert len(make([{"conversations": talk("q", "a")}] * 5, source={"limit": 2})) == 2
        with pytest.raises(SourceError, match="No such file or folder"):
            make(None, "absent.json")

    def test_a_misspelt_key_is_named(self) -> None:
        with pytest.raises(UserError, match=r"unknown key 'wieght'; did you mean 'weight'\?"):
            load(Source, {"path": "x", "wieght": 2})


GOOD = {"conversations": talk("q", "a")}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no assistant turn": ({"conversations": talk("q")}, "no_answer"),
    "an empty answer": ({"conversations": talk("q", " ")}, "no_answer"),
    "an empty caption": ({"image": "0.png", "caption": ""}, "no_answer"),
    "a file that is not there": ({"image": "9.png", "conversations": talk("<image>\nq", "a")}, "image_missing"),
    "a URL": ({"image": "https://x.org/a.png", "conversations": talk("<image>\nq", "a")}, "image_missing"),
    "two places, one picture": ({"image": "0.png", "conversations": talk("<image><image>\nq", "a")}, "image_count"),
    "a place, no picture": ({"conversations": talk("<image>\nq", "a")}, "image_count"),
    "too long": ({"conversations": talk("q", "a" * 64)}, "too_long"),
    "a video": ({"messages": [{"role": "user", "content": [{"type": "video"}]}, {"role": "assistant", "content": "a"}]}, "image_count"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "q"}, {"role": "assistant", "content": "a"}]}, "conversation_type"),
    "a conversation that is text": ({"image": "0.png", "conversations": '[{"from": "human"}]'}, "conversation_type"),
    "neither": ({"other": 1}, "missing_caption"),
}


class TestQuarantine:
    @pytest.mark.parametrize("case", BAD)
    def test_a_bad_row_leaves_with_its_reason(self, case: str, folder: Path, make: Callable[..., TrainingSet]) -> None:
        row, reason = BAD[case]
        data = make([GOOD, row, GOOD])
        assert gone(folder) == [(1, reason)]
        assert len(data) == 2
        assert data.report["sources"][0]["reasons"] == {reason: 1}
        assert f"2 of 3 rows, 6 tokens, 100.0% of an epoch; quarantined: 1 {reason}" in data.summary()

    def test_the_sentence_says_both_numbers(self, folder: Path, make: Callable[..., TrainingSet]) -> None:
        make([GOOD, {"image": "0.png", "conversations": talk("<image> <image>\nq", "a")}])
        line = json.loads((folder / "out" / "quarantine.jsonl").read_text())
        assert line["detail"] == "the conversation places 2 pictures, the row has 1"
        assert line["path"] == str(folder / "data.json")

    def test_a_template_may_refuse_a_row(self, folder: Path, make: Callable[..., TrainingSet], make_processor: Callable[..., Any]) -> None:
        refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        strict = refuse + "{% for m in messages %}{{ m.content }}{% endfor %}"
        row = {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
        make([GOOD, row], processor=make_processor(prompt_style="chat", chat_template=strict))
        assert gone(folder) == [(1, "chat_template")]

    def test_too_long_may_be_cut_but_not_through_a_picture(self, folder: Path, make: Callable[..., TrainingSet], processor: Any) -> None:
        """64 tokens: text at the end is cut; a picture behind the limit, or only a question within it, make the row leave."""
        late = {"image": "0.png", "conversations": talk("q" * 62 + "<image>", "a")}
        rows = [{"conversations": talk("q", "a" * 100)}, late, {"conversations": talk("q" * 70, "a")}]
        data = make(rows, too_long="cut")
        batch = Collator(processor)([data[0]])
        assert batch["input_ids"].shape == (1, 64)
        assert (batch["labels"] != -100).sum() == 63
        assert gone(folder) == [(1, "too_long"), (2, "too_long")]
        assert "1 cut at their end" in data.summary()

    def test_a_picture_that_breaks_later(self, folder: Path, make: Callable[..., TrainingSet], processor: Any) -> None:
        """Found when it is read: the next row stands in for its row, every time, and the quarantine has one line of it."""
        rows = [{"image": f"{name}.png", "conversations": talk("<image>\nq", name)} for name in ("0", "broken", "2")]
        data = make(rows)
        assert gone(folder) == []
        assert [data[i].sample.messages[1].parts[0].text for i in (0, 1, 2, 1)] == ["0", "2", "2", "2"]
        assert gone(folder) == [(1, "image_truncated")]
        again = make(None)
        assert again[1].sample.messages[1].parts[0].text == "2"
        assert gone(folder) == [(1, "image_truncated")]

    def test_a_pack_goes_without_a_broken_picture(self, folder: Path, make: Callable[..., TrainingSet]) -> None:
        rows = [{"image": f"{name}.png", "conversations": talk("<image>\nq", name)} for name in ("0", "broken", "2")]
        (pack,) = [make(rows, packing=True)[0]]
        assert sorted(row.sample.messages[1].parts[0].text for row in pack) == ["0", "2"]

    def test_workers_write_whole_lines(self, folder: Path, make: Callable[..., TrainingSet], processor: Any) -> None:
        rows = [{"image": ("broken" if i % 2 else "0") + ".png", "conversations": talk("<image>\nq", str(i))} for i in range(12)]
        data = make(rows)
        assert len(list(DataLoader(data, 2, collate_fn=Collator(processor), num_workers=2))) == 6
        assert sorted(set(gone(folder))) == [(i, "image_truncated") for i in range(1, 12, 2)]

    def test_no_row_left(self, make: Callable[..., TrainingSet]) -> None:
        with pytest.raises(ValueError, match=r"none of the 2 rows can be trained on \(2 no_answer\); .*quarantine.jsonl says why"):
            make([{"conversations": talk("q")}] * 2)

    def test_all_pictures_gone(self, folder: Path, make: Callable[..., TrainingSet]) -> None:
        data = make([{"image": "broken.png", "conversations": talk("<image>\nq", "a")}])
        with pytest.raises(RuntimeError, match="no picture of these rows can be decoded"):
            data[0]


class TestBatches:
    def test_a_picture_of_several_rows_is_passed_once(self, make: Callable[..., TrainingSet], processor: Any) -> None:
        """Rows show pictures 0, then 1 and 0, then 0: two pictures, and which is where."""
        rows = [{"image": p, "conversations": talk("<image>" * len(p) + "q", "a")} for p in (["0.png"], ["1.png", "0.png"], ["0.png"])]
        data = make(rows)
        batch = Collator(processor)(data.__getitems__([0, 1, 2]))
        assert batch["pixel_values"].shape == (2, 3, 16, 16)
        assert batch["picture_index"].tolist() == [0, 1, 0, 0]

    def test_once_or_every_time_is_the_same_to_the_model(self, make: Callable[..., TrainingSet], processor: Any, tiny_model: Any) -> None:
        rows = [{"image": p, "conversations": talk("<image>" * len(p) + "q", "a")} for p in (["0.png"], ["1.png", "0.png"], ["0.png"])]
        batch = Collator(processor)(make(rows).__getitems__([0, 1, 2]))
        each = {k: v for k, v in batch.items() if k != "picture_index"} | {"pixel_values": batch["pixel_values"][batch["picture_index"]]}
        losses = [tiny_model(**b, use_cache=False).loss for b in (batch, each)]
        torch.testing.assert_close(losses[0], losses[1], atol=1e-6, rtol=0)

    def test_samples_without_a_dataset(self, make: Callable[..., TrainingSet], processor: Any) -> None:
        """The tokens of the store are those of the processor."""
        data = make([{"image": ["0.png", "1.png"], "conversations": talk("<image> and <image>", "a", "q", "b")}, GOOD])
        stored, fresh = Collator(processor)([data[0], data[1]]), Collator(processor)([data[0].sample, data[1].sample])
        assert stored.keys() == fresh.keys()
        assert all(torch.equal(stored[key], fresh[key]) for key in stored)

    def test_an_objective_adds_tensors(self, make: Callable[..., TrainingSet], processor: Any) -> None:
        """It sees the samples of packs one after another, and may not overwrite."""
        data = make([{"id": str(i), "conversations": talk("q", "a")} for i in range(4)], packing=True, max_length=6)

        def annotate(samples: Any) -> dict[str, torch.Tensor]:
            return {"ids": torch.tensor([int(s.id) for s in samples])}

        batch = Collator(processor, annotate)([data[0], data[1]])
        assert batch["ids"].tolist() == [0, 1, 2, 3]
        with pytest.raises(ValueError, match="annotate returns labels, which the batch has already"):
            Collator(processor, lambda samples: {"labels": torch.zeros(1)})([data[0]])

    def test_settings_that_contradict_each_other(self, make: Callable[..., TrainingSet]) -> None:
        with pytest.raises(ValueError, match="packing needs max_length"):
            make([GOOD], packing=True, max_length=None)
        with pytest.raises(ValueError, match="choose packing or length_grouping"):
            make([GOOD], packing=True, length_grouping=True)


ROWS = [{"id": str(i), "image": f"{i % 5}.png", "conversations": talk("<image>\nq", "a" * (1 + 7 * i % 30))} for i in range(23)]


def ids(batches: Any) -> list[list[int]]:
    return [batch["input_ids"].flatten().tolist() for batch in batches]


class TestRepeatable:
    @pytest.mark.parametrize("options", [{}, {"packing": True}, {"length_grouping": True, "batch_size": 4}])
    def test_workers_and_processes_change_nothing(self, options: dict[str, Any], make: Callable[..., TrainingSet], processor: Any) -> None:
        found = []
        for workers in (0, 2):
            data = make(ROWS, shuffle=True, seed=3, **options)
            loader = DataLoader(data, 4, collate_fn=Collator(processor), num_workers=workers, persistent_workers=workers > 0)
            for epoch in (0, 1):
                data.set_epoch(epoch)
                found.append(ids(loader))
        assert found[0] == found[2]
        assert found[1] == found[3]
        assert found[0] != found[1]

    def test_rows_are_tokenised_once(
        self, folder: Path, make: Callable[..., TrainingSet], processor: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = ids([Collator(processor)([make(ROWS)[3]])])
        monkeypatch.setattr(type(processor), "encode_for_training", lambda *_, **__: pytest.fail("tokenised again"))
        assert ids([Collator(processor)([make(None)[3]])]) == before
        with pytest.raises(pytest.fail.Exception):
            make(None, max_length=60)

    def test_a_missing_picture_that_appears_is_found(self, folder: Path, make: Callable[..., TrainingSet]) -> None:
        rows = [GOOD, {"image": "late.png", "conversations": talk("<image>\nq", "a")}]
        assert len(make(rows)) == 1
        (folder / "late.png").write_bytes((folder / "0.png").read_bytes())
        assert len(make(None)) == 2
        assert gone(folder) == []

    def test_a_kill_while_rows_are_read_leaves_nothing_half_done(
        self, make: Callable[..., TrainingSet], processor: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = iter([None] * 5)
        real = type(processor).encode_for_training

        def killed(self: Any, messages: Any, **named: Any) -> Any:
            if next(calls, "end") == "end":
                raise KeyboardInterrupt
            return real(self, messages, **named)

        monkeypatch.setattr(type(processor), "encode_for_training", killed)
        with pytest.raises(KeyboardInterrupt):
            make(ROWS)
        monkeypatch.undo()
        assert len(make(None)) == 23

    def test_a_changed_source_is_read_again(self, make: Callable[..., TrainingSet]) -> None:
        assert len(make(ROWS)) == 23
        assert len(make(ROWS[:7])) == 7

    @pytest.mark.parametrize("packing", [False, True])
    def test_a_resumed_training_sees_the_same_batches(
        self, packing: bool, make: Callable[..., TrainingSet], make_model: Callable[..., Any], processor: Any, tmp_path: Path
    ) -> None:
        """Two epochs with the trainer at once, and stopped in the second: the losses agree."""
        from transformers import TrainingArguments

        from mm_align.losses import LmObjective
        from mm_align.train import ObjectiveTrainer

        def run(steps: int, resume: str | None = None, **more: Any) -> list[float]:
            data = make(ROWS, shuffle=True, packing=packing)
            args = TrainingArguments(
                str(tmp_path / "run"), max_steps=steps, per_device_train_batch_size=2 if packing else 4, learning_rate=1e-2,
                logging_steps=1, report_to=[], disable_tqdm=True, use_cpu=True, lr_scheduler_type="constant",
                train_sampling_strategy="sequential", **more,
            )  # fmt: skip
            trainer = ObjectiveTrainer(make_model(), args, LmObjective(), train_dataset=data, data_collator=Collator(processor))
            trainer.train(resume_from_checkpoint=resume)
            return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]

        whole = run(9, save_strategy="no")
        run(7, save_strategy="steps", save_steps=7)
        assert run(9, str(tmp_path / "run" / "checkpoint-7"), save_strategy="no") == whole

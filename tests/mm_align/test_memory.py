"""`mmalign memory` through the command line: parts add up, a recipe's switches count, and what is not at hand is said."""

import re
import shutil

import pytest
import yaml
from torch import nn

from mm_align.cli import main
from mm_align.models import known_shapes
from mm_align.models.memory import GIB

TINY = ["tiny-aitqe", "--train", "sft/tiny"]


@pytest.fixture
def told(reported):
    """The report of `mmalign memory WORDS --json`."""
    return lambda *words: reported("memory", *words)


@pytest.fixture
def refused(capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def ask(*words):
        assert main(["memory", *words]) == 2
        return capsys.readouterr().err

    return ask


def parts(report):
    assert report["bytes"] == sum(part["bytes"] for part in report["parts"])
    return {part["name"]: part["bytes"] for part in report["parts"]}


# -- training ----------------------------------------------------------------------------------------------------------


def test_llava_by_its_recipe_on_eight_cards(capsys):
    """7,063,427,072 parameters; all but CLIP's tower (303,507,456) train: 4 bytes, 8 of moments, 4 of gradients, over 8 processes."""
    assert main(["memory", "--train", "sft/llava15", "--processes", "8", "--device-memory", "80"]) == 0
    said = capsys.readouterr().out
    assert (
        "training by sft/llava15, the sizes of llava-1.5-7b, which stands for 'adapter-7b/model': 16 rows a forward x 1, 8 processes"
        in said
    )
    trained = 7_063_427_072 - 303_507_456
    assert f"{4 * trained / 8 / GIB:.2f} GiB  {trained:,} x 4 bytes / 8 processes" in said
    assert f"{8 * trained / 8 / GIB:.2f} GiB  {trained:,} x 8 bytes / 8 processes" in said
    assert "80 GB card: fits; each of the 8 needs" in said
    assert "an estimate from sizes; nothing was loaded, run or measured" in said


def test_switches_of_the_config_count(told):
    plain = parts(told(*TINY))
    assert parts(told(*TINY, "--set", "change.micro_batch=2"))["activations"] < plain["activations"] / 2
    assert parts(told(*TINY, "--set", "change.gradient_checkpointing=true"))["activations"] < plain["activations"]
    frozen = parts(told(*TINY, "--set", "change.train=[adapter]"))
    assert frozen["optimiser"] < plain["optimiser"]
    assert frozen["weights, frozen"] > plain["weights, frozen"]
    low = parts(told(*TINY, "--set", "change.lora.r=4"))
    assert low["optimiser"] < plain["optimiser"]
    assert "optimiser" not in parts(told(*TINY, "--set", "change.optimizer=sgd"))
    assert parts(told(*TINY, "--processes", "2"))["buckets"] == plain["gradients"]
    full = parts(told(*TINY, "--set", "change.precision=fp32"))
    assert full["weights, frozen"] == 2 * plain["weights, frozen"]
    assert parts(told(*TINY, "--tokens", "128"))["activations"] < plain["activations"]


def test_low_rank_updates_take_no_memory_of_this_machine(told, monkeypatch):
    """224 layers of LLaVA's decoder get updates of 340 million numbers; none is drawn, and the whole model is made once."""
    from mm_align.jobs.memory import training

    made, drawn = [], []
    to_train, kaiming = training.to_train, nn.init.kaiming_uniform_

    def draw(*given, **named):
        drawn.append((given or tuple(named.values()))[0].device.type)
        return kaiming(*given, **named)

    monkeypatch.setattr(training, "to_train", lambda config, layers=None: made.append(layers) or to_train(config, layers))
    monkeypatch.setattr(nn.init, "kaiming_uniform_", draw)
    report = told("--train", "sft/llava15_lora", "--device-memory", "80")
    assert set(drawn) == {"meta"}
    assert sorted(made, key=str) == [2, 4, None]
    assert parts(report)["weights, trained"] == 4 * 340_795_392


def test_a_file_of_ones_own(told, tmp_path):
    recipe = {"model": {"from": "tiny-lvlm"}, "data": [{"path": "rows.jsonl"}], "batch_size": 2, "max_length": 128, "device": "cpu"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    report = told("--train", str(tmp_path / "mine.yaml"))
    assert "tiny-lvlm, bundled: 2 rows a forward x 1" in report["what"]
    assert "bfloat16" not in str(report["parts"])  # the CPU computes in float32


def test_preference_training_keeps_no_reference_model(told):
    report = told("tiny-aitqe", "--train", "preference/tiny")
    assert any(note.startswith("reference model: none in memory") for note in report["notes"])
    twice = told("tiny-aitqe", "--train", "preference/tiny", "--set", "change.pair_layout=duplicated")
    assert parts(twice)["activations"] != parts(report)["activations"]


@pytest.mark.parametrize(
    "recipe", ["eeca/tiny", "adapters/sva", "adapters/qformer", "adapters/interleaved_mof", "aitqe/tiny", "sft/tiny-video"]
)
def test_any_adapter_is_counted(told, recipe):
    report = told("tiny-aitqe", "--train", recipe)
    assert parts(report)["activations"] > 0
    assert report["cards"][0]["fits"]


def test_what_to_change_is_an_estimate_too(told):
    """What is said to fit fits when it is asked for."""
    small = 0.2
    words = [*TINY, "--device-memory", str(small), "--set", "change.precision=fp32"]
    report = told(*words)
    (card,) = report["cards"]
    assert not card["fits"]
    way = card["ways"]["fits with"]
    again = told(*words, *(f"--set=change.{key}={value}" for key, value in way["change"].items()))
    assert again["bytes"] == way["bytes"] <= 0.9 * small * GIB
    assert again["cards"][0]["fits"]


def test_nothing_may_fit(capsys):
    assert main(["memory", *TINY, "--device-memory", "0.0001"]) == 0
    assert "no change of micro_batch, checkpointing, lora or fsdp on up to 64 cards makes it fit" in capsys.readouterr().out


# -- answering ---------------------------------------------------------------------------------------------------------


def test_answering_by_hand(told):
    """Vicuna's 32 layers of 2 x 4,096 numbers in 2 bytes: 524,288 bytes a token; 576 + 256 of a prompt and 384 of an answer, twice."""
    report = told("llava-1.5-7b")
    found = parts(report)
    assert found["weights"] == 2 * 7_063_427_072
    assert found["keys and values"] == 2 * (576 + 256 + 384) * 524_288
    assert parts(told("llava-1.5-7b", "--answers", "10"))["keys and values"] == 10 * found["keys and values"]
    assert parts(told("llava-1.5-7b", "--rows", "4"))["keys and values"] == 4 * found["keys and values"]
    assert parts(told("llava-1.5-7b", "--dtype", "float32"))["weights"] == 2 * found["weights"]
    assert [card["fits"] for card in report["cards"]] == [True, True]
    assert report["cards"][0]["rows"] < report["cards"][1]["rows"]


def test_a_model_beyond_one_card(capsys):
    assert main(["memory", "llava-v1.6-34b", "--device-memory", "24"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"24 GB card: does not fit: one row needs \d+\.\d\d GiB\n  4 such cards hold it behind a server", said)


def test_well_known_models_have_the_published_numbers_of_parameters(told):
    """What the files on the hub hold: LLaVA-1.5 7B as llava-hf counts, both Qwens' 8.29 B, AITQE's 16.12 GB in bfloat16."""
    for name, count in {
        "llava-1.5-7b": 7_063_427_072,
        "qwen2-vl-7b": 8_291_375_616,
        "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
        "HymanH/AITQE": 8_060_819_520,
    }.items():
        assert parts(told(name))["weights"] == 2 * count


@pytest.mark.parametrize("name", ["tiny-aitqe", "tiny-lvlm"])
def test_the_weights_that_are_counted_are_those_that_are_loaded(told, name):
    """Also those behind the layer that is read."""
    from mm_align.backends import load_backend

    model = load_backend(name, device="cpu", dtype="float32").model
    assert model.model.unread()
    assert parts(told(name, "--dtype", "float32"))["weights"] == 4 * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", known_shapes.names())
def test_every_known_shape_is_a_model(told, name):
    report = told(name, "--device-memory", "640")
    assert report["cards"][0]["fits"]


def test_a_folder_without_weights_will_do(told, tmp_path):
    from mm_align.backends.load import ZOO

    shutil.copy(ZOO / "tiny-lvlm" / "config.json", tmp_path)
    assert parts(told(str(tmp_path)))["weights"] == parts(told("tiny-lvlm"))["weights"]


# -- what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a model (mmalign memory llava-1.5-7b), a training run (--train sft/llava15), or both"),
        (["nope"], "By their sizes alone are known: llava-1.5-7b"),
        (["someone/else"], "config.json in a folder will do"),
        (["null:"], "'null:' has no weights on this machine"),
        (["--train", "sft/tiny"], "Name the model before --train: mmalign memory MODEL --train sft/tiny"),
        (["--train", "sft/nope"], "no config file 'sft/nope'"),
        (["qwen2.5-vl-7b", "--train", "sft/tiny"], "is a qwen2_5_vl model, which `mmalign train` does not train"),
        ([*TINY, "--tokens", "40"], "a row of 40 tokens has no room for 64 of pictures and 1 of answers"),
        ([*TINY, "--processes", "3"], "batch_size 16 cannot be shared evenly by 3 processes"),
        ([*TINY, "--set", "change.micro_bach=4"], "unknown key 'micro_bach'; did you mean 'micro_batch'?"),
        ([*TINY, "--set", "change.train=[tower]"], "unknown part tower"),
        (["llava-1.5-7b", "--processes", "2"], "are of a training run: give --train too"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes(refused, words, said):
    assert said in refused(*words)


def test_sizes_of_parts_that_are_not_at_hand(refused, tmp_path):
    for part, said in {"vision": "the sizes of the vision tower", "text": "the sizes of the language model 'someone/else'"}.items():
        model = {"vision": {"from": "openai/clip-vit-large-patch14-336"}, "text": {"from": "lmsys/vicuna-7b-v1.5"}} | {
            part: {"from": "someone/else"}
        }
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"model": model, "data": [{"path": "rows.jsonl"}]}))
        assert said in refused("--train", str(tmp_path / "mine.yaml"))


def test_a_card_has_memory(capsys):
    assert main(["memory", "tiny-lvlm", "--device-memory", "-3"]) == 2
    assert "should be greater than 0" in capsys.readouterr().err

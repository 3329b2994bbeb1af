"""A folder that holds no model, or one of another kind, is told of in one sentence of ours at every door that takes one."""

import json

import PIL.Image
import pytest
import yaml

from mm_align.cli import main

LANGUAGE = {
    **{"model_type": "qwen2", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2},
    **{"intermediate_size": 32, "vocab_size": 50},
}
TOWER = {"model_type": "siglip_vision_model", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """The one sentence of a command that is refused, in a folder with rows and unfit folders; what transformers says is none."""
    monkeypatch.chdir(tmp_path)
    PIL.Image.new("RGB", (8, 8), "red").save("x.png")
    rows = [{"id": name, "image": "x.png", "caption": f"a {name}", "entity": {"name": name}} for name in ("dog", "cat")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "afile").write_text("text")
    for folder, config in {"empty": None, "odd": '{"hello": 1}', "broken": "{", "a_list": "[1]", "language": json.dumps(LANGUAGE)}.items():
        (tmp_path / folder).mkdir()
        if config is not None:
            (tmp_path / folder / "config.json").write_text(config)

    def call(*words):
        code = main([*words, "--quiet"])
        said = capsys.readouterr().err
        assert (code, said.count("error: "), "Traceback" in said) == (2, 1, False), said
        assert not any(theirs in said for theirs in ("Unrecognized", "Repo id", "Errno", "Error no file", "local-dir", "instantiate")), said
        return said.splitlines()[0]

    return call


SAID = [
    ("./empty", "the folder holds no config.json, it is empty; give a folder with a model's config and weights"),
    ("./odd", "its config.json names no 'model_type' (it holds the keys hello), so nobody knows which model this is"),
    ("./a_list", "its config.json names no 'model_type' (it holds nothing of the kind)"),
    ("./broken", "its config.json cannot be read as JSON (Expecting property name"),
    ("afile", "it is a file; give a folder"),
]


@pytest.mark.parametrize(("name", "said"), SAID)
def test_no_model_at_all(told, name, said):
    doors = [
        ["vision", "knowledge", "rows.jsonl", "--out", "k", "--encoder", name],
        ["enhance-data", "rows.jsonl", "--stages", "similarity", "--out", "e", "--similarity-model", name],
        ["enhance-data", "rows.jsonl", "--stages", "nsfw", "--out", "e", "--nsfw-model", name],
    ]
    for words in doors:
        line = told(*words)
        assert said in line
        assert f"'{name}'" in line


def test_a_model_of_another_kind_is_told_before_its_weights_are_sought(told):
    assert "'./language' is a qwen2 model, no image-text encoder pair; give a CLIP, SigLIP" in told(
        "vision", "knowledge", "rows.jsonl", "--out", "k", "--encoder", "./language"
    )
    assert "it is a qwen2 model, which tells no labels of pictures" in told(
        "enhance-data", "rows.jsonl", "--stages", "nsfw", "--out", "e", "--nsfw-model", "./language"
    )


def test_a_folder_of_another_library(told):
    line = told("vision", "knowledge", "rows.jsonl", "--out", "k", "--encoder", "./language", "--library", "open_clip")
    assert "the folder holds no open_clip_config.json but config.json; give a folder" in line


PARTS = [
    ("vision", "./empty", "the folder holds no config.json, it is empty"),
    ("vision", "./odd", "names no 'model_type'"),
    ("vision", "./language", "'qwen2' has no image_size, patch_size: it cannot serve as a patch tower"),
    ("text", "./empty", "the folder ./empty holds no tokenizer (tokenizer.json)"),
    ("text", "./language", "the folder holds no weights (*.safetensors) but config.json, tokenizer.json; copy or download them again"),
    ("text", "./tower", "it is a siglip_vision_model model, which writes no text"),
]


@pytest.mark.parametrize(
    ("library", "said"), [("timm", "'architecture' (it holds the keys hidden_size"), ("open_clip", "holds no open_clip_config.json")]
)
def test_towers_of_other_libraries(told, tmp_path, library, said):
    run = {
        "model": {
            "vision": {"library": library, "from": "./language"},
            "text": LANGUAGE,
            "tokenizer": "tiny-lvlm",
            "adapter": {"type": "mlp"},
        }
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**run, "data": [{"path": "rows.jsonl"}], "steps": 1}))
    line = told("train", "run.yaml", "--out", "t")
    assert said in line
    assert f"cannot load the tower './language' of {library}: " in line


@pytest.mark.parametrize(("part", "name", "said"), PARTS)
def test_parts_of_a_model_that_is_trained(told, tmp_path, tokenizer, part, name, said):
    (tmp_path / "tower").mkdir()
    (tmp_path / "tower" / "config.json").write_text(json.dumps(TOWER))
    for folder in ("language", "tower"):
        tokenizer.backend_tokenizer.save(str(tmp_path / folder / "tokenizer.json"))
    parts = {"vision": {**TOWER, "image_size": 32, "patch_size": 8, "intermediate_size": 32}, "text": {"from": "./language"}}
    run = {"model": {**parts, part: {"from": name}, "adapter": {"type": "mlp"}}, "data": [{"path": "rows.jsonl"}], "steps": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    assert said in told("train", "run.yaml", "--out", "t")


@pytest.mark.parametrize(("name", "said"), [("./odd", "names no"), ("./empty", "config.json"), ("./broken", "broken/config.json")])
def test_models_that_are_asked_or_looked_at(told, name, said):
    for words in (["chat", name, "x.png", "What?"], ["memory", name], ["doctor", "--model", name]):
        if (words[0], name) != ("doctor", "./odd"):
            assert said in told(*words)

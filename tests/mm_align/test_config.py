"""Configs: layers merge, unknown keys name the nearest known key, each wrong place gets one sentence."""

from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Field

from mm_align import config as configs
from mm_align.config import JobConfig, UserError


class Dpo(JobConfig):
    type: Literal["dpo"] = "dpo"
    beta: float = 0.1


class Lm(JobConfig):
    type: Literal["lm"] = "lm"
    weight: float = 1.0


class Part(JobConfig):
    floor: float = Field(1.0, ge=0)
    names: list[str] = []


class Job(JobConfig):
    src: str
    batch_size: int | Literal["auto"] = "auto"
    policy: Literal["model", "never"] = "model"
    part: Part = Part()
    loss: Annotated[Dpo | Lm, Field(discriminator="type")] = Lm()
    floors: dict[str, float] = {}


def problem(*layers):
    with pytest.raises(UserError) as caught:
        configs.load(Job, {"src": "a"}, *layers)
    return str(caught.value)


def test_later_layers_win_key_by_key():
    """{part: {floor: 2, names: [x]}} under {part: {floor: 3}} keeps the names and takes 3."""
    job = configs.load(Job, {"src": "a", "part": {"floor": 2, "names": ["x"]}}, {"part": {"floor": 3}}, {"batch_size": "8"})
    assert (job.part.floor, job.part.names, job.batch_size) == (3.0, ["x"], 8)


def test_another_type_leaves_the_options_of_the_one_before():
    """A config's {type: dpo, beta: 3} under `--set loss.type=lm` is lm without a beta; in whatever order of `--set`."""
    below = {"src": "a", "loss": {"type": "dpo", "beta": 3}}
    assert configs.load(Job, below, {"loss": {"type": "lm"}}).loss == Lm()
    assert configs.load(Job, below, {"loss": {"type": "dpo"}}).loss == Dpo(beta=3)
    assert configs.load(Job, below, {"loss": {"beta": 4}}).loss == Dpo(beta=4)
    for sets in (["loss.type=lm", "loss.weight=2"], ["loss.weight=2", "loss.type=lm"]):
        assert configs.load(Job, below, configs.parse_sets(sets)).loss == Lm(weight=2)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        ({"bach_size": 1}, "unknown key 'bach_size'; did you mean 'batch_size'?"),
        ({"batch-size": 1}, "unknown key 'batch-size'; did you mean 'batch_size'?"),
        ({"part": {"flor": 1}}, "unknown key 'part.flor'; did you mean 'floor'?"),
        ({"loss": {"type": "dpo", "bta": 1}}, "unknown key 'loss.bta'; did you mean 'beta'?"),
        ({"part": {"zzz": 1}}, "unknown key 'part.zzz'; known here: floor, names"),
        ({"batch_size": "many"}, "'batch_size': should be a valid integer or should be 'auto', but is 'many'"),
        ({"policy": "sometimes"}, "'policy': should be 'model' or 'never', but is 'sometimes'"),
        ({"part": {"floor": -1}}, "'part.floor': should be greater than or equal to 0, but is -1"),
        ({"part": {"names": ["a", {}]}}, "'part.names.1': should be a valid string"),
        ({"floors": {"overall": "high"}}, "'floors.overall': should be a valid number, but is 'high'"),
        ({"loss": {"type": "dpo", "beta": "x"}}, "'loss.beta': should be a valid number, but is 'x'"),
    ],
)
def test_each_wrong_place_gets_one_sentence(layer, sentence):
    assert problem(layer) == sentence


def test_a_missing_field_says_how_to_give_it():
    with pytest.raises(UserError, match="'src' is missing: give it on the command line or as `src` in the config file"):
        configs.load(Job)


def test_several_problems_are_all_told():
    assert len(problem({"bach_size": 1, "policy": "x"}).splitlines()) == 2


def test_configs_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        configs.load(Job, {"src": "a"}).src = "b"


def test_sets_are_yaml_values_at_dotted_places():
    tree = configs.parse_sets(["part.floor=2.5", "part.names=[a, b]", "policy=never", "src=a=b"])
    assert tree == {"part": {"floor": 2.5, "names": ["a", "b"]}, "policy": "never", "src": "a=b"}


@pytest.mark.parametrize("assignment", ["floor", "=3", "part..floor=3", "part=[1"])
def test_a_malformed_set_is_refused_with_its_text(assignment):
    with pytest.raises(UserError, match="--set"):
        configs.parse_sets([assignment])


def test_yaml_files_must_hold_a_mapping(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("")
    assert configs.read_yaml(path) == {}
    for content in ("- a\n- b\n", "1: a\n", "a: [1\n", "!!python/object/apply:os.getcwd []\n"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"c\.yaml"):
            configs.read_yaml(path)


def test_a_misspelt_config_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'sft/tiny'"):
        configs.find_config("sft/tinny", "pretrain", "sft")


def test_a_missing_config_names_the_packaged_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(configs, "config_root", lambda: tmp_path)
    (tmp_path / "enhance").mkdir()
    (tmp_path / "enhance" / "fast.yaml").write_text("{}")
    assert configs.find_config("fast", "enhance") == tmp_path / "enhance" / "fast.yaml"
    assert configs.find_config("fast.yaml", "enhance") == tmp_path / "enhance" / "fast.yaml"
    with pytest.raises(UserError, match="packaged: fast"):
        configs.find_config("slow", "enhance")


def test_the_resolved_config_reads_back_to_the_same_object():
    job = configs.load(Job, {"src": "é", "loss": {"type": "dpo", "beta": 0.2}, "batch_size": 4})
    assert configs.load(Job, yaml.safe_load(configs.to_yaml(job))) == job

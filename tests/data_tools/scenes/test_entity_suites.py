"""Benchmarks of landmarks: what is right on each level, unseen pictures, scores of answers."""

import json

import pytest
import yaml

from data_tools.records import Response
from data_tools.scenes.entities import landmarks
from data_tools.scenes.entity_rows import CAPTIONS, entity_rows
from data_tools.scenes.entity_suites import ASKED, write_landmark_suites
from data_tools.scenes.suites import SUITES
from mm_align.evals.qa import QaBenchmark

N, SEED = 12, 3
WORLD = landmarks(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("landmarks")
    write_landmark_suites(made, N, SEED, "heldout", 0)
    return made


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_level_asks_about_the_same_pictures_and_takes_what_is_of_one_group(folder):
    assert [one["data"] for one in yaml.safe_load((folder / SUITES).read_text())["benchmarks"]] == [f"{level}.jsonl" for level in ASKED]
    by_name = {one.name: one for one in WORLD}
    truth = [by_name[sample.meta["entity"]["name"]] for sample in entity_rows(N, SEED, "heldout")]
    for level, at, siblings in (("entity", 3, 1), ("family", 2, 6), ("kind", 1, 18)):
        for row, entity in zip(rows(folder / f"{level}.jsonl"), truth, strict=True):
            assert (folder / row["image"]).is_file()
            right = {one.name for one in WORLD if one.levels[at] == entity.levels[at]}
            assert {answer for answer in row["answers"] if answer in by_name} == right
            assert len(right) == siblings


@pytest.mark.parametrize(("change", "right"), [("itself", (1, 1, 1)), ("sibling", (0, 1, 1)), ("kind", (0, 0, 1)), ("other", (0, 0, 0))])
def test_an_answer_is_right_as_far_as_its_name_is(folder, change, right):
    """By the words of the captions that models are taught with."""
    asked = rows(folder / "entity.jsonl")
    said = []
    for number, row in enumerate(asked):
        (entity,) = [one for one in WORLD if one.name == row["entity"]]
        _, kind, family, name = entity.levels
        near = {
            "itself": lambda one, name=name: one.name == name,
            "sibling": lambda one, family=family, name=name: one.levels[2] == family and one.name != name,
            "kind": lambda one, family=family, kind=kind: one.levels[1] == kind and one.levels[2] != family,
            "other": lambda one, kind=kind: one.levels[1] != kind,
        }[change]
        chosen = next(one for one in WORLD if near(one))
        said.append(CAPTIONS[number % len(CAPTIONS)].format(name=chosen.name, family=chosen.levels[2]))
    for level, share in zip(ASKED, right, strict=True):
        responses = {row["id"]: Response(f"{row['id']}:0", row["id"], text) for row, text in zip(asked, said, strict=True)}
        assert QaBenchmark(str(folder / f"{level}.jsonl")).score(responses)["accuracy"] == share


def test_the_same_seed_writes_the_same_bytes_and_no_picture_is_one_of_training(folder, tmp_path):
    write_landmark_suites(tmp_path, N, SEED, "heldout", 0)
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert len(names) == N + len(ASKED) + 1
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in names)
    trained = {sample.images[0].data for sample in entity_rows(200, SEED, "train")}
    assert not trained & {path.read_bytes() for path in (folder / "images").iterdir()}

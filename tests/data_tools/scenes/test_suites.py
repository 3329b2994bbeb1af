"""SceneWorld's benchmarks: yes in equal number to no, truths that hold, the same files from the same seed."""

import json
from collections import Counter

import pytest
import yaml

from data_tools.scenes.rows import make_row
from data_tools.scenes.suites import COMPANIONS, SUITES, write_suites

N = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("suites")
    write_suites(made, N, 3, "heldout")
    return made


@pytest.fixture(scope="module")
def there():
    """Picture -> the kinds of objects on it."""
    scenes = [make_row(3, "heldout", i, 0)[1].scene for i in range(N)]
    return {f"sw1-heldout-3-{i:07d}.png": {(item.color, item.shape) for item in scene.items} for i, scene in enumerate(scenes)}


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("split", ["random", "popular", "adversarial"])
def test_questions_about_objects_are_answered_by_the_scene(folder, there, split):
    asked = rows(folder / "pope" / f"scenes_pope_{split}.json")
    assert [row["question_id"] for row in asked] == list(range(1, len(asked) + 1))
    assert len({(row["image"], row["text"]) for row in asked}) == len(asked)
    assert Counter(row["label"] for row in asked) == {"yes": len(asked) // 2, "no": len(asked) // 2}
    for row in asked:
        color, shape = row["text"].split()[3:5]
        assert ((color, shape) in there[row["image"]]) == (row["label"] == "yes")


def test_adversarial_questions_ask_for_what_habit_puts_there(folder, there):
    first: dict[str, str] = {}
    for row in rows(folder / "pope" / "scenes_pope_adversarial.json"):
        if row["label"] == "no":
            first.setdefault(row["image"], row["text"])
    for image, text in first.items():
        habitual = {COMPANIONS[color] for color, _ in there[image]} - there[image]
        assert not habitual or tuple(text.split()[3:5]) in habitual


def test_the_other_suites_name_pictures_that_are_there(folder):
    asked, pictures = rows(folder / "yes_no.jsonl"), rows(folder / "pictures.jsonl")
    assert Counter(row["answer"] for row in asked)["yes"] * 2 == len(asked)
    assert {row["kind"] for row in asked} == {"existence", "attribute", "count", "relation"}
    assert len(pictures) == N
    assert all((folder / row["image"]).is_file() for row in [*asked, *pictures])
    told = yaml.safe_load((folder / SUITES).read_text())
    assert told["title"] == "SceneWorld"
    assert all((folder / suite["data"]).exists() for suite in told["benchmarks"])


def test_the_same_seed_writes_the_same_bytes(folder, tmp_path):
    write_suites(tmp_path, N, 3, "heldout")
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in names)

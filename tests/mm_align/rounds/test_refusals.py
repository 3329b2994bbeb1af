"""What `mmalign rlaif rounds` refuses before anything is asked."""

import pytest
from pretended import World

from mm_align.cli import main
from mm_align.config import UserError
from mm_align.jobs.rounds.rounds import rounds


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rounds": 5, "images_per_round": 3}, "5 rounds of 3 pictures each need 15, and the data has 12"),
        ({"rounds": 13}, "13 rounds of 1 pictures each need 13, and the data has 12"),
        ({"judge": "tiny-jugde"}, "no model 'tiny-jugde' (did you mean 'tiny-judge'?)"),
        ({"model": "tiny-lvml"}, "no model 'tiny-lvml' (did you mean 'tiny-lvlm'?)"),
        ({"data": None}, "give either --data"),
        ({"data": "nowhere"}, "No such file or folder: nowhere"),
        ({"feedback": {"candidats": {}}}, "feedback: unknown key 'candidats'; did you mean 'candidates'?"),
        ({"feedback": {"judge": "x"}}, "feedback.judge: the rounds say this themselves"),
        ({"feedback": {"candidates": {"seed": 3}}}, "feedback.candidates.seed: the rounds say this themselves"),
        ({"train": {"lr": 0}}, "train: 'lr': "),
        ({"train": {"objective": {"bata": 0.2}}}, "train.objective: no option 'bata'; did you mean 'beta'?"),
        ({"train": {"objective": {"type": "lm"}}}, "rounds train on pairs, which 'lm' does not read"),
        ({"train": {"data": []}}, "train.data: the rounds say this themselves"),
        ({"train": {"model": {"from": "x"}}}, "train.model.from: the rounds say this themselves"),
        ({"select": {"by": "objects/hallucinatin"}}, "did you mean 'objects/hallucinating'?"),
        ({"select": {"lose": {"objects/cover": 0.1}}}, "select_limits 'objects/cover' is none"),
        ({"eval": [{"type": "object"}]}, "unknown benchmark 'object'; did you mean 'objects'?"),
        ({"eval": [], "select": {"lose": {"objects/coverage": 0.1}}}, "give `eval`"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_asked(config, changes, told):
    world = World()
    with pytest.raises(UserError) as error:
        rounds(config(**changes), world.parts)
    assert told in str(error.value)
    assert world.calls == []


def test_the_verb_refuses_with_2(tmp_path, capsys):
    words = [
        "rlaif",
        "rounds",
        "--model",
        "tiny-lvlm",
        "--judge",
        "tiny-judge",
        "--data",
        str(tmp_path / "none"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 2
    assert "No such file or folder" in capsys.readouterr().err

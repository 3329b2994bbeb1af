"""Beside the steps: curves by name, the best checkpoint, what a kill leaves behind."""

from transformers import TrainerControl, TrainerState

from mm_align.train.callbacks import Evaluations, Limit
from mm_align.train.checkpoints import Best, best_of, clear_partial, keep_last, mark_whole, note, whole_checkpoints
from mm_align.train.curves import curves, draw_curves, panels

HISTORY = [
    {"step": 1, "loss": 3.0, "epoch": 0.1, "grad_norm": 1.0},
    {"step": 2, "loss": 2.0, "epoch": 0.2},
    {"step": 2, "eval_loss": 2.5, "eval_runtime": 1.0},
    {"step": 2, "qa/accuracy": 0.5, "qa/accuracy_low": 0.4, "qa/accuracy_high": 0.6, "qa/rows": 9},
    {"step": 4, "eval_loss": 2.4, "qa/accuracy": 0.6, "qa/accuracy_low": 0.5, "qa/accuracy_high": 0.7, "qa/rows": 9},
]


def test_curves_are_numbers_logged_twice():
    """The gradient norm came once; run times, epochs and counts are no curves. Losses come first."""
    found = curves(HISTORY)
    assert list(found) == ["eval_loss", "loss", "qa/accuracy", "qa/accuracy_high", "qa/accuracy_low"]
    assert found["loss"] == [(1, 3.0), (2, 2.0)]
    assert panels(list(found)) == [["loss", "eval_loss"], ["qa/accuracy"]]


def test_nothing_twice_draws_nothing(tmp_path):
    assert not draw_curves(HISTORY[:1], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
    assert draw_curves(HISTORY, tmp_path / "curves.png")
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def made(folder, *steps):
    for step in steps:
        (folder / f"checkpoint-{step}").mkdir(parents=True)
        (folder / f"checkpoint-{step}" / "model.safetensors").write_bytes(b"x")
        mark_whole(folder / f"checkpoint-{step}")


def names(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*"))


def test_only_marked_checkpoints_count(tmp_path):
    made(tmp_path, 2, 10)
    (tmp_path / "checkpoint-12").mkdir()
    assert [path.name for path in whole_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-10"]
    clear_partial(tmp_path)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-2"]
    assert whole_checkpoints(tmp_path / "nowhere") == []


def test_the_best_and_the_newest_stay(tmp_path):
    """Accuracies 0.5, 0.7, 0.7, 0.6 at steps 1 to 4: of the two best the first stays; with one kept, steps 2 and 4."""
    for step, value in ((1, 0.5), (2, 0.7), (3, 0.7), (4, 0.6)):
        made(tmp_path, step)
        note(tmp_path, Best(step, value), lower=False)
        keep_last(tmp_path, 1)
    assert best_of(tmp_path) == Best(2, 0.7)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4"]


def test_less_is_better_for_losses_and_a_repeated_step_is_noted_anew(tmp_path):
    for step, value in ((1, 3.0), (2, 2.0), (3, 2.5)):
        note(tmp_path, Best(step, value), lower=True)
    assert best_of(tmp_path) == Best(2, 2.0)
    note(tmp_path, Best(2, 2.2), lower=True)  # the run went back to before step 2 and came here again
    assert best_of(tmp_path) == Best(2, 2.2)


def test_within_the_limits_comes_first_and_ties_go_as_asked(tmp_path):
    """0.1 is best but outside, 0.3 and 0.3 are within: of these the first, or where asked the last."""
    for later, chosen in ((False, 2), (True, 3)):
        folder = tmp_path / str(later)
        folder.mkdir()
        for step, value, holds in ((1, 0.1, False), (2, 0.3, True), (3, 0.3, True), (4, 0.2, False)):
            note(folder, Best(step, value, holds), lower=True, later=later)
        assert best_of(folder) == Best(chosen, 0.3)
    assert Limit("a", 0.5).holds(0.5)
    assert not Limit("a", 0.5).holds(0.4)
    assert Limit("a", 0.5, lower=True).holds(0.4)


def test_an_evaluation_takes_no_entry_of_the_losses_away():
    """The library clears `should_log` at every entry; the step's own is still due afterwards."""
    control, state = TrainerControl(should_log=True), TrainerState(max_steps=4)
    state.global_step = 2
    Evaluations(lambda step: setattr(control, "should_log", False), 2, beside_loss=False, saves=False).on_step_end(None, state, control)
    assert control.should_log

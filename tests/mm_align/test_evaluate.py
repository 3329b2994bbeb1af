"""`mmalign eval` through the command line, with a scripted model: responses, scores, refusals, continuing, missing pictures."""

import inspect
import json
import re

import pytest

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import BENCHMARKS
from mm_align.evals.protocols import PAPER

LABELS = ("yes", "no", "yes", "no", "yes", "no", "yes", "no")


@pytest.fixture
def questions(pictures):
    """POPE's rows about four pictures, two each, labelled yes and no in turn; a model that always says yes is right in half of them."""
    rows = [
        {"question_id": i, "image": f"p{i // 2}.png", "text": f"Is there a thing {i}?", "label": label} for i, label in enumerate(LABELS)
    ]
    path = pictures / "questions.json"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def evaluated(questions, pictures, tmp_path):
    """evaluated(*words): the exit code of an evaluation of model "org/a" on the questions."""

    def run(*words, models=("org/a",), out="out"):
        where = ["--data", f"pope={questions}", "--images", f"pope={pictures}", "--out", str(tmp_path / out)]
        return main(["eval", *models, "--bench", "pope", *where, *words])

    return run


class Says:
    """Answers by the number in the question; everything else as `fb.Scripted`."""

    faces = frozenset({"generate"})
    batch_size = 1

    def __init__(self, right):
        self.right, self.asked = right, []

    def describe(self):
        return {"model": f"right on {self.right}", "revision": "0"}

    def generate(self, samples, sampling):
        self.asked += [sample.id for sample in samples]
        return [Response(f"{s.id}:0", s.id, self._answer(s)) for s in samples]

    def _answer(self, sample):
        at = int(sample.id.partition("/")[2])
        return LABELS[at] if at < self.right else "yes"


def results(out, model="org__a"):
    return json.loads((out / model / "results.json").read_text())


def test_responses_then_scores_under_lm_evals_keys(fb, scripted, evaluated, tmp_path, capsys):
    """Always yes: 4 of 8 right; the standard error of (1, 0, ...) is sqrt(8 * 0.25 / 7 / 8) = 0.18898."""
    backend = scripted(fb.Scripted(("Yes.",)))
    assert evaluated() == 0
    assert len(backend.prompts) == 8
    told = results(tmp_path / "out")
    assert told["results"]["pope"]["acc,none"] == 0.5
    assert told["results"]["pope"]["acc_stderr,none"] == pytest.approx(0.18898, abs=1e-5)
    assert told["results"]["pope"]["f1_stderr,none"] == "N/A"
    assert told["n-samples"]["pope"] == {"original": 8, "effective": 8}
    assert told["versions"]["pope"].startswith("RUCAIBox/POPE")
    assert told["configs"]["pope"]["generation_kwargs"]["temperature"] == 0
    assert told["higher_is_better"]["pope"]["acc"]
    assert told["config"] == {"model": "org/a", "model_args": {"model": "scripted", "revision": "0"}, "limit": None}
    rows = [json.loads(line) for line in (tmp_path / "out/org__a/responses/pope.jsonl").read_text().splitlines()]
    assert [(row["sample_id"], row["text"]) for row in rows][:2] == [("questions/0", "Yes."), ("questions/1", "Yes.")]
    assert "acc  0.500 [" in capsys.readouterr().out


def test_the_same_command_again_asks_nothing_and_says_so(fb, scripted, evaluated, tmp_path, capsys):
    backend = scripted(fb.Scripted(("Yes.",)))
    assert evaluated() == 0
    before = results(tmp_path / "out")
    assert evaluated() == 0
    assert len(backend.prompts) == 8
    assert results(tmp_path / "out") == before
    assert "answered already" in capsys.readouterr().out


def test_scores_come_from_the_file_of_responses(fb, scripted, evaluated, tmp_path):
    scripted(fb.Scripted(("Yes.",)))
    assert evaluated() == 0
    path = tmp_path / "out/org__a/responses/pope.jsonl"
    first, second, *rest = path.read_text().splitlines()
    path.write_text("\n".join([first, second.replace("Yes.", "No"), *rest]) + "\n")
    assert evaluated() == 0
    assert results(tmp_path / "out")["results"]["pope"]["acc,none"] == 5 / 8


def test_answers_are_a_response_file_that_scores_alike(monkeypatch, evaluated, questions, tmp_path, capsys):
    import mm_align.backends

    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: Says(5))
    assert evaluated() == 0
    capsys.readouterr()
    answers = tmp_path / "out/org__a/answers/pope.jsonl"
    assert main(["score", "pope", "--responses", str(answers), "--data", str(questions), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert found == {name: results(tmp_path / "out")["results"]["pope"][f"{name},none"] for name in found}


def test_a_stopped_run_continues_without_asking_twice(fb, scripted, evaluated, tmp_path, capsys):
    scripted(fb.Stops(3, "generate"))
    assert evaluated() == 75
    assert "same command" in capsys.readouterr().err
    backend = scripted(fb.Scripted())
    assert evaluated() == 0
    assert len(backend.prompts) == 5
    scripted(fb.Scripted())
    assert evaluated(out="fresh") == 0
    assert results(tmp_path / "out") == results(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("more", "told", "asked"),
    [
        (("--limit", "4"), "bench.pope.options.limit: was 'nothing', now 4", 0),
        (("--set", "sampling.max_tokens=5"), "bench.pope.sampling.max_tokens: was 16, now 5", 8),
    ],
)
def test_other_settings_are_refused_and_with_update_keep_what_they_can(fb, scripted, evaluated, capsys, more, told, asked):
    backend = scripted(fb.Scripted())
    assert evaluated() == 0
    capsys.readouterr()
    assert evaluated(*more) == 2
    assert told in capsys.readouterr().err
    assert evaluated(*more, "--update") == 0
    assert len(backend.prompts) == 8 + asked
    assert evaluated("--overwrite") == 0


def test_another_model_is_refused_and_update_adds_it(fb, scripted, evaluated, tmp_path, capsys):
    backend = scripted(fb.Scripted(("Yes.",)))
    assert evaluated() == 0
    assert evaluated(models=("org/a", "org/b")) == 2
    assert "models.org/b.name: was 'nothing', now 'org/b'" in capsys.readouterr().err
    assert evaluated("--update", models=("org/a", "org/b")) == 0
    assert len(backend.prompts) == 16
    assert results(tmp_path / "out", "org__b")["results"] == results(tmp_path / "out")["results"]


def test_models_stand_side_by_side_with_paired_differences(monkeypatch, evaluated, capsys):
    """org/a is right in all 8, org/b in the first 4 and in the two yes of the rest: 6 of 8."""
    import mm_align.backends

    monkeypatch.setattr(mm_align.backends, "load_backend", lambda name, **_: Says(8 if name == "org/a" else 4))
    assert evaluated(models=("org/a", "org/b")) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if " acc " in line)
    assert "1.000 [1.000, 1.000]  0.750 [" in line
    assert "-0.250 [" in line


def test_models_with_commas_between(monkeypatch, evaluated, tmp_path):
    """As with benchmarks. A comma inside one name, of a folder that is there or of a scheme that knows no lists, divides nothing."""
    import mm_align.backends

    (tmp_path / "c,d").mkdir()
    loaded = []
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda name, **_: loaded.append(name) or Says(8))
    names = (str(tmp_path / "c,d"), "null:yes, it is", "openai:http://localhost:1/v1#m,n")
    assert evaluated(models=("org/a,org/b", *names)) == 0
    assert loaded == ["org/a", "org/b", *names]


@pytest.mark.parametrize(("tokens", "truncated"), [(0, False), (3, True)], ids=["ends at once", "tokens without text"])
def test_an_empty_answer_is_an_answer(scripted, evaluated, tmp_path, capsys, tokens, truncated):
    """A model that says nothing is scored for it; only where the prompt leaves no room for a token nothing was asked."""

    class Silent(Says):
        def generate(self, samples, sampling):
            no_room = [sample.id.endswith("/0") for sample in samples]
            pairs = zip(samples, no_room, strict=True)
            return [Response(f"{s.id}:0", s.id, "", tokens=0 if gone else tokens, truncated=gone or truncated) for s, gone in pairs]

    scripted(Silent(0))
    assert evaluated() == 0
    told = results(tmp_path / "out")
    assert told["errors"] == {"pope": {"prompt_too_long": 1}}
    assert told["n-samples"]["pope"] == {"original": 8, "effective": 7}


def test_a_missing_picture_is_an_error_row_and_counts_as_unanswered(fb, scripted, evaluated, pictures, tmp_path, capsys):
    """Always no is right in four of eight; the two questions about the missing picture have no answer, which POPE reads as yes."""
    (pictures / "p1.png").unlink()
    backend = scripted(fb.Scripted(("no",)))
    assert evaluated() == 0
    assert len(backend.prompts) == 6
    told = results(tmp_path / "out")
    assert told["errors"] == {"pope": {"image_missing": 2}}
    assert told["n-samples"]["pope"] == {"original": 8, "effective": 6}
    said = capsys.readouterr()
    assert "2 of 8 samples lack their picture" in said.err
    assert "2 image_missing" in said.out
    gone = [json.loads(line)["subject"] for line in (tmp_path / "out/quarantine/org__a.pope.jsonl").read_text().splitlines()]
    assert gone == ["questions/2", "questions/3"]


@pytest.mark.parametrize("form", ["file", "saved"])
def test_pictures_out_of_a_data_set(fb, scripted, questions, pictures, tmp_path, form, capsys):
    """Rows name their picture in a field, without its suffix; the one that no row names is missing."""
    import datasets

    rows = [{"image_source": f"p{i}", "image": str(pictures / f"p{i}.png")} for i in (3, 0, 1)]
    made = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    place = tmp_path / "set.parquet" if form == "file" else tmp_path / "saved"
    made.to_parquet(place) if form == "file" else made.save_to_disk(place)
    backend = scripted(fb.Scripted(("Yes.",)))
    words = ["eval", "org/a", "--bench", "pope", "--data", f"pope={questions}", "--images", f"pope={place}", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert len(backend.prompts) == 6
    assert (tmp_path / "out/pictures/pope/p3.png").read_bytes() == (pictures / "p3.png").read_bytes()
    assert results(tmp_path / "out")["errors"] == {"pope": {"image_missing": 2}}
    assert main(words) == 0
    assert len(backend.prompts) == 6


def test_the_report_shows_failures_with_pictures_and_escapes_what_models_say(fb, scripted, evaluated, pictures, tmp_path):
    (pictures / "p1.png").unlink()
    scripted(fb.Scripted(("<script>alert(1)</script> yes",)))
    assert evaluated("--title", "<T>", "--shown", "3") == 0
    page = (tmp_path / "out/report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; yes" in page
    assert "&lt;T&gt;" in page
    assert page.count('<article class="card">') == 3
    assert 'src="data:image/png;base64,' in page
    assert "2 image_missing" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "org/a: 4 failures" in page


def test_a_suite_of_ones_own(fb, scripted, questions, pictures, tmp_path, capsys):
    (pictures / "suites.yaml").write_text(
        "title: My world\nbenchmarks:\n- {name: mine, type: pope, data: questions.json, images: ., shows: [precision, f1]}\n"
    )
    scripted(fb.Scripted(("Yes.",)))
    assert main(["eval", "org/a", "--bench", str(pictures), "--out", str(tmp_path / "out")]) == 0
    assert results(tmp_path / "out")["results"]["mine"]["alias"] == "My world: mine"
    out = capsys.readouterr().out
    assert "My world:" in out
    assert "mine  precision  0.500" in out


def test_the_list_tells_what_there_is(capsys):
    assert main(["eval", "--bench", "list"]) == 0
    told = capsys.readouterr().out
    assert "pope: POPE" in told
    assert "flavors: official, " in told
    assert "scenes: drawn scenes" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a model"),
        (["tiny-lvlm"], "name benchmarks"),
        (["tiny-lvlm", "--bench", "poep"], "unknown benchmark 'poep', and no such file of suites; did you mean 'pope'?"),
        (["tiny-lvlm", "tiny-lvlm", "--bench", "pope"], "tiny-lvlm is named twice"),
        (["tiny-lvml", "--bench", "pope"], "did you mean 'tiny-lvlm'?"),
        (["tiny-judge,tiny-lvml", "--bench", "pope"], "no model 'tiny-lvml' .did you mean 'tiny-lvlm'?"),
        (["org/a,org/b, org/a", "--bench", "pope"], "the model org/a is named twice"),
        (["tiny-lvlm", "--bench", "pope,pope"], "two benchmarks are called 'pope'"),
        (["tiny-lvlm", "--bench", "pope", "--data", "chair=x"], "data of 'chair' is given, but --bench names pope"),
        (["tiny-lvlm", "--bench", "pope", "--data", "pope=nowhere"], "pope: there is no nowhere"),
        (["tiny-lvlm", "--bench", "pope", "--images", "nowhere"], "none of its pictures is there, the first being nowhere/COCO"),
        (["tiny-lvlm", "--bench", "pope", "--set", "options.pope.splits=random"], "has no option 'splits'; did you mean 'split'"),
        (["tiny-lvlm", "--bench", "qa"], "benchmark 'qa' needs `data`"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(monkeypatch, tmp_path, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mm_align.backends.load_backend", lambda *a, **k: pytest.fail("a model was loaded"))
    assert main(["eval", *words]) == 2
    assert re.search(told, capsys.readouterr().err)


def test_the_protocol_of_a_paper_and_what_is_set_besides(fb, scripted, evaluated, tmp_path, capsys):
    scripted(fb.Scripted(("Yes.",)))
    assert evaluated("--protocol", "paper", "--set", "sampling.beams=2") == 0
    assert "pope: decoded as LLaVA-1.5" in capsys.readouterr().err
    decoding = results(tmp_path / "out")["configs"]["pope"]["generation_kwargs"]
    assert (decoding["max_tokens"], decoding["beams"]) == (128, 2)


def test_protocols_are_of_benchmarks_that_can_be_built_so():
    for name, protocol in PAPER.items():
        if name in BENCHMARKS:
            assert protocol.options.keys() <= inspect.signature(BENCHMARKS[name]).parameters.keys()
        assert protocol.sampling.temperature == 0


def test_an_unknown_setting_of_decoding(evaluated, capsys):
    assert evaluated("--set", "sampling.beans=5") == 2
    assert "'beans' is no setting of decoding; there are n, temperature" in capsys.readouterr().err


def test_the_drawn_suites_end_to_end(tmp_path, capsys):
    """The bundled model on a few samples of every suite: one table, which says what world it is of."""
    assert main(["eval", "tiny-lvlm", "--bench", "scenes", "--limit", "2", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert "SceneWorld:" in told
    for name in ("scenes-pope", "scenes-amber", "scenes-chair", "scenes-captions"):
        assert name in told
        assert results(tmp_path / "out", "tiny-lvlm")["results"][name]["alias"] == f"SceneWorld: {name}"
    page = (tmp_path / "out/report.html").read_text()
    assert "<title>Evaluation · SceneWorld</title>" in page
    assert page.count("<figcaption>SceneWorld: scenes-") == 4

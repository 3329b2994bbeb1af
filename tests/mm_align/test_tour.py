"""`mmalign tour` through the command line: done once, continued after a kill, refused with other stages, a failing command, the page."""

import inspect
import json
import re
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mm_align import config as configs
from mm_align.cli import VERBS, find_verb, main
from mm_align.flags import build_parser
from mm_align.jobs.tour.commands import last_lines
from mm_align.jobs.tour.config import FULL, QUICK, TourConfig, words_of
from mm_align.losses import OBJECTIVES

PACKAGED = {name: configs.load(TourConfig, configs.read_yaml(configs.find_config(name, "tour"))) for name in (FULL, QUICK)}
DRAW = "mmalign scenes make --n 2 --out {}"


def stage(name, *commands, **more):
    return {"name": name, "title": f"Stage <{name}>", "why": "to see", "commands": list(commands), **more}


def written(folder, *stages, **more):
    path = folder / "tour.yaml"
    path.write_text(yaml.safe_dump({"title": "A <b>tour</b>", "out": str(folder / "out"), "stages": list(stages), **more}))
    return str(path)


def numbers(folder):
    return json.loads((folder / "out" / "tour.json").read_text())


def test_stages_run_side_by_side_are_shown_and_not_run_again(tmp_path, capsys):
    shows = [
        {"type": "answers", "rows": "a", "responses": {"<i>model</i>": "said.jsonl"}, "truth": "objects"},
        {"type": "said", "command": 1},
        {"type": "captions", "data": "nowhere"},
    ]
    said = "".join(json.dumps({"sample_id": f"sw1-train-0-000000{k}", "text": "<script>alert(1)</script>"}) + "\n" for k in range(2))
    files = {"said.jsonl": said, "deep/er.yaml": {"seed": 3}}
    places = {"a": "the <first> pictures", "b": "the second"}
    headline = [{"label": "rows", "file": "a/sceneworld.json", "key": ["n"], "before": ["seed"]}]
    first = stage("one", [DRAW.format("a"), DRAW.format("b")], files=files, shows=shows)
    tour = written(tmp_path, first, stage("two", DRAW.format("c --set seed=1")), places=places, headline=headline)
    assert main(["tour", tour]) == 0
    out = tmp_path / "out"
    assert [len(list((out / "work" / name / "images").iterdir())) for name in "abc"] == [2, 2, 2]
    assert (out / "work/deep/er.yaml").read_text() == "seed: 3\n"
    page = (out / "tour.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "A &lt;b&gt;tour&lt;/b&gt;" in page
    assert "the &lt;first&gt; pictures" in page
    assert "2 scenes of split train" in page  # what the first command said
    assert page.count('src="data:image/png;base64') == 2
    assert "(not there: " in page  # no captions
    assert "http" not in page.replace("http-equiv", "")
    told = numbers(tmp_path)
    assert [one["state"] for one in told["stages"]] == ["done", "done"]
    assert told["headline"] == [{"label": "rows", "value": 2, "before": 0}]
    assert told["cpu"] > 0
    assert told["memory"] > 1e6
    before = (out / "logs/one-1.log").stat().st_mtime_ns
    assert main(["tour", tour]) == 0
    assert "done already" in capsys.readouterr().out
    assert (out / "logs/one-1.log").stat().st_mtime_ns == before


def test_a_table_shows_paired_differences_where_asked(tmp_path):
    first, second = {"value": 0.25, "low": 0.125, "high": 0.375}, {"value": 0.5, "low": 0.375, "high": 0.625}
    values = {"a": first, "b": {**second, "difference": {"value": 0.25, "low": 0.0625, "high": 0.4375}}}
    told = {"models": ["a", "b"], "titles": {"x": "SceneWorld"}, "figures": {"x": {"accuracy": {"lower": False, "values": values}}}}
    shows = [{"type": "table", "file": "table.json", "names": {"b": "<b>"}, "differences": True}, {"type": "table", "file": "table.json"}]
    assert main(["tour", written(tmp_path, stage("one", DRAW.format("a"), files={"table.json": json.dumps(told)}, shows=shows))]) == 0
    page = (tmp_path / "out/tour.html").read_text()
    assert page.count("+0.250 [+0.062, +0.438]") == 1
    assert page.count("paired difference to the first column") == 1
    assert page.count("[0.375, 0.625]") == 2
    assert "&lt;b&gt;</th>" in page


@pytest.mark.parametrize(("n", "named"), [(3, [10, 20, 30]), (12, range(10, 121, 10)), (40, range(40, 401, 40))])
def test_curves_of_many_steps_name_some_of_them(tmp_path, n, named):
    log = "".join(json.dumps({"step": 10 * k, "loss": 1 / k}) + "\n" for k in range(1, n + 1))
    shows = [{"type": "losses", "title": "curve", "logs": {"a": "log.jsonl"}}]
    assert main(["tour", written(tmp_path, stage("one", DRAW.format("a"), files={"log.jsonl": log}, shows=shows))]) == 0
    chart = (tmp_path / "out/tour.html").read_text().split('<figure class="wide">')[1].split("</svg>")[0]
    found = [int(told) for told in re.findall(r">(\d+)<", chart) if int(told) >= 10]
    assert found == list(named)


def test_the_report_of_a_tour(tmp_path, reported):
    """What its commands say is in the logs; of a dry run the script is for people too."""
    tour = written(tmp_path, stage("one", DRAW.format("a")))
    assert reported("tour", tour, "--dry-run")["page"] == str(tmp_path / "out/tour.html")
    assert not (tmp_path / "out").exists()
    told = reported("tour", tour)
    assert (told["out"], told["exit_code"], told["memory"] > 1e6) == (str(tmp_path / "out"), 0, True)
    failing = written(tmp_path, stage("two", "mmalign merge nothing"))
    assert main(["tour", failing, "--overwrite", "--json"]) == 2


def test_other_stages_are_refused_until_told_to_overwrite(tmp_path, capsys):
    assert main(["tour", written(tmp_path, stage("one", DRAW.format("a")))]) == 0
    other = written(tmp_path, stage("one", DRAW.format("a --seed 1")))
    assert main(["tour", other]) == 2
    assert "mmalign scenes make --n 2 --out a --seed 1" in capsys.readouterr().err
    assert main(["tour", other, "--overwrite"]) == 0
    assert json.loads((tmp_path / "out/work/a/sceneworld.json").read_text())["seed"] == 1


def test_a_failing_command_ends_the_tour_with_what_it_said_and_a_page(tmp_path, capsys):
    tour = written(tmp_path, stage("one", DRAW.format("a")), stage("two", "mmalign merge nothing"), stage("three", DRAW.format("c")))
    assert main(["tour", tour]) == 2
    told = capsys.readouterr().err
    assert "`mmalign merge nothing` ended with exit code 2" in told
    assert "nothing" in (tmp_path / "out/logs/two-1.log").read_text()
    assert [one["state"] for one in numbers(tmp_path)["stages"]] == ["done", "begun", "to come"]
    assert "to come" in (tmp_path / "out/tour.html").read_text()
    assert not (tmp_path / "out/work/c").exists()


def test_what_a_library_reports_at_exit_is_not_what_the_command_said(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("$ mmalign x\n2 rows\nreport: a.html\nnanobind: leaked 4 instances!\n - leaked instance\nSee https://example.org\n")
    assert last_lines(log, 2) == "2 rows\nreport: a.html"
    assert last_lines(tmp_path / "none.log", 2) == ""


@pytest.mark.parametrize(("kill", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_stopped_tour_goes_on_where_it_was(tmp_path, kill, code):
    tour = written(
        tmp_path, stage("one", DRAW.format("a")), stage("two", "mmalign scenes make --n 1500 --out b"), stage("three", DRAW.format("c"))
    )
    command = [sys.executable, "-m", "mm_align", "tour", tour]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 25
        while not (tmp_path / "out/logs/two-1.log").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(kill)
        assert process.wait(25) == code
    made = tmp_path / "out/work/a/sceneworld.json"
    before = made.stat().st_mtime_ns
    until = time.monotonic() + 25
    while (again := subprocess.run(command, capture_output=True, text=True, check=False)).returncode == 2 and time.monotonic() < until:
        assert "another mmalign run is writing" in again.stderr  # the killed tour's command still runs, and holds the folder
    assert again.returncode == 0, again.stderr
    assert made.stat().st_mtime_ns == before
    assert [one["state"] for one in numbers(tmp_path)["stages"]] == ["done"] * 3
    assert len(list((tmp_path / "out/work/b/images").iterdir())) == 1500


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"comands": ["mmalign doctor"]}, "did you mean 'commands'?"),
        ({"commands": ["rm -rf /"]}, "a command should begin with `mmalign `"),
        ({"commands": ["mmalign 'doctor"]}, "cannot be read as a command"),
        ({"commands": ["mmalign doctor"], "files": {"../x": "y"}}, "inside of the work folder"),
        ({"commands": ["mmalign doctor"], "shows": [{"type": "caption", "data": "x"}]}, "did you mean 'captions'?"),
        ({"commands": ["mmalign doctor"], "shows": [{"type": "captions", "dta": "x"}]}, "did you mean 'data'?"),
    ],
)
def test_what_is_wrong_in_a_tour_is_said(tmp_path, capsys, change, told):
    path = written(tmp_path, {"name": "one", "title": "One", "why": "", **change})
    assert main(["tour", path]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_dry_run_prints_a_script_and_makes_nothing(tmp_path, capsys):
    assert main(["tour", written(tmp_path, stage("one", DRAW.format("a"), files={"x.yaml": {"a": 1}})), "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[3:] == ["cat > x.yaml <<'END'", "a: 1", "END", DRAW.format("a")]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", PACKAGED)
def test_every_command_of_a_packaged_tour_is_accepted(name):
    """By the verb's parser; where it reads a file of the tour, that file's keys too."""
    files = {file: content for one in PACKAGED[name].stages for file, content in one.files.items()}
    for command in (command for one in PACKAGED[name].stages for command in one.every):
        words = words_of(command)[1:]
        verb = find_verb(words)
        assert verb, command
        job = __import__(VERBS[verb].module, fromlist=["_"])
        given = vars(build_parser(verb, VERBS[verb], job).parse_args(words[len(verb.split()) :]))
        sets = configs.parse_sets(given["common_set"])
        recipe = given.get("recipe")
        layer = files[recipe] if recipe in files else configs.read_yaml(configs.find_config(recipe, *VERBS[verb].folders)) if recipe else {}
        known = {key: value for key, value in given.items() if key != "recipe" and not key.startswith("common_")}
        config = configs.load(getattr(job, VERBS[verb].config), layer, sets, known)
        if verb == "train":
            known = inspect.signature(OBJECTIVES[config.objective["type"]]).parameters
            assert config.objective.keys() - {"type"} <= known.keys(), command


@pytest.mark.slow
def test_the_short_tour_ends_with_better_captions_and_a_page(tmp_path):
    out = tmp_path / "out"
    assert main(["tour", "--quick", "--out", str(out)]) == 0
    told = numbers(tmp_path)
    assert [one["state"] for one in told["stages"]] == ["done"] * len(PACKAGED[QUICK].stages)
    assert all(one["value"] is not None for one in told["headline"])
    (captions,) = [one for one in told["headline"] if "F1" in one["label"]]
    assert captions["value"] > captions["before"] + 0.1
    page = (out / "tour.html").read_text()
    assert "(not there: " not in page
    assert "not there</td>" not in page
    assert len(page) < 5e6

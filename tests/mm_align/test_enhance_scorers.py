"""Stages of `mmalign enhance-data` that ask a model for signals, through its door."""

import json

import PIL.Image
import pytest

import mm_align.backends
from data_tools.filters import SCORERS
from data_tools.records import Response
from mm_align.backends.null import NullBackend
from mm_align.cli import main
from mm_align.jobs.enhance.config import EnhanceConfig
from mm_align.jobs.enhance.scorers import SCORING


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    PIL.Image.new("RGB", (24, 24), "red").save(folder / "x.png")
    captions = ["a red square", "a red square on white ground", "poor square, very poor", "one"]
    rows = [{"id": f"r{i}", "image": "x.png", "caption": caption} for i, caption in enumerate(captions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Metrics(NullBackend):
    """Gives captions that say "poor" 7 and others 93, an unreadable number for the metric of writing, and counts its calls."""

    def __init__(self):
        super().__init__(batch_size=3)
        self.asked = []

    def generate(self, samples, sampling):
        self.asked += [s.id for s in samples]
        return [Response(f"{s.id}:0", s.id, self.answer(s.messages[0].parts[1].text)) for s in samples]

    @staticmethod
    def answer(question):
        return "very good" if "piece of writing" in question else "7" if "poor" in question.splitlines()[0] else "93"


@pytest.fixture
def metrics(monkeypatch):
    backend, load = Metrics(), mm_align.backends.load_backend
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda name, **more: backend if name == "metrics" else load(name, **more))
    return backend


def run(source, out, *more):
    return main(["enhance-data", str(source), "--out", str(out), *more])


def rows_of(out):
    return [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]


def test_every_filter_that_asks_a_model_is_a_stage_with_an_option_of_its_own():
    assert set(SCORING) == set(SCORERS)
    options = [stage.option for stage in SCORING.values()]
    assert len(set(options)) == len(options)
    assert set(options) <= set(EnhanceConfig.model_fields)


def test_mlm_alone_tells_its_metrics_and_rules_use_them(source, tmp_path, metrics):
    out = tmp_path / "out"
    assert run(source, out, "--stages", "mlm", "--mlm-model", "metrics", "--drop-if", "mlm.semantic_understanding < 50") == 0
    rows = rows_of(out)
    assert [row["id"] for row in rows] == ["r0", "r1", "r3"]
    assert rows[0]["filters"]["signals"] == {
        "mlm.image_text_matching": 93,
        "mlm.object_detail_fulfillment": 93,
        "mlm.caption_text_quality": None,
        "mlm.semantic_understanding": 93,
    }
    (gone,) = [json.loads(line) for line in (out / "quarantine" / "rows.jsonl").read_text().splitlines()]
    assert gone["reason"] == "rule:mlm.semantic_understanding < 50"
    record = json.loads((out / ".mmalign" / "run.json").read_text())
    assert record["scorers"]["mlm"]["model"] == "null"


def test_signals_then_mlm_then_the_quality_model(source, tmp_path, metrics):
    """The cheap rule takes r3 before the metrics' model is asked, the metric takes r2 before the quality model is."""
    out = tmp_path / "out"
    stages = ["--stages", "signals,mlm,aitqe", "--mlm-model", "metrics", "--signals", "text.words,mlm.image_text_matching"]
    rules = ["--drop-if", "text.words < 2", "--drop-if", "mlm.image_text_matching < 50"]
    assert run(source, out, *stages, *rules, "--model", 'null:{"Overall Score": "9<Overall>"}', "--format", "parquet") == 0
    assert metrics.asked == ["r0", "r1", "r2"]
    import pyarrow.parquet as pq

    rows = pq.read_table(out / "rows.parquet").to_pylist()
    assert [row["aitqe"]["signals"] for row in rows] == [
        {"text.words": 3, "rights.opt_out": None, "mlm.image_text_matching": 93},
        {"text.words": 6, "rights.opt_out": None, "mlm.image_text_matching": 93},
    ]
    assert rows[0]["aitqe"]["scores"]["overall"] == 9


def test_the_same_model_for_both_is_loaded_once(source, tmp_path, monkeypatch):
    loaded, load = [], mm_align.backends.load_backend
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda name, **more: loaded.append(name) or load(name, **more))
    assert run(source, tmp_path / "out", "--stages", "mlm,aitqe", "--model", "null:12", "--mlm-model", "null:12") == 0
    assert loaded == ["null:12"]
    assert rows_of(tmp_path / "out")[0]["aitqe"]["signals"]["mlm.caption_text_quality"] == 12


def test_a_dry_run_asks_it_too(source, tmp_path, metrics, capsys):
    assert run(source, tmp_path / "out", "--stages", "mlm", "--mlm-model", "metrics", "--dry-run") == 0
    assert len(metrics.asked) == 16
    assert not (tmp_path / "out").exists()
    assert "Nothing was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--stages", "mlm"], "stage mlm asks a model: say which by --mlm-model"),
        (["--mlm-model", "null:5"], "--mlm-model has no effect without its stage: add mlm to --stages"),
        (["--stages", "mlm", "--mlm-model", "null:5", "--signals", "mlm.semantic"], "did you mean 'mlm.semantic_understanding'"),
        (["--stages", "mlm", "--mlm-model", "null:5", "--drop-if", "mlm.semantc < 5"], "did you mean mlm."),
        (["--stages", "mlm", "--mlm-model", "tiny-aitqee"], "did you mean 'tiny-aitqe'"),
    ],
)
def test_what_does_not_fit_is_refused(source, tmp_path, capsys, more, said):
    assert run(source, tmp_path / "out", *more) == 2
    assert said in capsys.readouterr().err


@pytest.fixture
def classifier(tmp_path):
    """A folder with a random classifier of the labels normal and nsfw."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 16,
        "patch_size": 8,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ViTForImageClassification(ViTConfig(**sizes, id2label={0: "normal", 1: "nsfw"})).save_pretrained(tmp_path / "nsfw")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path / "nsfw")
    return str(tmp_path / "nsfw")


@pytest.fixture
def head(tmp_path):
    """A head for encoders of width 16 that gives every picture about 5."""
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.full((1, 16), 0.01), "bias": torch.tensor([5.0])}, tmp_path / "head.safetensors")
    return str(tmp_path / "head.safetensors")


def test_heads_of_local_models_are_signals_like_others(source, tmp_path, classifier, head, encoder):
    """The stages run together, and a finished run with other weights of the same name is refused."""
    out = tmp_path / "out"
    stages = ["--stages", "aesthetic,nsfw", "--aesthetic-head", head, "--aesthetic-encoder", encoder, "--nsfw-model", classifier]
    assert run(source, out, *stages, "--keep-if", "aesthetic.score > 4.9 and nsfw.score < 1") == 0
    signals = [row["filters"]["signals"] for row in rows_of(out)]
    assert len(signals) == 4
    assert all(4.9 < told["aesthetic.score"] < 5.1 and 0 < told["nsfw.score"] < 1 for told in signals)
    told = json.loads((out / ".mmalign" / "run.json").read_text())["scorers"]
    assert told["nsfw"]["labels"] == ["nsfw"]
    assert all(len(told[stage][key]) == 16 for stage, key in (("aesthetic", "head"), ("aesthetic", "encoder"), ("nsfw", "weights")))


def test_shares_of_what_heads_tell(source, tmp_path, classifier, head, encoder):
    """The values are those of a run without shares, of pictures larger than filters see by themselves; the rows that leave are the least
    pleasing quarter and the least safe quarter."""
    names = [f"{i}.png" for i in range(4)]
    for i, name in enumerate(names):
        PIL.Image.effect_noise((700, 500), 30 + 60 * i).convert("RGB").save(source / name)
    rows = [{"id": name, "image": name, "caption": "a picture"} for name in names]
    (source / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stages = ["--stages", "aesthetic,nsfw", "--aesthetic-head", head, "--aesthetic-encoder", encoder, "--nsfw-model", classifier]
    assert run(source, tmp_path / "all", *stages) == 0
    plain = {row["id"]: row["filters"]["signals"] for row in rows_of(tmp_path / "all")}
    shares = ["--drop-if", "aesthetic.score in bottom 25%", "--drop-if", "nsfw.score in top 25%"]
    assert run(source, tmp_path / "out", *stages, *shares) == 0
    least = min(plain, key=lambda name: plain[name]["aesthetic.score"])
    worst = max(plain, key=lambda name: plain[name]["nsfw.score"])
    wanted = {name: told for name, told in plain.items() if name not in (least, worst)}
    assert {row["id"]: row["filters"]["signals"] for row in rows_of(tmp_path / "out")} == wanted


def test_a_changed_head_does_not_continue_a_run(source, tmp_path, head, encoder, capsys, monkeypatch):
    import torch
    from safetensors.torch import save_file

    stages = ["--stages", "aesthetic", "--aesthetic-head", head, "--aesthetic-encoder", encoder, "--batch-size", "1"]
    import data_tools.pipeline

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(data_tools.pipeline, "finalise_shard", full)
        assert run(source, tmp_path / "out", *stages) == 75
    save_file({"weight": torch.full((1, 16), 0.02), "bias": torch.tensor([5.0])}, head)
    capsys.readouterr()
    assert run(source, tmp_path / "out", *stages) == 2
    assert "aesthetic.head: was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--stages", "aesthetic"], "say which by --aesthetic-head"),
        (["--stages", "aesthetic", "--aesthetic-head", "{pickle}"], "Convert it once: python -c"),
        (["--stages", "aesthetic", "--aesthetic-head", "{head}", "--aesthetic-encoder", "./absent"], "no folder ./absent"),
        (["--stages", "nsfw", "--nsfw-model", "{classifier}", "--nsfw-labels", "gore"], "its labels are normal, nsfw"),
        (["--nsfw-labels", "gore"], "--nsfw-labels has no effect without its stage"),
    ],
)
def test_what_is_no_head_is_refused(source, tmp_path, capsys, classifier, head, more, said):
    import torch

    torch.save({"weight": torch.zeros(1, 16)}, tmp_path / "head.pth")
    names = {"pickle": str(tmp_path / "head.pth"), "head": head, "classifier": classifier}
    assert run(source, tmp_path / "out", *(word.format(**names) for word in more)) == 2
    assert said in capsys.readouterr().err


def test_similarity_is_the_encoders_own_and_rules_use_it(source, tmp_path, encoder):
    """The cosine of each row is that of the encoder's own forward, and a rule at the median lets two of four leave."""
    import torch
    from transformers import AutoModel, AutoProcessor

    captions = [json.loads(line)["caption"] for line in (source / "rows.jsonl").read_text().splitlines()]
    model, processor = AutoModel.from_pretrained(encoder).eval(), AutoProcessor.from_pretrained(encoder)
    with torch.no_grad():
        told = model(**processor(text=captions, images=PIL.Image.new("RGB", (24, 24), "red"), padding=True, return_tensors="pt"))
    wanted = (told.text_embeds @ told.image_embeds[0]).tolist()
    middle = sum(sorted(wanted)[1:3]) / 2
    out = tmp_path / "out"
    stages = ["--stages", "signals,similarity", "--similarity-model", encoder, "--signals", "text.words,similarity.cosine"]
    assert run(source, out, *stages, "--drop-if", f"similarity.cosine < {middle}") == 0
    signals = {row["id"]: row["filters"]["signals"]["similarity.cosine"] for row in rows_of(out)}
    assert signals == {f"r{i}": pytest.approx(c, abs=2e-6) for i, c in enumerate(wanted) if c > middle}
    record = json.loads((out / ".mmalign" / "run.json").read_text())["scorers"]["similarity"]
    assert len(record["weights"]) == 16


def test_the_least_similar_share_of_all_rows_leaves(source, tmp_path, encoder):
    """A share needs every row's value before the first verdict; the values are those of a run without shares, blank captions have none,
    and what a share wants gone the quality model is not asked about."""
    with (source / "rows.jsonl").open("a") as rows:
        rows.write(json.dumps({"id": "blank", "image": "x.png", "caption": " "}) + "\n")
    stages = ["--stages", "similarity,aitqe", "--similarity-model", encoder, "--model", 'null:{"Overall Score": "9<Overall>"}']
    assert run(source, tmp_path / "all", *stages) == 0
    plain = {row["id"]: row["aitqe"]["signals"]["similarity.cosine"] for row in rows_of(tmp_path / "all")}
    assert plain.pop("blank") is None
    assert run(source, tmp_path / "out", *stages, "--drop-if", "similarity.cosine in bottom 25%") == 0
    left = {row["id"]: row["aitqe"]["signals"]["similarity.cosine"] for row in rows_of(tmp_path / "out")}
    assert left == {"blank": None} | dict(sorted(plain.items(), key=lambda item: item[1])[1:])
    gone = [json.loads(line) for line in (tmp_path / "out" / "quarantine" / "rows.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in gone} == {"rule:similarity.cosine in bottom 25%"}


def test_a_rewrite_that_is_less_like_its_picture_is_refused(source, tmp_path, encoder):
    """What each caption's cosine falls by is known from two runs that only tell it; a margin between the falls parts the rows."""
    words = "a picture of something else"
    stages = ["--similarity-model", encoder, "--batch-size", "3"]
    model = ["--model", "null:" + json.dumps({"Recaption": words, "Overall Score": "2<Overall>"})]
    assert run(source, tmp_path / "plain", "--stages", "similarity,aitqe", *stages, *model) == 0
    rows = rows_of(tmp_path / "plain")
    assert [row["caption"] for row in rows] == [words] * 4
    raw = {row["id"]: row["aitqe"]["signals"]["similarity.cosine"] for row in rows}
    assert run(tmp_path / "plain", tmp_path / "again", "--stages", "similarity", *stages) == 0
    falls = {row["id"]: raw[row["id"]] - row["filters"]["signals"]["similarity.cosine"] for row in rows_of(tmp_path / "again")}
    low, high = max(min(falls.values()), 0.0), max(falls.values())
    assert high > low
    guard = ["--max-similarity-drop", f"{(low + high) / 2:.6f}"]
    assert run(source, tmp_path / "out", "--stages", "similarity,aitqe", *stages, *model, *guard, "--rescore") == 0
    before = [json.loads(line)["caption"] for line in (source / "rows.jsonl").read_text().splitlines()]
    for row, old in zip(rows_of(tmp_path / "out"), before, strict=True):
        refused = falls[row["id"]] > (low + high) / 2
        assert row["caption"] == (old if refused else words)
        assert (row["aitqe"]["reason"] == "guard:similarity") == refused
        assert [float(flag.removeprefix("similarity_fell:")) for flag in row["aitqe"]["flags"]] == (
            [pytest.approx(falls[row["id"]], abs=1e-4)] if refused else []
        )
        assert (row["aitqe"]["scores"]["overall_after"] is None) == refused


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--stages", "aitqe", "--max-similarity-drop", "0.1"], "add similarity to --stages"),
        (["--stages", "similarity", "--similarity-model", "{encoder}", "--max-similarity-drop", "0.1"], "add aitqe to --stages"),
        (
            ["--stages", "similarity,aitqe", "--similarity-model", "{encoder}", "--max-similarity-drop", "0.1", "--poor", "drop"],
            "by which nothing is rewritten",
        ),
        (["--stages", "similarity"], "say which by --similarity-model"),
        (["--stages", "similarity", "--similarity-model", "./absent"], "no folder ./absent"),
        (
            ["--stages", "similarity", "--similarity-model", "{encoder}", "--drop-if", "similarity.cosin < 0"],
            "did you mean similarity.cosine",
        ),
        (["--stages", "mlm", "--mlm-model", "null:5", "--drop-if", "mlm.semantic_understanding in top 5%"], "only while rows are judged"),
        (["--stages", "similarity", "--similarity-model", "{pickled}"], "holds its weights as a pickle"),
    ],
)
def test_what_is_no_similarity_is_refused(source, tmp_path, capsys, encoder, more, said):
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x02")
    names = {"encoder": encoder, "pickled": str(tmp_path / "pickled")}
    assert run(source, tmp_path / "out", *(word.format(**names) if "{e" in word or "{p" in word else word for word in more)) == 2
    assert said in capsys.readouterr().err

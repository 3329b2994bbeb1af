"""`mmalign chat`: what is a picture and what a question, one answer or a conversation, sentences for what is wrong."""

import PIL.Image
import pytest

import mm_align.backends
from data_tools.calls import Sampling
from data_tools.records import Response
from mm_align.backends.null import NullBackend
from mm_align.cli import main
from mm_align.config import UserError
from mm_align.jobs.chat import Talk, converse, split


class Drawing(NullBackend):
    """Draws the answers "a", "b", "c"; finds those of `liked` likelier by one a token."""

    def __init__(self, liked=""):
        super().__init__()
        self.liked = liked

    def generate(self, samples, sampling):
        return [Response(f"chat:{j}", "chat", text, tokens=1) for j, text in enumerate("abc"[: sampling.n])]

    def likelihood(self, samples, continuations, *, ended=False, temperature=1.0):
        return [[(-1.0 + (text in self.liked),) * 2 for text in texts] for texts in continuations]


class Echo(NullBackend):
    """Says how many pictures and which texts it was shown."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def generate(self, samples, sampling):
        self.asked.append((samples[0], sampling))
        texts = ["".join(p.text or "[picture]" for p in m.parts) for m in samples[0].messages]
        return [Response("chat:0", "chat", " | ".join(texts), tokens=1)]


@pytest.fixture
def echo(monkeypatch):
    backend = Echo()
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
    return backend


@pytest.fixture
def pictures(tmp_path):
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    return [str(tmp_path / name) for name in ("a.png", "b.png")]


def test_words_are_pictures_and_a_question(pictures):
    assert split([*pictures, "What is this?"]) == (pictures, "What is this?")
    assert split(pictures) == (pictures, None)
    assert split(["Hello"]) == (None, "Hello")
    assert split([]) == (None, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["c.png"], "no picture 'c.png': there is no such file"),
        (["c.png", "What?"], "no picture 'c.png'; give picture files first"),
        (["What", "is", "it?"], "no picture 'What'; give picture files first, then one question in quotes"),
    ],
)
def test_misspelt_pictures_are_named(words, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        split(words)


def test_one_question_about_two_pictures(echo, pictures, capsys):
    assert main(["chat", "any/model", *pictures, "What is this?", "--max-tokens", "5", "--temperature", "0.7", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "[picture][picture]What is this?\n"
    sample, sampling = echo.asked[0]
    assert len(sample.images) == 2
    assert sampling == Sampling(temperature=0.7, max_tokens=5, seed=3)


def test_best_of_several_by_the_implicit_reward(monkeypatch, pictures, capsys):
    """Scorer and sampler may differ: the sampler likes a, the scorer b, the reference c."""
    models = {"sampler": Drawing("a"), "scorer": Drawing("b"), "start": Drawing("c")}
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda name, **k: models[name])
    words = ["chat", "sampler", pictures[0], "What?", "--best-of", "3", "--reference", "start"]
    assert main([*words, "--scorer", "scorer", "-v"]) == 0
    told = capsys.readouterr()
    assert told.out == "b\n"
    assert [line.split() for line in told.err.splitlines()] == [["+0.0000", "a"], ["+0.1000", "b"], ["-0.1000", "c"]]
    assert main(words) == 0
    assert capsys.readouterr().out == "a\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--best-of", "4"], "--best-of needs --reference"),
        (["--reference", "tiny-lvlm"], "add --best-of 16"),
        (["--best-of", "4", "--reference", "tiny-lvlm", "--temperature", "0"], "a temperature above 0"),
    ],
)
def test_options_of_best_of_go_together(words, message, capsys):
    assert main(["chat", "tiny-lvlm", "Hello", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_log_probabilities_cannot_score(monkeypatch, capsys):
    model = Drawing()
    model.faces = frozenset({"generate"})
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda name, **k: model)
    assert main(["chat", "x/y", "Hello", "--best-of", "2", "--reference", "x/z"]) == 2
    assert "x/y gives no log-probabilities" in capsys.readouterr().err


def test_a_conversation_remembers_until_told_to_forget(echo, capsys):
    lines = iter(["one", "", "two", "/new", "three", "exit", "never"])
    converse(Talk(echo, Sampling(), [], "be brief"), 0, lambda prompt: next(lines))
    told = capsys.readouterr().out.splitlines()
    assert told == ["be brief | one", "be brief | one | be brief | one | two", "be brief | three"]


def test_the_end_of_input_ends_it(echo, pictures, monkeypatch, capsys):
    monkeypatch.setattr("builtins.input", lambda prompt: (_ for _ in ()).throw(EOFError))
    assert main(["chat", "any/model", pictures[0]]) == 0
    assert capsys.readouterr().out == ""


def test_nothing_to_ask_and_what_is_no_picture(tmp_path, capsys):
    assert main(["chat", "tiny-aitqe"]) == 2
    assert "name a picture, a question, or both" in capsys.readouterr().err
    (tmp_path / "x.png").write_text("no picture")
    assert main(["chat", "tiny-aitqe", str(tmp_path / "x.png"), "What?"]) == 2
    assert "cannot read the picture" in capsys.readouterr().err


def test_bundled_models_choose_among_their_own_answers(pictures, capsys):
    words = ["chat", "tiny-lvlm", pictures[0], "Describe the image briefly.", "--best-of", "3", "--max-tokens", "12", "--device", "cpu"]
    assert main([*words, "--reference", "tiny-judge"]) == 0
    assert capsys.readouterr().out.strip()


def test_a_bundled_model_answers(pictures, capsys):
    """Greedy, so twice the same."""
    answers = []
    for _ in range(2):
        assert main(["chat", "tiny-aitqe", pictures[0], "What is in the image?", "--max-tokens", "8", "--device", "cpu"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert answers[0].strip()

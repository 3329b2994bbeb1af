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


def test_a_bundled_model_answers(pictures, capsys):
    """Greedy, so twice the same."""
    answers = []
    for _ in range(2):
        assert main(["chat", "tiny-aitqe", pictures[0], "What is in the image?", "--max-tokens", "8", "--device", "cpu"]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert answers[0].strip()

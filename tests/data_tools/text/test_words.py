"""Words, repetition and language guess of short texts."""

import time

import pytest

from data_tools.text import encodable, guess_language, repetition, script, words


def test_words_are_casefolded_and_unpunctuated():
    assert words("A dog's Bone, 3 cm!") == ["a", "dog's", "bone", "3", "cm"]


def test_unspaced_scripts_count_characters():
    assert words("红色 circle") == ["红", "色", "circle"]


@pytest.mark.parametrize(("text", "expected"), [("ok \ud800", "ok \ufffd"), ("\ud83d\ude00", "😀"), ("é", "é")])
def test_encodable_mends_surrogates(text, expected):
    assert encodable(text) == expected
    encodable(text).encode("utf-8")


def test_repetition_by_hand():
    """Six words make four windows: rcr, crc, rcr, crc; two distinct ones, so 1 - 2/4 = 0.5."""
    assert repetition("red circle red circle red circle") == 0.5


@pytest.mark.parametrize("text", ["", "red red red", "A large red circle is left of a small blue square."])
def test_no_repetition(text):
    assert repetition(text) == 0.0


def test_templated_sentences_stay_low():
    """Three sentences of six words: 16 windows, of which "there is a" and "is a large" repeat: (2 + 1) / 16."""
    text = "There is a large red circle. There is a large blue square. There is a small green star."
    assert repetition(text) == pytest.approx(3 / 16)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("A large red circle is above a small blue square.", "en"),
        ("Ein großer roter Kreis ist über einem kleinen blauen Quadrat.", "de"),
        ("Un grand cercle rouge est au-dessus d'un petit carré bleu dans le coin.", "fr"),
        ("Un gran círculo rojo sobre el cuadrado azul en la esquina.", "es"),
        ("Een grote rode cirkel is boven het kleine blauwe vierkant.", "nl"),
        ("Большой красный круг", "ru"),
        ("红色的大圆圈在蓝色方块上面", "zh"),
        ("赤い大きな円", "ja"),
        ("빨간 원", "ko"),
        ("IMG_20210403_1234.jpg", None),
        ("red circle", None),
        ("12345 !!", None),
        ("", None),
    ],
)
def test_language(text, language):
    assert guess_language(text) == language


@pytest.mark.parametrize(("text", "expected"), [("abc", "latin"), ("Привет abc", "cyrillic"), ("123", None), ("አማ", "other")])
def test_script(text, expected):
    assert script(text) == expected


def test_a_megabyte_is_looked_at_quickly():
    start = time.perf_counter()
    guess_language("buy now " * 125_000)
    script("é" * 1_000_000)
    assert time.perf_counter() - start < 1

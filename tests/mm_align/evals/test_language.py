"""Words as NLTK and pattern see them: the published pairs, rules that are easily got wrong, and NLTK itself where it is installed."""

import json
import random
import re
import subprocess
import sys

import pytest

from mm_align.evals.language import lemma, pos_tag, singularize, tags_at, word_tokenize
from mm_align.evals.language.sentences import sentences

PIECES = [
    *"abcAB12..,,!?'\"`()[]{}<>;:@#$%&*-_/\\ \n\t  é\u00a0\x1c",
    *("'s", "n't", "'ll", "''", "``", "...", "--", " cannot ", " gonna", " wanna ", " 'tis ", "d'ye", "more'n", ". . ."),
    *("Mr. ", "U.S. ", "e.g. ", "J. ", "3. ", "a.m. ", "Inc. ", " The", " the", "«", "»", "“", "”", "’", "‘", "1,000 "),
]


def test_the_published_singulars(published_data):
    rows = (published_data("chair") / "pattern_singularize_pairs_dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    wrong = {word: (single, singularize(word)) for word, single in (row.split("\t") for row in rows) if singularize(word) != single}
    assert wrong == {}
    assert len(rows) > 11_000


def test_the_published_lemmas(published_data):
    rows = (published_data("chair") / "wordnet_lemmas_dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    found = {word: [lemma(word, pos) for pos in "nvar"] for word in (row.split("\t")[0] for row in rows)}
    assert found == {word: lemmas for word, *lemmas in (row.split("\t") for row in rows)}
    assert len(rows) == 6_000


@pytest.mark.parametrize(
    ("word", "single"),
    [
        *[("bus", "bu"), ("buses", "bus"), ("glass", "glas"), ("tennis", "tenni"), ("sports", "sport"), ("slice", "slouse")],
        *[("police", "polouse"), ("pasta", "pastum"), ("four", "fmy"), ("has", "ha"), ("this", "thi"), ("men", "man"), ("knives", "knife")],
        *[("as", "as"), ("is", "is"), ("mothers-in-law", "mother-in-law"), ("dogs'", "dog's"), ("'", "'s"), ("Cookies", "cookies")],
    ],
)
def test_pattern_s_singulars_right_and_wrong(word, single):
    assert singularize(word) == single


@pytest.mark.parametrize(
    ("word", "pos", "expected"),
    [
        *[("men", "n", "men"), ("buses", "n", "bus"), ("glass", "n", "glass"), ("knives", "n", "knife"), ("as", "n", "a")],
        *[("was", "v", "be"), ("better", "a", "good"), ("better", "s", "good"), ("buildings", "v", "build"), ("Dogs", "n", "Dogs")],
        *[("less", "n", "le"), ("went", "n", "went"), ("", "n", ""), ("ly", "r", "ly")],
    ],
)
def test_lemmas(word, pos, expected):
    assert lemma(word, pos) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's dog can't sit.", ["A", "man", "'s", "dog", "ca", "n't", "sit", "."]),
        ('He said "hi." (Then left.) At 5 p.m. it cost $3,500.', None),
        ("Dr. J. Smith left. The end.", ["Dr.", "J.", "Smith", "left", ".", "The", "end", "."]),
        ("I cannot, d'ye wanna go...", ["I", "can", "not", ",", "d", "'ye", "wan", "na", "go", "..."]),
        ("a cat – or — a dog", ["a", "cat", "–", "or", "—", "a", "dog"]),
        ("a cat–dog", ["a", "cat–dog"]),  # NLTK 3.9.3 and later split here
        ("the dog's\nleash' .) \"", ["the", "dog", "'s", "leash", "'", ".", ")", "``"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_words(text, words):
    said = ["He", "said", "``", "hi", ".", "''", "(", "Then", "left", ".", ")", "At", "5", "p.m.", "it", "cost", "$", "3,500", "."]
    assert word_tokenize(text) == (said if words is None else words)


def test_sentences_keep_their_closing_marks():
    assert sentences('(One.) "Two!" Three? four.  Five') == ["(One.)", '"Two!"', "Three?", "four.", "Five"]
    assert sentences("Mr. A. Smith of the U.S. army left. It is.") == ["Mr. A. Smith of the U.S. army left.", "It is."]


def test_tags():
    tagged = pos_tag(word_tokenize("John's red dog isn't running 2 well-made cars in 1984."))
    assert [tag for _, tag in tagged] == ["NNP", "POS", "JJ", "NN", "VBZ", "RB", "VBG", "CD", "JJ", "NNS", "IN", "CD", "."]
    with pytest.raises(TypeError, match="takes a list of tokens"):
        pos_tag("a dog")


@pytest.mark.parametrize("places", [[], [0], [3, 9], [12], list(range(13))])
def test_tags_of_some_places_are_those_of_all(places):
    tokens = word_tokenize("John's red dog isn't running 2 well-made cars in 1984.")
    tagged, found = pos_tag(tokens), tags_at(tokens, places)
    assert [found[at] for at in places] == [tagged[at][1] for at in places]
    assert tags_at([], []).keys() == {-1, -2}


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_nltk_on_captions_and_on_noise(published_data, example, seed):
    """NLTK from 3.9.3 on differs at dashes, which are taken out; its WordNet has to be built and is left to the published lemmas."""
    nltk = pytest.importorskip("nltk")
    nltk.data.path.insert(0, str(published_data("nltk_data")))
    draw = random.Random(seed)
    lines = (example("chair/dev_shikra_greedy_80") / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    captions = [json.loads(line)["caption"] for line in lines]
    chunks = [chunk for caption in captions for chunk in caption.split()]
    mixed = [[draw.choice([f"{draw.choice(chunks)} ", draw.choice(PIECES)]) for _ in range(draw.randrange(30))] for _ in range(400)]
    for text in [*captions[seed::3], *map("".join, mixed)]:
        text = re.sub("[\u2012-\u2015]", "-", text)
        tokens = word_tokenize(text)
        assert sentences(text) == nltk.sent_tokenize(text)
        assert tokens == nltk.word_tokenize(text)
        tagged = nltk.pos_tag(tokens)
        assert pos_tag(tokens) == tagged
        places = sorted(draw.sample(range(len(tokens)), len(tokens) // 4))
        found = tags_at(tokens, places)
        assert [found[at] for at in places] == [tagged[at][1] for at in places]


def test_nltk_is_not_imported_for_it():
    code = "import sys, mm_align.evals.language as room; room.pos_tag(room.word_tokenize('A dog.')); print('nltk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout == "False\n"

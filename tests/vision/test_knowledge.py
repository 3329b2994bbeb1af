"""Measures worked out by hand, splits at their thresholds, selections of equal counts, aliases that are one name."""

import math
from collections import Counter
from typing import Any

import pytest
import torch

from vision.knowledge import SELECTIONS, Knowledge, candidates, measure, name_embeddings, normalised, select, split


def unit(*rows: Any) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=-1)


def known(rank: list[int], margin: list[float], ambiguity: list[float], similarity: list[float] | None = None) -> Knowledge:
    return Knowledge(
        torch.tensor(similarity or margin),
        torch.tensor(rank),
        torch.tensor(margin),
        torch.tensor(ambiguity),
        torch.zeros(len(rank)),
    )


class TestMeasure:
    def test_by_hand(self) -> None:
        """Names e1, e2, (e1 + e2) / sqrt 2; the picture is (0.6, 0.8): similarities 0.6, 0.8, 1.4 / sqrt 2 = 0.98995.

        Truth e1: rank 3, discrimination 0.6 - 0.98995 = -0.38995. Truth the third: rank 1, 0.98995 - 0.8 = 0.18995.
        T = 0.1: weights e^6, e^8, e^9.8995 = 403.43, 2980.96, 19920.3, sum 23304.7; p = 0.017311, 0.127912, 0.854776;
        H = 0.070227 + 0.263058 + 0.134129 = 0.467414; over log 3 = 1.098612: 0.425459.
        """
        names = unit((1, 0), (0, 1), (1, 1))
        got = measure(unit((0.6, 0.8), (0.6, 0.8)), names, torch.tensor([0, 2]), temperature=0.1)
        assert got.rank.tolist() == [3, 1]
        torch.testing.assert_close(got.similarity, torch.tensor([0.6, 0.989949]))
        torch.testing.assert_close(got.discrimination, torch.tensor([-0.389949, 0.189949]), rtol=0, atol=1e-5)
        torch.testing.assert_close(got.ambiguity, torch.tensor([0.425459, 0.425459]), rtol=0, atol=1e-4)
        torch.testing.assert_close(got.posterior, torch.tensor([0.017311, 0.854776]), rtol=0, atol=1e-4)

    def test_ambiguity_is_one_where_nothing_tells_names_apart_and_zero_where_all_does(self) -> None:
        names = torch.eye(4)[:3]
        got = measure(torch.eye(4)[[3, 0]], names, torch.tensor([0, 0]))
        torch.testing.assert_close(got.ambiguity, torch.tensor([1.0, 0.0]))

    def test_a_tie_keeps_the_rank_and_leaves_no_margin(self) -> None:
        """Two equal names: neither is strictly above the other, so both are rank 1 with discrimination exactly 0."""
        names = unit((1, 2, 3), (1, 2, 3), (3, 2, 1))
        got = measure(unit((1, 1, 2), (1, 1, 2)), names, torch.tensor([0, 1]))
        assert got.rank.tolist() == [1, 1]
        assert got.discrimination.tolist() == [0.0, 0.0]

    @pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
    def test_chunks_change_nothing_not_even_a_bit(self, chunk: int) -> None:
        torch.manual_seed(0)
        names = torch.nn.functional.normalize(torch.randn(53, 33), dim=-1)
        names[40:] = names[:13]  # exact ties, far apart
        images = torch.nn.functional.normalize(torch.randn(129, 33), dim=-1)
        truth = torch.randint(0, 53, (129,))
        whole, pieces = measure(images, names, truth, chunk=129), measure(images, names, truth, chunk=chunk)
        for name in ("similarity", "rank", "discrimination", "ambiguity", "posterior"):
            assert torch.equal(getattr(whole, name), getattr(pieces, name)), name
        tied = (truth >= 40) | (truth < 13)
        assert (whole.discrimination[tied] <= 0).all()

    def test_against_a_plain_loop(self) -> None:
        torch.manual_seed(1)
        names = torch.nn.functional.normalize(torch.randn(9, 5), dim=-1)
        images = torch.nn.functional.normalize(torch.randn(20, 5), dim=-1)
        truth = torch.arange(20) % 9
        got = measure(images, names, truth, temperature=0.05)
        for i in range(20):
            s = [float(images[i] @ names[c]) for c in range(9)]
            y = int(truth[i])
            z = sum(math.exp(v / 0.05) for v in s)
            p = [math.exp(v / 0.05) / z for v in s]
            assert int(got.rank[i]) == 1 + sum(v > s[y] for v in s)
            assert float(got.discrimination[i]) == pytest.approx(s[y] - max(v for c, v in enumerate(s) if c != y), abs=1e-6)
            assert float(got.ambiguity[i]) == pytest.approx(-sum(q * math.log(q) for q in p) / math.log(9), abs=1e-5)
            assert float(got.posterior[i]) == pytest.approx(p[y], abs=1e-5)

    @pytest.mark.parametrize(
        ("images", "names", "truth", "temperature", "message"),
        [
            (torch.eye(3), torch.eye(2), [0, 0, 0], 0.01, r"of one width, got \(3, 3\) and \(2, 2\)"),
            (torch.eye(2), torch.eye(2)[:1], [0, 0], 0.01, "at least two candidate names"),
            (torch.eye(2), torch.eye(2), [0], 0.01, "each of 2 pictures needs the index"),
            (torch.eye(2), torch.eye(2), [0, 2], 0.01, "indices 0 to 1, got 0 to 2"),
            (torch.eye(2), 2 * torch.eye(2), [0, 1], 0.01, "name embeddings must be unit vectors; number 0"),
            (torch.eye(2) * float("nan"), torch.eye(2), [0, 1], 0.01, "picture embeddings must be unit"),
            (torch.eye(2), torch.eye(2), [0, 1], 0.0, "temperature must be above 0"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, images: Any, names: Any, truth: list[int], temperature: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            measure(images, names, torch.tensor(truth), temperature=temperature)


class TestSplit:
    def test_by_hand(self) -> None:
        """Rank-1 margins 0.1, 0.2, 0.3: median 0.2, so two are known. Rank 11 is unknown, rank 10 is not.

        The rest (margin 0.1, and ranks 2, 10, 5) have ambiguities 0.1, 0.5, 0.9, 0.2: quantile 0.75 lies at
        0.5 + 0.25 x 0.4 = 0.6, so only the 0.9 is unknown.
        """
        measures = known([1, 1, 1, 2, 10, 5, 11], [0.1, 0.2, 0.3, -0.1, -0.2, -0.1, -0.3], [0.1, 0.9, 0.9, 0.5, 0.9, 0.2, 0.0])
        assert split(measures) == ["uncertain", "known", "known", "uncertain", "unknown", "uncertain", "unknown"]

    def test_ties_at_the_median_go_together(self) -> None:
        assert split(known([1, 1, 1], [0.2, 0.2, 0.2], [0, 0, 0])) == ["known"] * 3

    def test_a_tie_for_rank_1_is_not_knowledge(self) -> None:
        """Margins 0 (tied), 0.1, 0.3: the median of the two that stand alone is 0.2."""
        assert split(known([1, 1, 1], [0.0, 0.1, 0.3], [0.5, 0.1, 0.1])) == ["unknown", "uncertain", "known"]

    def test_nothing_is_known_where_nothing_is_first(self) -> None:
        assert split(known([11, 12], [-0.1, -0.2], [0.5, 0.5])) == ["unknown", "unknown"]

    def test_a_share_above_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="known_quantile is a share"):
            split(known([1], [0.1], [0.1]), known_quantile=5)


class TestSelect:
    IDS = [f"i{k}" for k in range(8)]
    ENTITIES = ["a", "a", "a", "a", "b", "b", "c", "c"]
    MEASURES = known([1] * 8, [0.1, 0.4, 0.3, 0.2, 0.9, 0.8, 0.5, 0.5], [0] * 8, [0.4, 0.1, 0.2, 0.3, 0.1, 0.2, 0.7, 0.6])

    def test_by_hand(self) -> None:
        """Half of each entity: 2 of a, 1 of b, 1 of c. The two margins of c are equal, so the smaller id is taken."""
        pick = {how: select(self.MEASURES, self.IDS, self.ENTITIES, how) for how in SELECTIONS}
        assert pick["hds"] == [1, 2, 4, 6]
        assert pick["hss"] == [0, 3, 5, 6]
        assert pick["lds"] == [0, 3, 5, 6]

    @pytest.mark.parametrize("how", SELECTIONS)
    def test_every_selection_has_the_same_counts(self, how: str) -> None:
        chosen = select(self.MEASURES, self.IDS, self.ENTITIES, how, fraction=0.5)
        assert Counter(self.ENTITIES[i] for i in chosen) == {"a": 2, "b": 1, "c": 1}

    @pytest.mark.parametrize("how", SELECTIONS)
    def test_the_order_of_rows_does_not_matter(self, how: str) -> None:
        order = [5, 2, 7, 0, 6, 1, 4, 3]
        moved = Knowledge(*(getattr(self.MEASURES, f)[order] for f in Knowledge.__slots__))
        ids, entities = [self.IDS[i] for i in order], [self.ENTITIES[i] for i in order]
        ours = {ids[i] for i in select(moved, ids, entities, how, seed=3)}
        assert ours == {self.IDS[i] for i in select(self.MEASURES, self.IDS, self.ENTITIES, how, seed=3)}

    def test_entities_that_are_too_small_leave_every_selection(self) -> None:
        for how in SELECTIONS:
            chosen = select(self.MEASURES, self.IDS, self.ENTITIES, how, per_entity=3)
            assert [self.ENTITIES[i] for i in chosen] == ["a", "a", "a"]

    def test_random_follows_its_seed(self) -> None:
        picks = {tuple(select(self.MEASURES, self.IDS, self.ENTITIES, "random", seed=s)) for s in range(20)}
        assert len(picks) > 5
        assert select(self.MEASURES, self.IDS, self.ENTITIES, "random", seed=4) == select(
            self.MEASURES, self.IDS, self.ENTITIES, "random", seed=4
        )

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="unknown selection 'best'; known: hds"):
            select(self.MEASURES, self.IDS, self.ENTITIES, "best")
        with pytest.raises(ValueError, match="one for each of 8 pictures, got 7 and 8"):
            select(self.MEASURES, self.IDS[1:], self.ENTITIES, "hds")
        with pytest.raises(ValueError, match="at most 1, got 2"):
            select(self.MEASURES, self.IDS, self.ENTITIES, "hds", fraction=2)


class TestNames:
    def test_normalised(self) -> None:
        assert normalised("  Tour_Eiffel. ") == normalised("tour   éiffel") == "tour eiffel"
        assert normalised("ガ") != normalised("カ")  # their marks are letters, no accents
        assert normalised("दिल्ली") == "दिल्ली"

    def test_spellings_of_one_name_are_one_candidate(self) -> None:
        got = candidates(["Eiffel Tower", "eiffel_tower", "Big Ben", "Eiffel Tower"])
        assert got.names == ["Big Ben", "Eiffel Tower"]
        assert got.truth(["eiffel_tower", "Big Ben", "Eiffel Tower"]).tolist() == [1, 0, 1]

    def test_aliases_join_and_the_named_one_speaks(self) -> None:
        got = candidates(
            ["Tour Eiffel", "Big Ben", "Elizabeth Tower", "Clock"], {"Eiffel Tower": ["tour eiffel"], "Big Ben": ["Elizabeth tower"]}
        )
        assert sorted(got.names) == ["Big Ben", "Clock", "Eiffel Tower"]
        assert got.of["Elizabeth Tower"] == got.of["Big Ben"] != got.of["Clock"]

    def test_the_order_of_names_does_not_matter(self) -> None:
        names = ["b", "B.", "a", "c c", "C_C"]
        assert candidates(names) == candidates(names[::-1])

    def test_without_deduplication_an_alias_takes_every_margin_away(self) -> None:
        """The reason for `candidates`: the same direction twice leaves no picture with a margin above 0."""
        names = unit((1, 0), (1, 0), (0, 1))
        assert measure(unit((1, 0.1)), names, torch.tensor([0])).discrimination.item() == 0
        assert measure(unit((1, 0.1)), names[1:], torch.tensor([0])).discrimination.item() > 0.8

    def test_a_name_of_signs_only_is_refused(self) -> None:
        with pytest.raises(ValueError, match="is no name"):
            candidates(["--"])

    def test_prompts_are_averaged_as_unit_vectors(self) -> None:
        """ "x A" -> (3, 0) and "A y" -> (0, 1): unit vectors (1, 0) and (0, 1) average to (1, 1) / sqrt 2. Lengths do not weigh."""
        vectors = {"x A": [1.0, 0.0], "A y": [0.0, 1.0]}
        got = name_embeddings(lambda texts: torch.tensor([vectors[t] for t in texts]), ["A"], ["x {}", "{} y"])
        torch.testing.assert_close(got, unit((1, 1)))

    def test_a_name_with_braces_is_no_template(self) -> None:
        seen: list[str] = []
        name_embeddings(lambda texts: seen.extend(texts) or torch.ones(len(texts), 2), ["a {b} {}"], ["photo of {}"])
        assert seen == ["photo of a {b} {}"]

    @pytest.mark.parametrize("prompts", [["no place"], ["{} and {}"], []])
    def test_prompts_without_one_place_are_refused(self, prompts: list[str]) -> None:
        with pytest.raises(ValueError, match="prompt"):
            name_embeddings(lambda texts: torch.ones(len(texts), 2), ["a"], prompts)

"""Perceptual hashes agree with `imagehash`; the banded index finds what brute force finds; the first of a kind stands for the others."""

import io

import numpy as np
import PIL.Image
import pytest

from data_tools.filters.perceptual import BLOCK, HammingIndex, PerceptualSignals, Repeats, dhashes, phashes, view_of
from data_tools.io import decode
from data_tools.io.images import ROTATIONS
from data_tools.records import Image, Sample

BACK = {6: PIL.Image.Transpose.ROTATE_90, 8: PIL.Image.Transpose.ROTATE_270}  # the others undo themselves


def photo(seed: int, size=(640, 400)) -> PIL.Image.Image:
    """Noise of 1/f over many sizes, as photographs have it."""
    rng = np.random.default_rng(seed)
    layers = [rng.normal(0, 1 / n, (n, n, 3)) for n in (2, 4, 8, 16, 32, 64)]
    planes = [PIL.Image.fromarray((127 + 90 * layer).clip(0, 255).astype(np.uint8)).resize(size, 3) for layer in layers]
    mean = np.mean([np.asarray(plane, float) for plane in planes], axis=0)
    return PIL.Image.fromarray(((mean - mean.min()) * (255 / np.ptp(mean))).astype(np.uint8))


def jpeg(picture: PIL.Image.Image, quality=85) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def phash(picture: PIL.Image.Image) -> int:
    return int(phashes([view_of(Image(pixels=picture))])[0])


def dhash(picture: PIL.Image.Image) -> int:
    return int(dhashes([view_of(Image(pixels=picture))])[0])


def bits(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def hashes_of(data: bytes) -> tuple[int, int]:
    view = view_of(decode(Image(data=data), max_side=PerceptualSignals.side, grey=True, loose=True))
    return int(phashes([view])[0]), int(dhashes([view])[0])


def test_dhash_by_hand():
    """A picture that grows lighter to the right has every bit, one that grows darker has none."""
    ramp = PIL.Image.fromarray(np.tile(np.arange(90, dtype=np.uint8), (80, 1)))
    assert dhash(ramp) == 2**64 - 1
    assert dhash(ramp.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)) == 0


def test_phash_by_hand():
    """A constant picture has the constant frequency alone above the median of the 64, which is the highest bit."""
    assert phash(PIL.Image.new("RGB", (50, 50), (9, 9, 9))) == 1 << 63
    assert bits(phash(PIL.Image.new("L", (50, 50), 200)), phash(PIL.Image.new("RGB", (99, 7), (200, 200, 200)))) == 0


def test_hashes_are_those_of_imagehash():
    """The same bits on the same pixels; on the small decode at most 4 of 64 differ, and less than half a bit on average."""
    imagehash = pytest.importorskip("imagehash")
    differ = []
    for seed in range(12):
        data = jpeg(photo(seed, (640 - 9 * seed, 401 + seed)))
        whole = PIL.Image.open(io.BytesIO(data))
        theirs = int(str(imagehash.phash(whole)), 16), int(str(imagehash.dhash(whole)), 16)
        assert (phash(whole), dhash(whole)) == theirs
        differ.append([bits(a, b) for a, b in zip(theirs, hashes_of(data), strict=True)])
    assert np.max(differ) <= 4
    assert np.mean(differ) < 0.5


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_has_the_hash_of_the_upright_one(orientation):
    """Stored so that its EXIF turns it upright; 450 and 321 pixels end in a quarter and an eighth of a block, on whichever side."""
    upright = photo(1, (450, 321))
    stored = upright.transpose(BACK.get(orientation, ROTATIONS[orientation]))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "JPEG", quality=95, exif=exif.tobytes())
    whole = phash(upright), dhash(upright)
    assert np.mean([bits(a, b) for a, b in zip(whole, hashes_of(buffer.getvalue()), strict=True)]) <= 1


def test_a_picture_is_known_again_at_another_size_and_quality():
    """And two different ones are far apart: 32 bits of 64 by chance."""
    for seed in range(6):
        picture = photo(seed)
        other = phash(photo(seed + 100))
        first, again = hashes_of(jpeg(picture)), hashes_of(jpeg(picture.resize((320, 200)), 60))
        assert bits(first[0], again[0]) <= 4
        assert bits(first[0], other) > 10


def clustered(n: int, seed=0) -> np.ndarray:
    """Hashes of which many lie near one another: a tenth as many centres, up to 8 bits flipped."""
    rng = np.random.default_rng(seed)
    hashes = rng.choice(rng.integers(0, 2**64, max(1, n // 10), dtype=np.uint64, endpoint=False), n)
    for _ in range(8):
        flip = np.uint64(1) << rng.integers(0, 64, n, dtype=np.uint64)
        hashes ^= np.where(rng.random(n) < 0.4, flip, np.uint64(0))
    return hashes


def test_the_index_finds_what_brute_force_finds():
    known, asked = clustered(1500), clustered(400, seed=0)
    for radius in (0, 1, 4, 11, 63):
        index = HammingIndex(radius)
        for part in np.array_split(np.arange(len(known)), 7):  # runs of many lengths
            index.add(known[part], part * 10)
        near = np.bitwise_count(asked[:, None] ^ known[None, :]) <= radius
        assert near.any()
        assert index.first(asked).tolist() == np.where(near.any(1), near.argmax(1) * 10, -1).tolist()


def test_the_index_is_exact_where_all_hashes_share_their_bands(monkeypatch):
    """Candidates are unpacked a few at a time; 3 hashes of one bit each, far from the query but in its bands."""
    monkeypatch.setattr("data_tools.filters.bands.MAX_PAIRS", 5)
    index = HammingIndex(1)
    index.add(np.array([7, 1, 2, 0] * 6, np.uint64), np.arange(24))
    assert index.first(np.array([0, 7, 255], np.uint64)).tolist() == [1, 0, -1]


def test_an_empty_index_knows_nothing():
    index = HammingIndex(4)
    assert index.first(np.array([1, 2], np.uint64)).tolist() == [-1, -1]
    index.add(np.array([], np.uint64), np.array([], np.int64))
    assert index.first(np.array([], np.uint64)).tolist() == []


@pytest.mark.parametrize("radius", [-1, 64])
def test_a_radius_that_means_nothing_is_refused(radius):
    with pytest.raises(ValueError, match=str(radius)):
        HammingIndex(radius)


def one_by_one(hashes: np.ndarray, known: np.ndarray, radius: int) -> list[int]:
    """The definition, a row at a time."""
    firsts: list[int] = []
    told = []
    for i, value in enumerate(hashes.tolist()):
        found = next((j for j in firsts if bits(value, int(hashes[j])) <= radius), -1) if known[i] else -1
        told.append(found)
        firsts += [i] if known[i] and found < 0 else []
    return told


@pytest.mark.parametrize("radius", [0, 4])
def test_the_first_of_a_kind_stands_for_the_others(radius):
    """Across blocks and calls; rows without a hash repeat nothing and stand for none."""
    hashes = clustered(2 * BLOCK + 300)
    known = np.random.default_rng(1).random(len(hashes)) < 0.9
    repeats = Repeats(radius)
    told = np.concatenate([repeats.of(hashes[a:b], known[a:b]) for a, b in ((0, 40), (40, 1400), (1400, len(hashes)))])
    assert told.tolist() == one_by_one(hashes, known, radius)


def test_a_chain_keeps_its_ends():
    """0, 1, 3 by one bit each: 1 repeats 0, and 3 is two bits from 0, so it stays."""
    assert Repeats(1).of(np.array([0, 1, 3], np.uint64), np.ones(3, bool)).tolist() == [-1, 0, -1]


def test_the_filter_compares_the_rows_it_told_of():
    pictures = [photo(1), photo(2), photo(1).resize((320, 200)), None]
    samples = [Sample(str(i), images=(Image(pixels=p),)) for i, p in enumerate(pictures)]
    one = PerceptualSignals(["perceptual.repeats"])
    assert (one.names, one.across, one.hidden) == (("perceptual.phash",), ("perceptual.repeats",), {"perceptual.phash"})
    packed = one.pack(one(samples))
    assert packed.shape == (4, 2)
    assert one.compare(packed)["perceptual.repeats"].tolist() == [-1, -1, 0, -1]
    assert one.pack([]).shape == (0, 2)
    assert PerceptualSignals(["perceptual.dhash"]).across == ()

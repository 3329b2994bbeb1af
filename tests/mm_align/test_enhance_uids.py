"""`mmalign enhance-data --uid-key`: the uids of the rows that stay, as DataComp's resharder reads them."""

import json
import signal

import numpy as np
import PIL.Image
import pytest

from mm_align.cli import main

KEEPS = 'null:{"Overall Score": "9<Overall>"}'


def uid(i):
    return f"{(i * 7919) % 101:016x}{i:016x}"


def write_shards(folder, rows, shards=2):
    folder.mkdir()
    PIL.Image.new("RGB", (8, 8), "red").save(folder / "x.png")
    for k in range(shards):
        lines = [json.dumps({"image": "x.png", "caption": f"a red square {i}", **row}) for i, row in enumerate(rows) if i % shards == k]
        (folder / f"part{k}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def run(source, out, *more):
    return main(["enhance-data", str(source), "--out", str(out), "--model", KEEPS, "--batch-size", "2", *more])


def test_kept_rows_are_listed_sorted_and_the_rest_is_not(tmp_path):
    rows = [{"uid": uid(i)} for i in range(9)] + [{"uid": uid(3)}, {"uid": "cafe"}, {"more": 1}, {"uid": uid(12), "image": "absent.png"}]
    out = tmp_path / "out"
    assert run(write_shards(tmp_path / "src", rows), out, "--uid-key", "uid") == 0
    kept = np.load(out / "uids.npy", allow_pickle=False)
    assert kept.dtype == np.dtype("u8,u8")
    assert kept.tolist() == sorted({(int(uid(i)[:16], 16), i) for i in range(9)})
    gone = [json.loads(line) for path in (out / "quarantine").iterdir() for line in path.read_text().splitlines()]
    assert sorted(row["reason"] for row in gone) == ["image_missing", "no_uid", "no_uid"]
    assert {"field 'uid': the uid is 'cafe'", "field 'uid': the uid is missing"} == {
        row["detail"].partition(";")[0] for row in gone if row["reason"] == "no_uid"
    }


def test_a_stopped_run_lists_the_same(tmp_path, monkeypatch):
    source = write_shards(tmp_path / "src", [{"uid": uid(i)} for i in range(12)])
    assert run(source, tmp_path / "whole", "--uid-key", "uid") == 0
    from mm_align.backends.null import NullBackend

    asked, plain = [], NullBackend.generate

    def stopping(self, samples, sampling):
        asked.append(len(samples))
        if len(asked) == 4:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, samples, sampling)

    monkeypatch.setattr(NullBackend, "generate", stopping)
    assert run(source, tmp_path / "out", "--uid-key", "uid") == 75
    assert not (tmp_path / "out" / "uids.npy").exists()
    assert run(source, tmp_path / "out", "--uid-key", "uid") == 0
    assert (tmp_path / "out" / "uids.npy").read_bytes() == (tmp_path / "whole" / "uids.npy").read_bytes()


@pytest.mark.parametrize(("key", "told"), [("uids", "did you mean 'uid'?"), ("hash", "its fields are image, caption, uid")])
def test_a_field_that_no_row_has_is_refused(tmp_path, capsys, key, told):
    assert run(write_shards(tmp_path / "src", [{"uid": uid(i)} for i in range(4)]), tmp_path / "out", "--uid-key", key) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_overwrite_without_the_key_takes_the_list_away(tmp_path):
    source, out = write_shards(tmp_path / "src", [{"uid": uid(i)} for i in range(4)]), tmp_path / "out"
    assert run(source, out, "--uid-key", "uid") == 0
    assert run(source, out, "--overwrite") == 0
    assert not (out / "uids.npy").exists()

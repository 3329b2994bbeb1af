"""What is no video, or not in it, gets a sentence that says so; nothing is fetched that was not asked for."""

import functools
import http.server
import threading

import numpy as np
import pytest

from video.decode import VideoError, decode, open_video, probe


def refused(source, match, **options):
    with pytest.raises(VideoError, match=match):
        probe(source, **options)


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "none.mp4", "no such file")
    refused(tmp_path, "a folder; a video is a file")
    (tmp_path / "empty.mp4").touch()
    refused(tmp_path / "empty.mp4", "an empty file")
    refused(b"", "empty")


def test_text_is_no_video_whatever_its_name(tmp_path):
    for name in ("a.mp4", "a.txt", "a.mkv", "a"):
        (tmp_path / name).write_text("Dear reader,\n" * 200)
        refused(tmp_path / name, "no video")


def test_sound_without_a_picture(tmp_path, clips):
    refused(clips.write_sound(tmp_path / "a.m4a", 1.0), "no video in it, only audio")


def test_an_mp4_without_its_index_is_told_as_that(plain, tmp_path):
    data = plain.path.read_bytes()
    path = tmp_path / "a.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4])
    refused(path, "'moov', is missing")
    refused(path.read_bytes(), "'moov', is missing")


def test_a_header_without_frames(tmp_path, plain):
    """An MP4 with its index in front that breaks off before the first picture."""
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(plain.path)) as old, av.open(str(path), "w", container_options={"movflags": "faststart"}) as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = copy
                new.mux(packet)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 8])
    refused(path, "not one frame is there|gives a frame")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.mp4", "https://a.b/c", "s3://bucket/a.mp4", "rtsp://a/b", "HTTP://a/b"])
def test_an_address_is_not_fetched_unless_asked(address):
    refused(address, "a network path is read only when it is asked for: network=True")


@pytest.fixture
def served(plain):
    """A web server of the plain clip's folder: (address, list of requests)."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *said):
            requests.append(said)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=plain.path.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


def test_an_address_is_fetched_when_asked(served, plain, clips):
    address, requests = served
    got = decode(f"{address}/{plain.path.name}", indices=[40], network=True)
    assert clips.read(got.frames[0]) == 40
    assert requests
    refused(f"{address}/none.mp4", "no video that can be opened", network=True)


def test_a_playlist_cannot_make_us_fetch(served, tmp_path):
    address, requests = served
    path = tmp_path / "a.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n")
    refused(path, "no video that can be opened")
    refused(path.read_bytes(), "no video that can be opened")
    assert not requests


@pytest.mark.parametrize(
    ("wish", "match"),
    [
        ({"indices": [60]}, "frame 60 was asked for; it has 60, from 0 to 59"),
        ({"indices": [3, -1]}, "frame -1 was asked for"),
        ({"times": [-0.5]}, "-0.5 s was asked for; it lasts from 0 to 2 s"),
        ({"times": [2.01]}, "2.01 s was asked for"),
        ({"times": [float("nan")]}, "nan s was asked for"),
        ({"times": [0.0], "indices": [0]}, "only one of them"),
        ({"size": (0, 5)}, "at least one pixel each way"),
    ],
)
def test_wishes_outside_the_video(plain, wish, match):
    with pytest.raises(VideoError, match=match):
        decode(plain.path, **wish)


def test_nothing_asked_for_is_an_empty_clip(plain):
    assert decode(plain.path, indices=[]).frames.shape == (0, 3, 64, 96)


def test_the_end_is_the_last_frame(plain):
    assert decode(plain.path, times=[2.0, 0.0]).indices.tolist() == [59, 0]


def test_a_clip_beyond_memory_is_refused_with_the_way_out(plain, monkeypatch):
    monkeypatch.setattr("video.decode.base.LIMIT", 2**20)
    with pytest.raises(VideoError, match=r"give a plan, times, indices or a size, or read it piece by piece with open_video"):
        decode(plain.path)
    with open_video(plain.path) as video:
        assert [len(piece) for piece in video.pieces(length=25)] == [25, 25, 10]


@pytest.mark.parametrize(
    "of", ["H.264, edit list, closed GOPs", "H.264, MPEG-TS, open GOPs", "H.264, Matroska, open GOPs", "AV1", "MPEG-4, AVI"]
)
def test_damaged_bytes_give_frames_or_a_sentence(zoo, of):
    """Noise in up to seven places, a third of the files cut off somewhere: never another error, never a clip without its frames."""
    whole, noise, read = zoo(of).path.read_bytes(), np.random.default_rng(5), 0
    for _ in range(25):
        data = bytearray(whole)
        for _ in range(noise.integers(1, 8)):
            place = int(noise.integers(0, len(data)))
            part = data[place : place + int(noise.integers(1, 40))]
            data[place : place + len(part)] = noise.integers(0, 256, len(part), dtype=np.uint8).tobytes()
        data = data[: int(len(data) * noise.random())] if noise.random() < 0.3 else data
        try:
            clip = decode(bytes(data))
        except VideoError:
            continue
        assert len(clip) == clip.source.n_frames
        read += 1
    assert read > 5

import os

import numpy as np
import pytest
import soundfile

from audio import headers, sound_files, waveforms
from audio.corpora import cuts, read
from disk import find_cache_folder
from logit_store import LogitStore

RATE = 8_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))


def ramp(duration_s, rate=RATE):
    """Write a file whose samples rise with time: 0.1 after one second."""
    return np.arange(round(duration_s * rate)) / rate / 10


def write(root, durations_s, rate=RATE):
    for name, duration_s in durations_s.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, ramp(duration_s, rate), rate, subtype="PCM_16")
    return root


@pytest.fixture
def root(tmp_path):
    lengths_s = {"cat/1.wav": 1.0, "cat/2.wav": 0.3, "cat/3.wav": 1.4, "dog/1.wav": 3.6}
    return write(tmp_path / "own", lengths_s | {"dog/2.wav": 1.0, "dog/3.wav": 1.005})


def start_of(corpus, clip_id):
    return corpus.starts_s()[corpus.column("clip_id").tolist().index(clip_id)]


def test_a_clip_lasts_as_long_as_the_median_file(root):
    corpus = read("folder", root)
    assert corpus.clip_duration_s == pytest.approx(1.002, abs=1e-3)
    assert corpus.is_cut


@pytest.mark.parametrize(
    ("durations_s", "clip_s"),
    [
        ([1.0, 1.0, 1.009], 1.0),  # all equal: as long as the first
        ([1.0, 2.0, 5.0], 2.0),
        ([30.0, 30.1], 30.0),
        ([30.0, 90.0, 60.0], 10.0),  # no published teacher accepts more
    ],
)
def test_the_clip_duration_for_the_durations_of_files(durations_s, clip_s):
    assert cuts.choose_clip_duration_s(np.array(durations_s)) == clip_s


def test_a_longer_file_becomes_several_clips_from_its_beginning_to_its_end():
    files_M, starts_M = cuts.cut_files(np.array([3.0, 0.5, 1.0, 1.4, 1.6, 0.0]), 1.0)
    assert files_M.tolist() == [0, 0, 0, 1, 2, 3, 4, 4, 5]
    expected = [0, 1, 2, 0, np.nan, 0, 0, 0.6, np.nan]
    np.testing.assert_allclose(starts_M, expected)


def test_clips_of_a_long_file_overlap_or_skip_at_most_half_a_clip():
    rng = np.random.default_rng(0)
    for duration_s in rng.uniform(2, 60, size=50):
        _, starts_M = cuts.cut_files(np.array([duration_s]), 1.0)
        assert starts_M[0] == 0
        assert starts_M[-1] + 1 == pytest.approx(duration_s, abs=2e-3)
        assert starts_M[-1] + 1 <= duration_s
        assert np.diff(starts_M).min() + 1e-3 >= 0.5
        assert np.diff(starts_M).max() <= 1.5 + 1e-3


def test_clips_of_one_file_belong_to_one_recording_and_one_fold(tmp_path):
    lengths_s = {f"{scene}/{i}.wav": 0.2 + 0.1 * i for scene in ("cat", "dog") for i in range(20)}
    corpus = read("folder", write(tmp_path, lengths_s))
    assert len(corpus) > len(lengths_s)
    for split in (25, 50, 100):
        pairs = set(zip(corpus.column("file"), corpus.column(f"fold_{split}"), strict=True))
        assert len(pairs) == len(lengths_s)
    assert len(set(corpus.column("recording"))) == len(lengths_s)


def test_a_clip_holds_the_samples_at_its_start_in_the_file(root, tmp_path):
    corpus = read("folder", root)
    samples_NS = waveforms.decode_corpus(
        corpus, RATE, cache=tmp_path / "cache", threads=1
    ).samples_NS
    ids = corpus.column("clip_id").tolist()
    assert ids[3:7] == [f"dog/1@{start:.3f}" for start in corpus.starts_s()[3:7]]
    for row in range(3, 7):
        start_s = corpus.starts_s()[row]
        expected = ramp(3.6)[round(start_s * RATE) :][: samples_NS.shape[1]]
        np.testing.assert_allclose(samples_NS[row] / 32768, expected, atol=1e-4)


def test_a_short_file_is_repeated_and_a_file_of_a_clips_length_is_not(root, tmp_path):
    corpus = read("folder", root)
    samples_NS = waveforms.decode_corpus(
        corpus, RATE, cache=tmp_path / "cache", threads=1
    ).samples_NS
    n_samples = samples_NS.shape[1]
    np.testing.assert_allclose(samples_NS[1] / 32768, np.resize(ramp(0.3), n_samples), atol=1e-4)
    assert start_of(corpus, "cat/1") is None
    np.testing.assert_allclose(samples_NS[0, :RATE] / 32768, ramp(1.0), atol=1e-4)


def test_files_of_different_rates_become_clips_of_one_length(tmp_path):
    write(tmp_path / "own", {"cat/1.wav": 1.0, "cat/2.wav": 2.0, "dog/1.wav": 1.0})
    write(tmp_path / "own", {"dog/2.wav": 0.5, "dog/3.wav": 1.0}, rate=11_025)
    corpus = read("folder", tmp_path / "own")
    decoded = waveforms.decode_corpus(corpus, 16_000, cache=tmp_path / "cache", threads=1)
    assert decoded.samples_NS.shape == (6, 16_000)
    # The half second of dog/2 twice: from 0 to 0.05, and again.
    second = decoded.samples_NS[4].reshape(2, 8_000)[:, 500:-500] / 32768
    np.testing.assert_allclose(second[0], second[1], atol=1e-3)
    assert second[0, -1] == pytest.approx(0.05 * 7_500 / 8_000, abs=1e-3)


def test_the_clips_fit_into_a_store(root, tmp_path):
    corpus = read("folder", root)
    store = LogitStore(tmp_path / "store")
    store.write_clips(corpus.name, corpus.clips_table())
    assert store.read_clips("folder")["clip_id"].to_pylist() == corpus.column("clip_id").tolist()
    kept = corpus.keep(store.read_clips("folder")["clip_id"].to_pylist())
    assert kept.starts_s() == corpus.starts_s()


def test_another_clip_length_gives_another_identity(root):
    before = read("folder", root)
    # The median changes, but no clip gets another name.
    write(root, {"cat/2.wav": 0.31, "dog/3.wav": 1.02, "cat/1.wav": 1.02})
    after = read("folder", root)
    assert after.clip_duration_s != before.clip_duration_s
    assert after.compute_identity() != before.compute_identity()


def test_only_headers_of_changed_files_are_read_again(root, monkeypatch):
    opened = []
    read = sound_files.read_header
    monkeypatch.setattr(
        sound_files, "read_header", lambda file: opened.append(file.name) or read(file)
    )
    files = ["cat/1.wav", "cat/2.wav", "dog/1.wav"]
    first = headers.read_headers(root, files)
    assert sorted(opened) == ["1.wav", "1.wav", "2.wav"]
    opened.clear()
    np.testing.assert_array_equal(
        headers.read_headers(root, files[::-1]).frames, first.frames[::-1]
    )
    assert opened == []
    write(root, {"cat/2.wav": 0.4})
    os.utime(root / "cat/2.wav", ns=(1, 1))
    assert headers.read_headers(root, files).durations_s.tolist() == [1.0, 0.4, 3.6]
    assert opened == ["2.wav"]


def test_an_unreadable_file_has_a_header_of_zeros(root):
    (root / "cat/1.wav").write_bytes(b"not audio")
    found = headers.read_headers(root, ["cat/1.wav", "cat/2.wav"])
    assert found.durations_s.tolist() == [0, 0.3]


@pytest.mark.parametrize("place", [10, -10, None])
def test_damaged_headers_are_read_again_with_one_line(root, caplog, place):
    files = ["cat/1.wav", "cat/2.wav", "dog/1.wav"]
    first = headers.read_headers(root, files)
    (cache,) = (find_cache_folder() / "headers").iterdir()
    content = bytearray(cache.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 255
    cache.write_bytes(content if place else content[:-20])
    np.testing.assert_array_equal(headers.read_headers(root, files).frames, first.frames)
    (line,) = caplog.messages
    assert line.startswith(f"{cache}: damaged, so it is made again")

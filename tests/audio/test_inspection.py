import numpy as np
import pytest
import soundfile

from audio import inspection, waveforms
from audio.corpora import read

RATE = 8_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))


def noise(seed, n_samples=RATE + 3):
    """Write an odd number of samples, which do not fill their last word of 8 bytes."""
    return 0.1 * np.random.default_rng(seed).standard_normal(n_samples)


def write(root, sounds):
    for name, samples in sounds.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, samples, RATE, subtype="PCM_16")
    return root


@pytest.fixture
def root(tmp_path):
    sounds = {
        f"{scene}/{i}.wav": noise(10 * i + j) for i in range(4) for j, scene in enumerate("ab")
    }
    return write(tmp_path / "own", sounds)


def look_at(root, seen=lambda done, total: None):
    corpus = read("folder", root)
    decoded = waveforms.decode_corpus(corpus, RATE, threads=1)
    return corpus, decoded, inspection.inspect_clips(corpus, decoded, on_progress=seen)


def names(corpus, rows):
    return [corpus.column("clip_id")[row] for row in rows]


def groups(root):
    corpus, decoded, found = look_at(root)
    return [names(corpus, rows) for rows in inspection.find_duplicates(found, decoded)]


def test_different_audio_has_no_duplicates(root):
    assert groups(root) == []


def test_the_same_audio_is_found_in_another_format(root):
    samples, _ = soundfile.read(root / "a/1.wav", dtype="int16")
    write(root, {"b/9.flac": samples, "b/8.wav": np.roll(samples, 1)})
    assert groups(root) == [["a/1", "b/9"]]


def test_clips_with_the_same_digest_are_compared_by_their_samples(root):
    # The weight of each word is odd, so the highest bits of two words cancel out.
    samples = soundfile.read(root / "a/1.wav", dtype="int16")[0]
    other, again = samples.copy(), samples.copy()
    other[[3, 7]] ^= np.int16(-32768)
    write(root, {"b/8.wav": other, "b/9.wav": again})
    corpus, decoded, found = look_at(root)
    row = {name: row for row, name in enumerate(names(corpus, range(len(corpus))))}
    assert found.digest[row["b/8"]] == found.digest[row["a/1"]]
    assert inspection.find_duplicates(found, decoded) == [[row["a/1"], row["b/9"]]]


def test_silent_clips_are_not_duplicates_of_each_other(root):
    write(root, {"a/8.wav": np.zeros(RATE + 3), "b/8.wav": np.zeros(RATE + 3)})
    assert groups(root) == []


def test_clipped_clips_are_sorted_with_the_worst_first(root):
    touching, half = noise(1), noise(2)
    touching[:4], half[::2] = 1, -1
    write(root, {"a/7.wav": touching, "a/8.wav": half, "b/8.wav": np.clip(20 * noise(3), -1, 1)})
    corpus, _, found = look_at(root)
    assert names(corpus, found.find_clipped()) == ["b/8", "a/8"]
    assert found.full_scale_share[found.find_clipped()[1]] == pytest.approx(0.5, abs=0.001)


def test_a_clip_is_silent_if_it_is_constant_or_below_a_few_steps(root):
    steps = np.random.default_rng(0).integers(-2, 3, RATE + 3).astype(np.int16)
    offset = np.full(RATE + 3, 0.25)
    write(root, {"a/7.wav": offset, "a/8.wav": steps, "b/7.wav": noise(5) / 300})
    corpus, _, found = look_at(root)
    assert names(corpus, found.find_silent()) == ["a/7", "a/8"]
    assert np.isneginf(found.level_db[found.find_silent()[0]])


def test_the_level_does_not_include_the_mean(root):
    seconds = np.arange(RATE + 3) / RATE
    write(root, {"a/0.wav": 0.5 + 0.1 * np.sin(2 * np.pi * 100 * seconds)})
    _, _, found = look_at(root)
    assert found.level_db[0] == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.01)


def test_chunks_give_the_same_results_as_one_pass(root, monkeypatch):
    whole = look_at(root)[2]
    monkeypatch.setattr(inspection, "WAVEFORM_CHUNK_BYTES", 3 * 2 * (RATE + 3))
    monkeypatch.setattr(inspection, "_read", lambda file, n: read_nothing(n))
    seen = []
    parts = look_at(root, lambda done, total: seen.append((done, total)))[2]
    assert seen == [(3, 8), (6, 8), (8, 8)]
    for name in ("digest", "full_scale_share", "level_db"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def read_nothing(n_clips):
    figures = (np.zeros(n_clips, dtype) for dtype in (np.uint64, np.float32, np.float32))
    return inspection.Inspection(*figures), np.zeros(n_clips, np.uint64)


def test_only_clips_that_were_decoded_again_are_inspected_again(root):
    seen = []
    look_at(root, lambda done, total: seen.append(total))
    assert seen == [8]
    look_at(root, lambda done, total: seen.append(total))
    assert seen == [8]
    write(root, {"a/2.wav": np.zeros(RATE + 3), "a/1.wav": noise(99)})
    corpus, _, found = look_at(root, lambda done, total: seen.append(total))
    assert seen == [8, 2]
    assert names(corpus, found.find_silent()) == ["a/2"]


def test_a_damaged_inspection_is_made_again_with_one_line(root, caplog):
    corpus, _, found = look_at(root)
    file = waveforms.name_map_folder(corpus, RATE, None) / "inspection.npz"
    file.write_bytes(file.read_bytes()[:-30])
    np.testing.assert_array_equal(look_at(root)[2].digest, found.digest)
    (line,) = caplog.messages
    assert line.startswith(f"{file}: damaged, so it is made again")


def test_silence_in_the_place_of_a_lost_map_is_not_what_later_inspections_show(root):
    corpus, _, found = look_at(root)
    folder = waveforms.name_map_folder(corpus, RATE, None)
    (folder / "inspection.npz").unlink()
    (folder / "waveforms.int16").write_bytes(bytes(found.digest.size * 2 * (RATE + 3)))
    np.testing.assert_array_equal(look_at(root)[2].level_db, found.level_db)

import errno
import os
import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import torch
from corpus_files import SCENES, write_corpus

from audio import decoded_map, waveforms
from audio.corpora import tau
from audio.errors import BrokenAudio, CacheFull
from audio.inspection import inspect_clips
from audio.npz_cache import read_arrays, write_arrays

RATE = 32_000


@pytest.fixture
def root(tmp_path):
    return write_corpus(tmp_path / "tau")


def decode(root, tmp_path, **options):
    return waveforms.decode_corpus(
        tau.read(root), RATE, cache=tmp_path / "cache", threads=2, **options
    )


def first_file(root):
    return min((root / "audio").iterdir())


def row_of(root, file):
    return tau.read(root).column("file").tolist().index(f"audio/{file.name}")


def test_a_resampled_tone_keeps_its_pitch_and_level(root, tmp_path):
    corpus = tau.read(root)
    samples_NS = decode(root, tmp_path).samples_NS
    assert samples_NS.shape == (len(corpus), RATE)
    for row in (0, len(corpus) - 1):
        spectrum = np.abs(np.fft.rfft(samples_NS[row] / 32768)) / (RATE / 2)
        assert spectrum.argmax() == SCENES[corpus.column("scene")[row]]  # 1 s: one bin is 1 Hz
        assert spectrum.max() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_every_sample_width_gives_the_same_clip(root, tmp_path, subtype):
    file = first_file(root)
    samples, rate = soundfile.read(file)
    before = decode(root, tmp_path).samples_NS[row_of(root, file)].copy()
    soundfile.write(file, samples, rate, subtype=subtype)
    after = decode(root, tmp_path).samples_NS[row_of(root, file)]
    np.testing.assert_array_equal(after, before)


def test_16_bit_files_at_the_requested_rate_are_decoded_bit_for_bit(root, tmp_path):
    file = first_file(root)
    samples = np.random.default_rng(0).integers(-32768, 32768, RATE).astype(np.int16)
    soundfile.write(file, samples, RATE, subtype="PCM_16")
    np.testing.assert_array_equal(decode(root, tmp_path).samples_NS[row_of(root, file)], samples)


def test_only_a_changed_file_is_decoded_again(root, tmp_path):
    counts = []
    decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    first_time, counts = counts, []
    decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    assert first_time == [57] * 57
    assert counts == []
    file = first_file(root)
    os.utime(file, ns=(1, 1))
    decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    assert counts == [1]


def test_a_stereo_clip_is_averaged_and_counted(root, tmp_path):
    file = first_file(root)
    left, rate = soundfile.read(file)
    soundfile.write(file, np.stack([left, np.zeros_like(left)], axis=1), rate)
    decoded = decode(root, tmp_path)
    mono, _ = soundfile.read(file, always_2d=True)
    assert decoded.mixed_down == 1
    level = np.abs(decoded.samples_NS[row_of(root, file)] / 32768).max()
    assert level == pytest.approx(np.abs(left).max() / 2, rel=0.05)
    assert mono.shape[1] == 2


def test_samples_beyond_full_scale_are_limited_and_counted(root, tmp_path):
    file = first_file(root)
    soundfile.write(file, np.full(RATE, 1.5), RATE, subtype="FLOAT")
    decoded = decode(root, tmp_path)
    assert decoded.saturated == 1
    assert decoded.samples_NS[row_of(root, file)].tolist() == [32767] * RATE


def spoil_nothing(file):
    file.write_bytes(b"")


def spoil_nan(file):
    samples = np.zeros(16_000)
    samples[77] = np.nan
    soundfile.write(file, samples, 16_000, subtype="FLOAT")


def spoil_length(file):
    soundfile.write(file, np.zeros(8_000), 16_000)


def spoil_missing(file):
    file.unlink()


def spoil_text(file):
    file.write_text("not audio")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_nothing, "is empty"),
        (spoil_nan, r"sample 77 is \[nan\], expected finite numbers"),
        (spoil_length, r"lasts 0\.500 s, expected 1\.000 s"),
        (spoil_missing, "No such file"),
        (spoil_text, "Format not recognised"),
    ],
)
def test_a_broken_clip_is_reported_with_its_reason_and_the_others_are_decoded(
    root, tmp_path, spoil, reason
):
    file = first_file(root)
    row = row_of(root, file)
    spoil(file)
    with pytest.raises(
        BrokenAudio, match=rf"1 of 57 clips(?s:.*){file.name}: .*{reason}"
    ) as caught:
        decode(root, tmp_path)
    assert [clip.file for clip in caught.value.broken] == [f"audio/{file.name}"]
    assert "--leave-out-broken" in str(caught.value)
    counts = []
    with pytest.raises(BrokenAudio):
        decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    assert len(counts) <= 1  # only the broken clip is tried again
    corpus = tau.read(root)
    rest = corpus.keep(np.delete(corpus.column("clip_id"), row))
    assert len(waveforms.decode_corpus(rest, RATE, cache=tmp_path / "cache").samples_NS) == 56


def test_loading_decodes_if_there_is_no_map_yet(root, tmp_path):
    corpus = tau.read(root)
    loaded = waveforms.load_waveforms(corpus, RATE, cache=tmp_path / "other machine")
    np.testing.assert_array_equal(loaded.samples_NS, decode(root, tmp_path).samples_NS)


def test_a_batch_is_within_minus_one_and_one_in_the_order_of_the_rows(root, tmp_path):
    decoded = decode(root, tmp_path)
    rows_B = np.array([5, 0, 5])
    batch_BS = decoded.load_batch(rows_B, torch.device("cpu"))
    expected = decoded.samples_NS[rows_B].astype(np.float32) / 32768
    np.testing.assert_array_equal(batch_BS.numpy(), expected)


def map_of(tmp_path):
    (file,) = (tmp_path / "cache").rglob("waveforms.int16")
    return file


def load(root, tmp_path):
    return waveforms.load_waveforms(tau.read(root), RATE, cache=tmp_path / "cache")


def remove(file):
    file.unlink()


def cut_short(file):
    file.write_bytes(file.read_bytes()[:-100])


def empty(file):
    file.write_bytes(b"")


def write_zeros(file):
    file.write_bytes(bytes(file.stat().st_size))


def put_another(file):
    content = bytearray(file.read_bytes())
    content[100_000] ^= 1
    times = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize(
    ("spoil", "n_lost"),
    [(remove, 57), (cut_short, 1), (empty, 57), (write_zeros, 57), (put_another, 1)],
)
@pytest.mark.parametrize("ask", [decode, load])
def test_a_map_that_is_not_as_it_was_decoded_is_decoded_again_with_one_line(
    root, tmp_path, caplog, spoil, n_lost, ask
):
    expected_NS = decode(root, tmp_path).samples_NS.copy()
    spoil(map_of(tmp_path))
    np.testing.assert_array_equal(ask(root, tmp_path).samples_NS, expected_NS)
    (line,) = caplog.messages
    assert line.startswith(f"{map_of(tmp_path)}: {n_lost} of 57 clips are missing or have changed")
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)
    assert len(caplog.messages) == 1


def test_a_run_never_starts_on_a_map_that_cannot_be_decoded_again(root, tmp_path):
    decode(root, tmp_path)
    map_of(tmp_path).unlink()
    first_file(root).unlink()
    with pytest.raises(BrokenAudio, match="1 of 57 clips"):
        load(root, tmp_path)


def test_a_copy_of_a_map_is_hashed_once_and_not_decoded_again(root, tmp_path, caplog, monkeypatch):
    expected_NS = decode(root, tmp_path).samples_NS.copy()
    file = map_of(tmp_path)
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    monkeypatch.setattr(waveforms, "decode_file", None)
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)
    monkeypatch.setattr(decoded_map, "_hash_clips", None)
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)
    assert not caplog.messages


def test_a_map_in_a_folder_without_write_access_is_hashed_and_read(root, tmp_path, monkeypatch):
    expected_NS = decode(root, tmp_path).samples_NS.copy()
    os.utime(map_of(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(waveforms, "decode_corpus", None)
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)


def write_old_index(tmp_path):
    file = map_of(tmp_path).with_name("index.npz")
    with np.load(file) as arrays:
        old = {name: arrays[name] for name in ("decoded", "size_bytes", "modified_ns")}
    np.savez(file, **old)


def test_a_map_from_before_there_were_hashes_is_accepted_and_its_hashes_noted(
    root, tmp_path, caplog, monkeypatch
):
    expected_NS = decode(root, tmp_path).samples_NS.copy()
    write_old_index(tmp_path)
    monkeypatch.setattr(waveforms, "decode_file", None)
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)
    assert not caplog.messages
    monkeypatch.undo()
    put_another(map_of(tmp_path))
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)
    assert "1 of 57 clips" in caplog.text


@pytest.mark.parametrize("spoil", [remove, cut_short, write_zeros])
def test_a_map_without_hashes_is_decoded_again_where_it_is_cut_or_holds_zeros(
    root, tmp_path, caplog, spoil
):
    expected_NS = decode(root, tmp_path).samples_NS.copy()
    write_old_index(tmp_path)
    spoil(map_of(tmp_path))
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)
    assert "57 of 57 clips" in caplog.text


def test_a_damaged_index_is_made_again_with_one_line(root, tmp_path, caplog):
    expected_NS = decode(root, tmp_path).samples_NS.copy()
    file = map_of(tmp_path).with_name("index.npz")
    file.write_bytes(file.read_bytes()[:-30])
    np.testing.assert_array_equal(load(root, tmp_path).samples_NS, expected_NS)
    (line,) = caplog.messages
    assert line.startswith(f"{file}: damaged, so it is made again")


@pytest.mark.parametrize("name", ["index.npz", "inspection.npz"])
def test_arrays_of_another_corpus_or_kind_are_made_again(root, tmp_path, name):
    decoded = decode(root, tmp_path)
    corpus, expected_NS = tau.read(root), decoded.samples_NS.copy()
    first = inspect_clips(corpus, decoded, cache=tmp_path / "cache")
    file = map_of(tmp_path).with_name(name)
    for change in (lambda array: array[:3], lambda array: array.astype("U5")):
        write_arrays(file, {key: change(array) for key, array in read_arrays(file).items()})
        again = decode(root, tmp_path)
        np.testing.assert_array_equal(again.samples_NS, expected_NS)
        found = inspect_clips(corpus, again, cache=tmp_path / "cache")
        np.testing.assert_array_equal(found.digest, first.digest)


def test_an_index_with_a_flipped_bit_is_read_right_or_made_again(root, tmp_path, caplog):
    decode(root, tmp_path)
    file = map_of(tmp_path).with_name("index.npz")
    whole, true = file.read_bytes(), decoded_map.read_index(file.parent, 57)
    for place in range(0, len(whole), 3):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1 << place % 8
        file.write_bytes(spoilt)
        caplog.clear()
        found = decoded_map.read_index(file.parent, 57)
        if caplog.messages:
            assert len(caplog.messages) == 1
            assert not found.decoded.any()
        else:
            for name in decoded_map.Index.__slots__:
                np.testing.assert_array_equal(getattr(found, name), getattr(true, name))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "cache"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may make a small disk, and not everywhere")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_an_error_in_words_before_anything_is_decoded(root, tmp_path, small_disk):
    needed = len(tau.read(root)) * RATE * 2
    with pytest.raises(CacheFull, match=rf"{small_disk}.*need {needed:,} bytes more.*TUTTI_CACHE"):
        decode(root, tmp_path)
    # Nothing is left that would keep others from the rest of the disk.
    assert shutil.disk_usage(small_disk).used < 100_000


def test_a_map_that_cannot_grow_keeps_what_was_decoded_and_is_continued(
    root, tmp_path, monkeypatch
):
    before_NS = decode(root, tmp_path).samples_NS.copy()
    (file,) = (tmp_path / "cache").rglob(decoded_map.MAP_NAME)
    n_kept = 40
    os.truncate(file, n_kept * RATE * 2)

    def refuse(descriptor, offset, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(CacheFull, match="No space left on device"):
            decode(root, tmp_path)
    assert file.stat().st_size == n_kept * RATE * 2
    counts = []
    again = decode(root, tmp_path, on_progress=lambda done, total: counts.append(total))
    assert counts == [len(before_NS) - n_kept] * (len(before_NS) - n_kept)
    np.testing.assert_array_equal(again.samples_NS, before_NS)


def test_a_sparse_map_of_an_earlier_version_gets_its_room_on_the_disk(tmp_path):
    file = tmp_path / decoded_map.MAP_NAME
    with file.open("wb") as opened:
        opened.truncate(2 * 10 * RATE)
    assert file.stat().st_blocks == 0
    decoded_map.open_map_to_write(tmp_path, (10, RATE))
    assert file.stat().st_blocks * 512 >= 2 * 10 * RATE

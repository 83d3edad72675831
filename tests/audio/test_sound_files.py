import io
import os
import struct

import numpy as np
import pytest
import soundfile

from audio import impulse_responses
from audio.corpora import read
from audio.decoding import decode_file
from audio.errors import UnfitSound
from audio.sound_files import read_header, read_sound
from students.classify.files import read_clips

RATE = 16_000
N = 2 * RATE
SOUND = 0.1 * np.random.default_rng(0).standard_normal(N).astype(np.float32)
QUIET_FIRST = SOUND * np.where(np.arange(N) < RATE // 2, np.float32(0.01), np.float32(1))


def encode(kind, sound=SOUND, **options):
    """Return a file of this kind as bytes."""
    file = io.BytesIO()
    formats = {"OGG": ("OGG", "VORBIS"), "OPUS": ("OGG", "OPUS"), "MP3": ("MP3", None)}
    major, subtype = formats.get(kind, (kind, "PCM_16"))
    soundfile.write(file, sound, RATE, format=major, subtype=subtype, **options)
    return file.getvalue()


def overwrite(content, at, value):
    return content[:at] + value + content[at + len(value) :]


def promise(content, chunk, n_bytes, order="<"):
    """Let a chunk's header promise another number of bytes."""
    return overwrite(content, content.index(chunk) + 4, struct.pack(f"{order}I", n_bytes))


def promise_flac(content, n_samples):
    fixed = int.from_bytes(content[18:26]) >> 36 << 36
    return overwrite(content, 18, (fixed | n_samples).to_bytes(8))


def drop_xing(content):
    """Turn the header of an MP3 file into a frame of silence, as encoders that stream write none."""
    place = max(content.find(b"Xing", 0, 100), content.find(b"Info", 0, 100))
    return overwrite(content, place, bytes(150))


@pytest.fixture
def put(tmp_path):
    def write(content, name="a.sound"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
        return file

    return write


@pytest.mark.parametrize(
    "kind", ["WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "OPUS", "MP3"]
)
def test_a_file_whose_header_is_right_is_read_as_libsndfile_reads_it(put, kind):
    file = put(encode(kind))
    samples_SC, rate = read_sound(file)
    with soundfile.SoundFile(file) as plain:
        np.testing.assert_array_equal(samples_SC, plain.read(dtype="float32", always_2d=True))
    assert (rate, read_header(file).frames) == (RATE, len(samples_SC)) == (RATE, N)


@pytest.mark.parametrize(
    "content",
    [
        promise_flac(encode("FLAC"), 0),
        promise(encode("WAV"), b"data", 0),
        promise(encode("WAV"), b"data", 0xFFFF_FFFF),
        promise(encode("WAV"), b"data", 0x7FFF_F000),
        promise(encode("AIFF"), b"SSND", 0, ">"),
        overwrite(encode("AU"), 8, bytes(4)),
        overwrite(encode("AU"), 8, b"\xff" * 4),
    ],
    ids=["flac", "wav-0", "wav-4G", "wav-2G", "aiff", "au-0", "au-4G"],
)
def test_a_file_of_unknown_length_is_read_to_its_end(put, content):
    file = put(content)
    samples_SC, _ = read_sound(file)
    np.testing.assert_allclose(samples_SC[:, 0], SOUND, atol=1e-4)
    assert read_header(file).frames == N
    for start in (RATE // 2, N - RATE // 8):
        part_SC, _ = read_sound(file, start / RATE, 0.25)
        np.testing.assert_array_equal(part_SC, samples_SC[start : start + RATE // 4])


@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\2\0\0" + bytes(2 << 14)])
@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_the_frames_of_an_mp3_without_xing_header_are_counted(put, mode, tag):
    whole = encode("MP3", QUIET_FIRST, bitrate_mode=mode, compression_level=0.5)
    expected_SC, _ = read_sound(put(whole, "whole.mp3"))
    samples_SC, _ = read_sound(file := put(tag + drop_xing(whole), "streamed.mp3"))
    # The header's frame, and what the encoder and decoder are late by.
    late = 576 + 576 + 529
    np.testing.assert_allclose(samples_SC[late : late + N], expected_SC, atol=1e-6)
    assert read_header(file).frames == len(samples_SC)
    for start in (0, RATE // 3, RATE, 2 * RATE):
        part_SC, _ = read_sound(file, start / RATE, 0.5)
        np.testing.assert_allclose(part_SC, samples_SC[start : start + RATE // 2], atol=1e-6)


def test_a_part_of_an_mp3_begins_as_in_the_whole(put):
    file = put(encode("MP3", QUIET_FIRST, bitrate_mode="VARIABLE", compression_level=0.5))
    samples_SC, _ = read_sound(file)
    for start in range(0, N - RATE, 2_345):
        part_SC, _ = read_sound(file, start / RATE, 0.5)
        np.testing.assert_allclose(part_SC, samples_SC[start : start + RATE // 2], atol=1e-6)


MP3, OGG, FLAC, WAV, AIFF = map(encode, ["MP3", "OGG", "FLAC", "WAV", "AIFF"])
COMM_FRAMES = AIFF.index(b"COMM") + 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (MP3 + MP3, r"promises \d+ frames of MP3, and \d+ are there: several files"),
        (MP3[: len(MP3) // 2], r"promises \d+ frames of MP3, and \d+ are there: it is cut short"),
        (OGG + encode("OGG", SOUND[:RATE]), "several Ogg streams"),
        (OGG[: len(OGG) // 2], "cut short: the last [0-9,]+ bytes of a page"),
        (OGG[: OGG.rindex(b"OggS") + 9], "cut short: the last 18 bytes of a page"),
        (FLAC + FLAC, "several FLAC files"),
        (FLAC[: len(FLAC) // 2], "flac decoder lost sync"),
        (promise_flac(FLAC, N - 1), "promises 31,999 samples, but there are more"),
        (promise_flac(FLAC, N + 7), "promises 32,007 samples, and reading ended 7 before"),
        (promise_flac(FLAC, 2**36 - 1), "promises 68,719,476,735 samples, and reading ended"),
        (WAV[: len(WAV) // 2], "promises 64,000 bytes of samples, and 31,978 are there"),
        (WAV + b"\1" * 99, "promises 64,000 bytes of samples, but 99 more"),
        (promise(WAV, b"data", 32_000), "promises 32,000 bytes of samples, but 32,000 more"),
        (encode("RF64")[:20_000], "cut short"),
        (encode("W64")[:20_000], "cut short"),
        (encode("W64") * 2, "more follow"),
        (encode("AU")[:20_000], "cut short"),
        (encode("AU") * 2, "more follow"),
        (encode("CAF")[:20_000], "cannot be read as audio"),
        (AIFF[: len(AIFF) // 2], "cut short"),
        (overwrite(AIFF, COMM_FRAMES, struct.pack(">I", 9)), "another number of samples"),
        (b"no audio", "Format not recognised"),
    ],
)
def test_a_header_that_promises_more_or_less_than_there_is_is_refused(put, content, message):
    file = put(content)
    for reads in (read_sound, read_header):
        with pytest.raises(UnfitSound, match=f"{message}.*ffmpeg -i FILE out.wav"):
            reads(file)


@pytest.mark.parametrize("content", [WAV, FLAC, AIFF, encode("W64")])
def test_zeros_and_tags_behind_the_samples_are_no_samples(put, content):
    infos = [b"LIST" + struct.pack("<I", size) + b"INFO" for size in (4, 400)]
    for behind in (bytes(9_000), b"TAG" + bytes(125), *(infos if content is WAV else [])):
        assert len(read_sound(put(content + behind))[0]) == N


def test_an_empty_file_is_called_empty(put):
    for reads in (read_sound, read_header):
        with pytest.raises(UnfitSound, match=r"^is empty \(0 bytes\); get the file again$"):
            reads(put(b""))


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for file in (tmp_path / "pipe.wav", tmp_path):
        with pytest.raises(UnfitSound, match="no regular file"):
            read_header(file)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.flac", promise_flac(FLAC, 0)), ("a.wav", promise(WAV, b"data", 0)), ("a.mp3", MP3)],
)
def test_training_classification_and_impulse_responses_read_the_same_samples(put, name, content):
    file = put(content, f"folder/{name}")
    decoded_S = decode_file(file, RATE, N / RATE).samples_S
    classified_BS = read_clips(file, RATE, N)
    np.testing.assert_array_equal(np.rint(32768 * classified_BS[0]), decoded_S)
    if file.suffix != ".mp3":
        responses_RL = impulse_responses.load_responses(file.parent, RATE)
        np.testing.assert_array_equal(responses_RL, classified_BS)


def test_files_of_unknown_length_become_clips_of_their_true_length(put, tmp_path):
    streamed = drop_xing(encode("MP3", QUIET_FIRST, bitrate_mode="VARIABLE", compression_level=0.5))
    for scene in ("hum", "pulse"):
        put(streamed, f"{scene}/0.mp3")
        put(promise_flac(FLAC, 0), f"{scene}/1.flac")
        put(WAV, f"{scene}/2.wav")
    corpus = read("folder", tmp_path)
    assert corpus.clip_duration_s == pytest.approx(N / RATE)
    assert len(corpus) == 6


def test_damage_is_read_or_refused_in_words(put):
    short = SOUND[: RATE // 2]
    kinds = ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "OPUS", "MP3"]
    contents = [encode(kind, short) for kind in kinds]
    contents += [promise_flac(encode("FLAC", short), 0), drop_xing(encode("MP3", short))]
    random = np.random.default_rng(0)
    n_refused = 0
    for number in range(240):
        content = bytearray(contents[number % len(contents)])
        place = int(random.integers(min(len(content), (60, 200, len(content))[number % 7 % 3])))
        content[place] ^= 1 << int(random.integers(8))
        file = put(content[:place] if number % 5 == 0 else content)
        try:
            read_header(file)
            read_sound(file)
            read_sound(file, 0.1, 0.2)
        except UnfitSound:
            n_refused += 1
    assert 40 < n_refused < 200

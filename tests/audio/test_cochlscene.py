import logging
import shutil

import numpy as np
import pytest
import soundfile

from audio import waveforms
from audio.corpora import cochlscene, read
from audio.errors import CorpusError
from logit_store import LogitStore

RATE = 44_100
INDEX = {"Bus": 0, "Park": 6}
RECORDINGS = {"Train": ("user0001_101", "user0002_102"), "Val": ("user0003_103",), "Test": ()}
PITCH_HZ = {"Bus": 440, "Park": 1760}


def write(file, pitch_hz=440, duration_s=0.1):
    file.parent.mkdir(parents=True, exist_ok=True)
    seconds = np.arange(round(duration_s * RATE)) / RATE
    soundfile.write(file, 0.3 * np.sin(2 * np.pi * pitch_hz * seconds), RATE, subtype="PCM_16")


@pytest.fixture
def root(tmp_path):
    """Two classes, seven recordings of two clips each, and a Data_info.tsv."""
    lines = []
    for part, own in (("Test", "user0004_104"), ("Train", ""), ("Val", "")):
        for number, scene in enumerate(INDEX):
            for recording in (own,) if own else RECORDINGS[part]:
                name = f"{scene}_{recording}{number}"
                for cut in ("000", "001"):
                    path = f"{part}/{scene}/{name}_{cut}.wav"
                    write(tmp_path / path, PITCH_HZ[scene])
                    lines.append(f"{path}\t{INDEX[scene]}\t{part}\n")
    (tmp_path / "Data_info.tsv").write_text("".join(lines))
    return tmp_path


def edit(root, old, new):
    file = root / "Data_info.tsv"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_folders_train_val_and_test_are_the_folds_of_split_100(root):
    corpus = read("cochlscene", root)
    assert corpus.scenes == ("Bus", "Park")
    for part, fold, n in (("Train", "fit", 8), ("Val", "select", 4), ("Test", "test", 4)):
        files = corpus.column("file")[corpus.rows(100, fold)]
        assert [file.split("/")[0] for file in files] == [part] * n
    assert set(corpus.column("recording")) >= {"user0001_1010", "user0003_1031", "user0004_1041"}


def test_the_order_is_train_val_test_and_then_names(root):
    files = cochlscene.read(root).column("file").tolist()
    place = {"Train": 0, "Val": 1, "Test": 2}
    assert files == sorted(files, key=lambda file: (place[file.split("/")[0]], file))


def test_the_folders_alone_give_the_same_corpus(root):
    expected = cochlscene.read(root).compute_identity()
    (root / "Data_info.tsv").unlink()
    (root / "Train" / "Bus" / ".hidden.wav").write_bytes(b"")
    assert cochlscene.read(root).compute_identity() == expected


@pytest.mark.parametrize("above", ["", "CochlScene/", "./"])
def test_data_info_may_have_a_header_and_begin_above_the_folders(root, above):
    expected = cochlscene.read(root).compute_identity()
    lines = (root / "Data_info.tsv").read_text().splitlines()
    text = "\n".join(["path\tlabel\tsplit", *(above + line for line in lines)])
    (root / "Data_info.tsv").write_text(text)
    assert cochlscene.read(root).compute_identity() == expected


def test_a_missing_split_is_refused_with_the_existing_ones(root):
    corpus = cochlscene.read(root)
    for split in (25, 7):
        with pytest.raises(CorpusError, match=rf"fit of split {split}; .* such clips: 100$"):
            corpus.rows(split, "fit")
    shutil.rmtree(root / "Test")
    with pytest.raises(CorpusError, match=r"fold test of split 100; .* such clips: none$"):
        cochlscene.read(root).rows(100, "test")


def test_without_val_whole_recordings_of_train_become_select(root):
    shutil.rmtree(root / "Val")
    corpus = cochlscene.read(root)
    recordings = corpus.column("recording")
    fit, select = (set(recordings[corpus.rows(100, fold)]) for fold in ("fit", "select"))
    assert len(fit) == len(select) == 2  # one of the two recordings of each class
    assert not fit & select
    assert len(corpus.rows(100, "test")) == 4


def test_some_of_the_classes_are_a_corpus_too(root):
    shutil.rmtree(root / "Val" / "Park")
    shutil.rmtree(root / "Test")
    corpus = cochlscene.read(root)
    assert len(corpus) == 10
    assert corpus.scenes == ("Bus", "Park")


def test_the_clips_fit_into_a_store(root, tmp_path):
    corpus = cochlscene.read(root)
    store = LogitStore(tmp_path / "store")
    store.write_clips(corpus.name, corpus.clips_table())
    assert store.read_clips("cochlscene")["recording_device"].unique().to_pylist() == ["unknown"]


def test_ten_seconds_at_44_kilohertz_become_320000_samples_of_the_same_pitch(tmp_path):
    for scene, pitch_hz in PITCH_HZ.items():
        write(tmp_path / f"Train/{scene}/{scene}_user0001_1_000.wav", pitch_hz, 10.0)
    corpus = cochlscene.read(tmp_path)
    decoded = waveforms.decode_corpus(corpus, 32_000, cache=tmp_path / "cache", threads=1)
    assert decoded.samples_NS.shape == (2, 320_000)
    for samples_S, pitch_hz in zip(decoded.samples_NS, PITCH_HZ.values(), strict=True):
        spectrum = np.abs(np.fft.rfft(samples_S / 32768)) / 160_000
        assert spectrum.argmax() == 10 * pitch_hz  # 10 s: ten bins are 1 Hz
        assert spectrum.max() == pytest.approx(0.3, rel=0.01)  # edges of the filter at both ends


def test_no_clip_of_the_corpus_gets_the_impulse_response_of_another_device(root):
    corpus = cochlscene.read(root)
    assert not (corpus.column("recording_device") == corpus.reference_device).any()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("\tTest\n", "\tVal\n", r"line 1: says Test/Bus/\S+ in Val, but it lies at Test/Bus/"),
        ("Test/Bus", "Test/Park", r"line 1: says Test/Park/\S+ in Test, but it lies at Test/Bus/"),
        ("\t0\t", "\t6\t", r"line 2: says class index 0 for Bus, but earlier Bus was 6"),
        ("\t6\t", "\t0\t", r"line 3: says class index 0 for Park, but earlier 0 was Bus"),
        ("_000.wav", "_009.wav", r"line 1: .*_009\.wav in Test, but there is no such file"),
        ("\tTest\n", "\tDev\n", r"line 1: 'Test/Bus/.*Dev', expected path, class index and one of"),
        ("\t0\tTest\n", "\n", r"line 1: 'Test/Bus/\S+', expected path, class index"),
    ],
)
def test_a_data_info_that_contradicts_the_folders_is_refused_with_line_and_values(
    root, old, new, reason
):
    edit(root, old, new)
    with pytest.raises(CorpusError, match=rf"Data_info\.tsv, {reason}"):
        cochlscene.read(root)


def test_a_file_missing_from_data_info_is_refused(root):
    write(root / "Train/Bus/Bus_user0009_9_000.wav")
    with pytest.raises(CorpusError, match=r"does not name Train/Bus/Bus_user0009_9_000\.wav \(1 "):
        cochlscene.read(root)


def test_an_unknown_class_is_refused_with_the_nearest_name(root):
    (root / "Train" / "Bus").rename(root / "Train" / "Buss")
    with pytest.raises(CorpusError, match="Buss: CochlScene has no class Buss, the nearest is Bus"):
        cochlscene.read(root)


@pytest.mark.parametrize("name", ["Park_user0001_1_000.wav", "Bus-lyon-1.wav"])
def test_a_file_name_that_does_not_match_its_folder_is_refused(root, name):
    write(root / "Train" / "Bus" / name)
    with pytest.raises(CorpusError, match=rf"{name}: expected a name like Bus_user0419"):
        cochlscene.read(root)


def test_clips_of_one_recording_in_two_folds_are_refused(root):
    (root / "Data_info.tsv").unlink()
    write(root / "Val/Bus/Bus_user0001_1010_002.wav")
    with pytest.raises(CorpusError, match=r"of one recording, user0001_1010; Train, Val and Test"):
        cochlscene.read(root)


def test_a_corpus_without_train_is_refused(root):
    shutil.rmtree(root / "Train")
    with pytest.raises(CorpusError, match="Train: no such folder"):
        cochlscene.read(root)


def test_files_without_audio_are_skipped_with_a_warning(root, caplog):
    (root / "Train" / "Bus" / "notes.txt").write_text("loud")
    with caplog.at_level(logging.WARNING):
        assert len(cochlscene.read(root)) == 16
    assert "notes.txt: no audio file, skipped (1 in all)" in caplog.text

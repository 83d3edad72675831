import gzip
import logging

import numpy as np
import pytest
import soundfile

from audio.corpora import read, tables
from audio.errors import CorpusError

RATE = 8_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def root(tmp_path):
    """Eight files in folders without meaning: 0.wav ... 3.wav in x and in y."""
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        for number in range(4):
            file = tmp_path / folder / f"{number}.wav"
            soundfile.write(file, np.full(400, 0.1), RATE)
    return tmp_path


def write_csv(root, header, lines, name="clips.csv"):
    (root / name).write_text("\n".join([header, *lines]) + "\n")


def eight(*columns):
    """Return a line for each file: its label and the other columns."""
    files = [f"{folder}/{number}.wav" for folder in "xy" for number in range(4)]
    labels = ["cat", "dog"] * 4
    return [",".join(row) for row in zip(files, labels, *columns, strict=True)]


def folds_of(corpus, column, split=100):
    pairs = set(zip(corpus.column(column), corpus.column(f"fold_{split}"), strict=True))
    assert len(pairs) == len(set(corpus.column(column)))
    return dict(pairs)


def test_the_table_gives_labels_recordings_devices_and_cities(root):
    lines = eight(list("rrsstuvw"), ["phone", "", *["mic"] * 6], ["bern"] * 8)
    write_csv(root, "path,label,recording,device,city", lines)
    corpus = read("folder", root)
    assert corpus.scenes == ("cat", "dog")
    assert corpus.column("clip_id")[:2].tolist() == ["x/0", "x/1"]
    assert corpus.column("scene").tolist() == ["cat", "dog"] * 4
    assert corpus.column("recording").tolist() == list("rrsstuvw")
    assert corpus.column("recording_device")[:3].tolist() == ["phone", "unknown", "mic"]
    assert set(corpus.column("city")) == {"bern"}


def test_without_other_columns_each_file_is_a_recording(root):
    write_csv(root, "path,label", eight())
    corpus = read("folder", root)
    assert corpus.column("recording").tolist() == corpus.column("clip_id").tolist()
    assert set(corpus.column("recording_device")) == {"unknown"}


def test_clips_are_in_the_order_of_their_paths_and_not_of_the_lines(root):
    write_csv(root, "path,label", eight())
    expected = read("folder", root).compute_identity()
    write_csv(root, "label,path", [",".join(line.split(",")[::-1]) for line in eight()[::-1]])
    assert read("folder", root).compute_identity() == expected


@pytest.mark.parametrize(
    ("header", "change"),
    [
        ("PATH,Label", lambda line: line),
        ("path;label", lambda line: line.replace(",", ";")),
        ("path\tlabel", lambda line: line.replace(",", "\t")),
        ("\ufeffpath, label", lambda line: line.replace(",", " , ")),
        ('"path","label"', lambda line: '"' + line.replace(",", '","') + '"'),
        ("path,label", lambda line: "./" + line),
        ("path,label", lambda line: line + "\n"),
        ("path,label\r", lambda line: line + "\r"),
    ],
    ids=["capitals", "semicolons", "tabs", "spaces", "quotes", "dots", "empty_lines", "crlf"],
)
def test_all_styles_of_tables_are_read(root, header, change):
    write_csv(root, "path,label", eight())
    expected = read("folder", root).compute_identity()
    write_csv(root, header, map(change, eight()))
    assert read("folder", root).compute_identity() == expected


def test_lines_may_end_as_on_old_macs(root):
    write_csv(root, "path,label", eight())
    expected = read("folder", root).compute_identity()
    table = root / "clips.csv"
    table.write_bytes(table.read_bytes().replace(b"\n", b"\r"))
    assert read("folder", root).compute_identity() == expected
    table.write_bytes(table.read_bytes().replace(b"x/3.wav,dog", b",dog"))
    with pytest.raises(CorpusError, match=r"clips.csv, line 5: column path is empty"):
        read("folder", root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.encode("utf-16"), ": no text in UTF-8, perhaps in UTF-16; save it as"),
        (
            lambda text: text.encode("utf-16-le"),
            ": no text in UTF-8, perhaps in UTF-16; save it as",
        ),
        (
            lambda text: text.replace("x/2.wav,cat", "x/2.wav,caté").encode("latin-1"),
            r", line 4: x/2.wav,cat\\xe9 is not in UTF-8; save the table as UTF-8",
        ),
        (
            lambda text: text.replace("x/2.wav,cat", 'x/2.wav,"cat').encode(),
            r", line 4: a quote ... begins a value and is never closed",
        ),
        (
            lambda text: text.replace("path", '"path').encode(),
            r", line 1: a quote ... begins a value and is never closed",
        ),
        (
            lambda text: text.replace("x/2.wav,cat", '"x/2.wav,cat').encode(),
            r", line 4: a quote ... begins a value and is never closed",
        ),
    ],
    ids=["utf16", "utf16_without_mark", "latin1", "quote", "quote_in_header", "quote_of_path"],
)
def test_a_table_of_another_kind_is_refused_in_one_line(root, change, reason):
    write_csv(root, "path,label", eight())
    table = root / "clips.csv"
    table.write_bytes(change(table.read_text()))
    with pytest.raises(CorpusError, match=f"clips.csv{reason}") as raised:
        read("folder", root)
    assert "\n" not in str(raised.value)


def test_a_packed_table_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "meta.csv.gz"
    file.write_bytes(gzip.compress(bytes(1_001)))
    monkeypatch.setattr(tables, "LARGEST_UNPACKED_BYTES", 1_000)
    with pytest.raises(CorpusError, match=r"meta.csv.gz: unpacks to more than 1,000 bytes"):
        tables.read_text(file)


def test_a_link_in_a_circle_beside_the_recordings_is_no_fault(root):
    write_csv(root, "path,label", eight())
    (root / "x" / "circle.wav").symlink_to("circle.wav")
    assert len(read("folder", root).table) == 8


def test_the_root_may_be_a_table_of_any_name(root):
    write_csv(root, "path,label", eight()[:6], name="mine.csv")
    corpus = read("folder", root / "mine.csv")
    assert (len(corpus), corpus.root) == (6, root)


def test_no_recording_is_in_two_folds_of_any_split(tmp_path):
    rng = np.random.default_rng(0)
    lines = []
    for number in range(400):
        (tmp_path / f"{number}.wav").touch()
        # Some recordings have clips of both classes.
        lines.append(f"{number}.wav,{rng.choice(['cat', 'dog'])},r{rng.integers(60)}")
    soundfile.write(tmp_path / "0.wav", np.zeros(400), RATE)
    write_csv(tmp_path, "path,label,recording", lines)
    corpus = read("folder", tmp_path)
    folds = {split: folds_of(corpus, "recording", split) for split in (10, 25, 50, 100)}
    for fold in ("fit", "select", "test"):
        assert fold in folds[100].values()
    for smaller, larger in ((10, 25), (25, 50), (50, 100)):
        inside = {name for name, fold in folds[smaller].items() if fold is not None}
        assert inside < {name for name, fold in folds[larger].items() if fold is not None}


def test_the_table_may_define_train_and_test(root):
    given = ["train", "Train", "train", "train", "TEST", "test", "train", "train"]
    write_csv(root, "path,label,split", eight(given))
    corpus = read("folder", root)
    assert corpus.rows(100, "test").tolist() == [4, 5]
    assert len(corpus.rows(100, "fit", "select")) == 6
    assert set(corpus.column("scene")[corpus.rows(100, "select")]) == {"cat", "dog"}


def test_the_table_may_define_all_folds_and_small_splits_take_a_share_of_each(tmp_path):
    lines, given = [], {}
    for number in range(200):
        (tmp_path / f"{number}.wav").touch()
        fold = ("fit", "fit", "fit", "select", "test")[number // 2 % 5]
        lines.append(f"{number}.wav,{('cat', 'dog')[number % 2]},{fold}")
        given[str(number)] = fold
    soundfile.write(tmp_path / "0.wav", np.zeros(400), RATE)
    write_csv(tmp_path, "path,label,split", lines)
    corpus = read("folder", tmp_path)
    assert folds_of(corpus, "clip_id") == given
    for split, n_fit, n_select in ((5, 6, 2), (25, 30, 10), (50, 60, 20)):
        assert len(corpus.rows(split, "fit")) == n_fit
        assert len(corpus.rows(split, "select")) == n_select
        assert len(corpus.rows(split, "test")) == 40
        drawn = {name: fold for name, fold in folds_of(corpus, "clip_id", split).items() if fold}
        assert drawn.items() <= given.items()


def test_unknown_columns_are_ignored_with_a_warning(root, caplog):
    write_csv(root, "path,label,weather", eight(["dry"] * 8))
    with caplog.at_level(logging.WARNING):
        read("folder", root)
    assert "unknown column weather is ignored" in caplog.text


HEADER = "path,label,recording,split"
SPLIT = ["train"] * 4 + ["test"] * 4


def test_the_table_that_the_following_test_spoils_is_read(root):
    write_csv(root, HEADER, eight(list("abcdefgh"), SPLIT))
    assert len(read("folder", root)) == 8


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("label,", "lable,", r"clips\.csv: no column label; its columns are: path, lable"),
        ("recording,", "Recordings,", "line 1: unknown column Recordings, expected recording"),
        (HEADER, "path,label,label,split", "line 1: two columns label, expected one"),
        (
            "x/2.wav",
            "x/9.wav",
            r"line 4: path x/9\.wav, but there is no such file in .* \(1 in all",
        ),
        ("x/2.wav", "z/2.wav", r"line 4: path z/2\.wav, but there is no such file"),
        ("x/2.wav", "../x/2.wav", r"line 4: path \.\./x/2\.wav, expected one below"),
        ("x/2.wav", "/x/2.wav", r"line 4: path /x/2\.wav, expected one below"),
        ("x/2.wav", "x/../x/1.wav", r"line 4: x/1\.wav is in line 3 already"),
        ("x/2.wav,cat", "x/2.wav, ", "line 4: split 'train' without a label, expected a label"),
        ("x/2.wav,cat", ",cat", "line 4: column path is empty"),
        ("x/2.wav,cat", "x/2.wav,cat,dog", "not a comma-separated table: .*Expected 4"),
        ("c,train", "c,trian", r"line 4: split 'trian', expected train/test or fit/select/test"),
        ("c,train", "c,", "line 4: split '', expected train/test"),
        ("c,train", "c,select", "line 2: split 'train', but others are select; expected train/te"),
        ("c,train", "h,train", "line 9: recording h is in test, but line 4 has it in train"),
        ("\nx/0", "\n\n\nx/0", None),
        ("\nx/2.wav", "\n\n\nx/9.wav", r"line 6: path x/9\.wav, but there is no such file"),
    ],
)
def test_a_wrong_value_is_refused_with_line_value_and_expectation(root, old, new, reason):
    text = "\n".join([HEADER, *eight(list("abcdefgh"), SPLIT)]) + "\n"
    assert old in text
    (root / "clips.csv").write_text(text.replace(old, new, 1))
    if reason is None:
        assert len(read("folder", root)) == 8
        return
    with pytest.raises(CorpusError, match=reason):
        read("folder", root)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["train"] * 8, "no line has split test, expected train/test or fit/select/test"),
        (["fit"] * 4 + ["test"] * 4, "no line has split select"),
        (["train"] * 6 + ["test", "train"], "class dog is in train, but not in test"),
    ],
)
def test_a_split_that_cannot_be_used_for_training_is_refused(root, given, reason):
    write_csv(root, "path,label,split", eight(given))
    with pytest.raises(CorpusError, match=reason):
        read("folder", root)


def test_an_empty_or_missing_table_is_refused(root):
    write_csv(root, "path,label", [])
    with pytest.raises(CorpusError, match="no line but the header"):
        read("folder", root)
    with pytest.raises(CorpusError, match=r"other\.csv: not found; expected comma-separated"):
        read("folder", root / "other.csv")


def test_a_class_without_training_clips_is_refused(root):
    # Dogs have two recordings, and "two" is drawn as test; cats have no other.
    lines = eight(["two", "one", *["two"] * 6])
    write_csv(root, "path,label,recording", lines)
    with pytest.raises(CorpusError, match="class cat occurs only in recordings that were drawn"):
        read("folder", root)

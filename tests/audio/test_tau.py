import logging

import pytest
from corpus_files import write_corpus, write_table

from audio.corpora import read, tau
from audio.errors import CorpusError


@pytest.fixture
def root(tmp_path):
    return write_corpus(tmp_path / "tau")


def edit(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_order_of_meta_csv_is_the_order_of_the_corpus(root):
    corpus = tau.read(root)
    names = [line.split("\t")[0] for line in (root / "meta.csv").read_text().splitlines()[1:]]
    assert corpus.column("file").tolist() == names
    assert corpus.column("city").tolist() == ["lyon"] * len(names)


def test_split_lists_may_lie_next_to_the_root(root):
    inside = tau.read(root).compute_identity()
    (root / "split_setup").rename(root.parent / "split_setup")
    assert tau.read(root).compute_identity() == inside


def test_without_lists_the_official_ones_are_used_and_a_missing_clip_is_named(root):
    for file in (root / "split_setup").iterdir():
        file.unlink()
    (root / "split_setup").rmdir()
    with pytest.raises(CorpusError, match=r"split5\.csv\.gz, line 2: audio/airport-lisbon-1000"):
        tau.read(root)


def test_an_unknown_column_is_ignored_with_a_warning(root, caplog):
    lines = (root / "meta.csv").read_text().splitlines()
    text = "\n".join([f"{lines[0]}\tmood", *(f"{line}\tcalm" for line in lines[1:])])
    expected = tau.read(root).compute_identity()
    (root / "meta.csv").write_text(text)
    with caplog.at_level(logging.WARNING):
        assert tau.read(root).compute_identity() == expected
    assert "meta.csv: unknown column mood is ignored" in caplog.text


def test_a_misspelt_column_is_refused_with_the_names_of_both(root):
    edit(root / "meta.csv", "scene_label", "scene_lable")
    with pytest.raises(CorpusError, match=r"meta\.csv: no column scene_label; .*scene_lable"):
        tau.read(root)


def test_a_list_with_a_missing_clip_is_refused_with_file_line_and_value(root):
    edit(root / "split_setup" / "split100.csv", "\naudio/bus-lyon-8800-0-0-a", "\naudio/ghost")
    with pytest.raises(CorpusError, match=r"split100\.csv, line \d+: audio/ghost\.wav is not in"):
        tau.read(root)


def test_a_list_with_another_label_than_meta_csv_is_refused(root):
    edit(root / "split_setup" / "test.csv", "\tairport", "\tbus")
    with pytest.raises(CorpusError, match=r"test\.csv, line 2: scene_label bus .* says airport"):
        tau.read(root)


def test_a_clip_listed_twice_is_refused_with_both_lines(root):
    meta = (root / "meta.csv").read_text()
    (root / "meta.csv").write_text(meta + meta.splitlines()[1] + "\n")
    with pytest.raises(CorpusError, match=r"meta\.csv, line \d+: .* is in line 2 already"):
        tau.read(root)


def test_a_row_with_too_few_fields_is_refused_with_its_number(root):
    meta = (root / "meta.csv").read_text()
    (root / "meta.csv").write_text(meta + "audio/lonely.wav\tbus\n")
    with pytest.raises(CorpusError, match=r"meta\.csv: not a tab-separated table.*Expected 4"):
        tau.read(root)


def test_an_empty_field_is_refused_with_its_line(root):
    edit(root / "meta.csv", "\tbus\t", "\t\t")
    with pytest.raises(CorpusError, match=r"meta\.csv, line \d+: column scene_label is empty"):
        tau.read(root)


def test_a_recording_in_train_and_test_is_refused(root):
    train = (root / "split_setup" / "split100.csv").read_text().splitlines()
    rows = [tuple(line.split("\t")) for line in train[1:]]
    test = root / "split_setup" / "test.csv"
    write_table(test, ("filename", "scene_label"), [rows[0]])
    with pytest.raises(CorpusError, match="train and test may not share a recording"):
        tau.read(root)


def test_tau_without_a_root_asks_for_one():
    with pytest.raises(CorpusError, match="--root"):
        read("tau", None)


def test_a_root_without_meta_csv_is_refused_with_the_name_of_the_file(tmp_path):
    with pytest.raises(CorpusError, match=r"meta\.csv: not found"):
        tau.read(tmp_path)


def test_the_official_lists_match_a_meta_csv_of_the_published_size(tmp_path):
    _, train = tau._build_official_split100()
    test = tau.read_table(tau.OFFICIAL_LISTS / "test.csv.gz", tau.LIST_COLUMNS)
    rows = []
    for table in (train, test):
        for file, scene in zip(*(table[c].to_pylist() for c in tau.LIST_COLUMNS), strict=True):
            _, city, location, _, _, device = file.removesuffix(".wav").split("-")
            rows.append((file, scene, f"{city}-{location}", device))
    write_table(tmp_path / "meta.csv", tau.META_COLUMNS, rows)
    corpus = tau.read(tmp_path)
    recordings = corpus.column("recording")
    for split, n in ((5, 6980), (10, 13960), (25, 34900), (50, 69800), (100, 139620)):
        select = corpus.rows(split, "select")
        assert len(corpus.rows(split, "fit", "select")) == n
        assert len(corpus.rows(split, "test")) == 29680
        everywhere = len(set(recordings[corpus.rows(split, "fit", "select")]))
        # Rounded in each of the ten scenes.
        assert abs(len(set(recordings[select])) - 0.15 * everywhere) <= 5
        assert len(set(corpus.column("scene")[select])) == 10

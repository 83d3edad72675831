import pytest

from audio.corpora import tau_evaluation
from audio.errors import CorpusError

N_CLIPS = 12


@pytest.fixture
def root(tmp_path):
    """The published layout with twelve clips without sound."""
    root = tmp_path / tau_evaluation.FOLDER
    (root / "audio").mkdir(parents=True)
    (root / "evaluation_setup").mkdir()
    for number in range(N_CLIPS):
        (root / "audio" / f"{number}.wav").touch()
    write_list(root, range(N_CLIPS))
    return root


def write_list(root, numbers, header="filename"):
    lines = [header, *(f"audio/{number}.wav" for number in numbers)]
    list_of(root).write_text("".join(f"{line}\n" for line in lines))


def list_of(root):
    return root / "evaluation_setup" / "fold1_test.csv"


def refusal(root, n_clips=N_CLIPS):
    with pytest.raises(CorpusError) as refused:
        tau_evaluation.read(root, n_clips)
    return str(refused.value)


def test_clips_are_in_the_order_of_their_numbers_and_not_of_their_names(root):
    corpus = tau_evaluation.read(root, N_CLIPS)
    assert corpus.column("file").tolist() == [f"audio/{n}.wav" for n in range(N_CLIPS)]
    assert corpus.column("clip_id").tolist() == [str(n) for n in range(N_CLIPS)]


def test_clips_without_labels_are_in_no_fold(root):
    with pytest.raises(CorpusError, match="no clip in fold fit"):
        tau_evaluation.read(root, N_CLIPS).rows(100, "fit")


def test_a_list_in_another_order_gives_the_same_corpus(root):
    expected = tau_evaluation.read(root, N_CLIPS).compute_identity()
    write_list(root, sorted(range(N_CLIPS), key=str))
    assert tau_evaluation.read(root, N_CLIPS).compute_identity() == expected


def test_a_list_with_windows_line_ends_gives_the_same_corpus(root):
    expected = tau_evaluation.read(root, N_CLIPS).compute_identity()
    list_of(root).write_bytes(list_of(root).read_bytes().replace(b"\n", b"\r\n"))
    assert tau_evaluation.read(root, N_CLIPS).compute_identity() == expected


def test_the_list_may_have_the_name_in_the_earlier_description(root):
    list_of(root).rename(root / "meta.csv")
    assert len(tau_evaluation.read(root, N_CLIPS)) == N_CLIPS


def test_a_folder_without_a_list_is_refused_with_the_expected_names(root):
    list_of(root).unlink()
    assert refusal(root).startswith(
        f"{root}: neither evaluation_setup/fold1_test.csv nor meta.csv is there"
    )


def test_a_missing_clip_is_named(root):
    (root / "audio" / "7.wav").unlink()
    assert f"{root}: 1 of 12 clips are missing, the first is audio/7.wav" in refusal(root)


def test_a_list_with_another_column_is_refused(root):
    write_list(root, range(N_CLIPS), header="filename\tscene_label")
    assert "line 1: 'filename, scene_label', expected the one column filename" in refusal(root)


def test_an_empty_list_is_refused(root):
    list_of(root).write_text("")
    assert "line 1: '', expected the one column filename" in refusal(root)


def test_a_list_that_is_not_text_is_refused(root):
    list_of(root).write_bytes(b"filename\n\xff\n")
    assert "fold1_test.csv, line 2: \\xff is not in UTF-8" in refusal(root)


@pytest.mark.parametrize("name", ["audio/x.wav", "3.wav", "audio/03.wav", "audio/12.wav", ""])
def test_a_file_that_is_no_clip_of_the_set_is_refused_with_its_line(root, name):
    lines = list_of(root).read_text().splitlines()
    lines[4] = name
    list_of(root).write_text("\n".join(lines))
    assert f"line 5: {name!r}, expected audio/<n>.wav with n = 0 ... 11" in refusal(root)


def test_a_clip_that_is_listed_twice_is_refused_with_both_lines(root):
    write_list(root, [*range(N_CLIPS), 3])
    assert "line 14: audio/3.wav is in line 5 already" in refusal(root)


def test_a_truncated_list_is_refused(root):
    write_list(root, range(5))
    assert "lists 5 clips, expected 12; the first missing one is audio/5.wav" in refusal(root)


def test_the_set_of_the_challenge_has_the_published_number_of_clips(root):
    with pytest.raises(CorpusError, match=r"lists 12 clips, expected 135,730"):
        tau_evaluation.read(root)

import pytest

from disk import write_whole_folder


def test_a_folder_is_written_with_all_its_files_into_an_empty_or_a_new_one(tmp_path):
    empty, new = tmp_path / "empty", tmp_path / "above" / "new"
    empty.mkdir()
    for folder in (empty, new):
        write_whole_folder(folder, {"a.txt": b"a", "b.bin": b"\0"})
        assert {each.name: each.read_bytes() for each in folder.iterdir()} == {
            "a.txt": b"a",
            "b.bin": b"\0",
        }
    assert {each.name for each in tmp_path.iterdir()} == {"empty", "above"}


def test_a_folder_with_a_file_in_it_is_left_as_it_is(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(OSError, match=r"is not empty \(it has mine\): name a new folder"):
        write_whole_folder(tmp_path, {"a.txt": b"a"})
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_wholly_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r": '.*/new'\Z"):
        write_whole_folder(tmp_path / "new", {"a.txt": b"a", "a.txt/b.txt": b"b"})
    assert list(tmp_path.iterdir()) == []

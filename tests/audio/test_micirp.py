"""Whether a folder is MicIRP, and has microphones of TAU's unseen devices."""

import hashlib
import shutil

import pytest

from audio import micirp
from audio.impulse_responses import identify_responses
from audio.micirp import check_micirp, describe_responses, find_unseen_microphones, read_list

NAMES = ("IR_AKGD12.wav", "IR_FosterDynamicDF1.wav", "IR_Shure510C.wav", "Sony_C37Fet.wav")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of four files, and a list that has just these."""
    made = tmp_path / "micirp"
    made.mkdir()
    for name in NAMES:
        (made / name).write_bytes(name.encode())
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in NAMES}
    monkeypatch.setattr(micirp, "read_list", lambda: hashes)
    return made


def test_the_list_has_66_files_and_the_three_microphones_among_them():
    listed = read_list()
    assert len(listed) == 66
    assert all(len(sha256) == 64 for sha256 in listed.values())
    assert set(micirp.UNSEEN_MICROPHONES.values()) <= listed.keys()


def test_a_whole_folder_is_whole_and_a_folder_of_other_files_is_none_of_it(folder, tmp_path):
    assert str(check_micirp(folder)) == "4 of the 4 files of MicIRP"
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.wav").write_bytes(b"mine")
    assert check_micirp(other) is None
    assert find_unseen_microphones(other) == find_unseen_microphones(None) == {}


def test_what_lacks_or_differs_is_named(folder):
    (folder / "Sony_C37Fet.wav").unlink()
    (folder / "IR_AKGD12.wav").write_bytes(b"another")
    (folder / "mine.wav").write_bytes(b"mine")
    expected = (
        "2 of the 4 files of MicIRP; without Sony_C37Fet.wav; other content in IR_AKGD12.wav; and 1 "
        "other files"
    )
    assert str(check_micirp(folder)) == expected


def test_microphones_of_unseen_devices_are_found_by_content_and_by_name(folder, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(folder / "IR_Shure510C.wav", copy / "one.wav")
    (copy / "akg-d12 louder.wav").write_bytes(b"louder")
    (copy / "IR_AKG_FaultyD12.wav").write_bytes(b"a broken one")
    there = {"Shure 510C": "one.wav", "AKG D12": "akg-d12 louder.wav"}
    assert find_unseen_microphones(copy) == there
    assert describe_responses(copy) == {
        "responses": identify_responses(copy),
        "unseen_microphones": ["Shure 510C", "AKG D12"],
    }
    assert describe_responses(None).keys() == {"responses"}

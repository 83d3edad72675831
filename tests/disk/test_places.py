"""A user without a name or a home directory, as containers may have, is told what to set."""

import os
import pwd
from pathlib import Path

import pytest

from disk import NoCacheFolder, equip_user, find_cache_folder, find_own_folder
from jobs import command, prepare

VARIABLES = ("HOME", "TUTTI_CACHE", "TUTTI_WEIGHTS", "USER", "LOGNAME", "LNAME", "USERNAME")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        # Set first, so that what a test sets is undone.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)

    def refuse(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", refuse)


def test_without_a_home_the_variable_to_set_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(NoCacheFolder, match=r"no home directory: set HOME .*, .* in TUTTI_CACHE"):
        find_cache_folder()
    with pytest.raises(NoCacheFolder, match="or name a folder in TUTTI_WEIGHTS"):
        find_own_folder("TUTTI_WEIGHTS", "weights")
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    assert find_cache_folder() == tmp_path / "cache"


def test_a_read_only_home_is_good_for_a_cache_that_is_there_but_not_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_cache_folder() == tmp_path / ".cache/tutti"
    # Root may write anywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(NoCacheFolder, match=f"cannot be made, because {tmp_path} is read-only"):
        find_cache_folder()
    (tmp_path / ".cache/tutti").mkdir(parents=True)
    assert find_cache_folder() == tmp_path / ".cache/tutti"


def test_libraries_get_a_name_and_a_home_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    equip_user()
    assert "HOME" not in os.environ
    assert os.environ["USER"] == str(os.getuid())
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path))
    equip_user()
    assert Path.home() == tmp_path / "home"
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("USER", "somebody")
    equip_user()
    assert (os.environ["HOME"], os.environ["USER"]) == ("/home/somebody", "somebody")


@pytest.mark.parametrize(
    ("store", "code", "words"),
    [
        (
            "store",
            1,
            "error: there is no home directory: set HOME to a folder that this user may write to",
        ),
        ("~/store", 2, "--store ~/store: expected a path without ~, or HOME set"),
    ],
)
def test_a_command_that_needs_a_home_says_in_one_line_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    store: str,
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("logging.basicConfig", lambda **settings: None)
    monkeypatch.setattr("sys.argv", ["jobs/prepare.py", "--store", store])
    with pytest.raises(SystemExit) as ended:
        command.run(prepare.main, prepare.PrepareOptions)
    assert ended.value.code == code
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert words in printed
    assert not list(tmp_path.iterdir())

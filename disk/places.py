"""Where a machine keeps what can be made or fetched again."""

import getpass
import os
from pathlib import Path

from disk.errors import PortableError


class NoCacheFolder(PortableError, OSError):
    """There is no home directory, or nothing can be written to it, and no other folder is named."""

    def __init__(self, reason: str, variable: str) -> None:
        self.reason, self.variable = reason, variable
        super().__init__(
            f"{reason}: set HOME to a folder that this user may write to, or name a folder in {variable}"
        )


def equip_user() -> None:
    """Give a user without a name or a home directory what libraries ask for, also when imported.

    A container may run as such a user. The name is its number, and the home a folder in $TUTTI_CACHE;
    without that variable there is none. A home that is there stays, even if it is read-only, because
    it may hold keys.
    """
    cache = os.environ.get("TUTTI_CACHE")
    if cache and not has_home():
        os.environ["HOME"] = str(Path(cache).absolute() / "home")
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = str(os.getuid())


def has_home() -> bool:
    """Return whether this user has a home directory."""
    try:
        return bool(Path.home())
    except RuntimeError:
        return False


def find_cache_folder() -> Path:
    """Return the folder of this machine's caches: $TUTTI_CACHE, else ~/.cache/tutti.

    Raises:
        NoCacheFolder: it cannot be made.
    """
    return find_own_folder("TUTTI_CACHE")


def find_own_folder(variable: str, below: str = "") -> Path:
    """Return the folder that an environment variable names, else one below ~/.cache/tutti.

    Args:
        variable: its name.
        below: the path below ~/.cache/tutti.

    Raises:
        NoCacheFolder: it cannot be made. One that is there may be read-only.
    """
    named = os.environ.get(variable)
    try:
        folder = Path(named or f"~/.cache/tutti/{below}").expanduser().absolute()
    except RuntimeError as error:
        raise NoCacheFolder("there is no home directory", variable) from error
    above = next(each for each in (folder, *folder.parents) if each.exists())
    if above != folder and not os.access(above, os.W_OK):
        raise NoCacheFolder(f"{folder} cannot be made, because {above} is read-only", variable)
    return folder


def choose_numba_cache() -> None:
    """Give numba a folder for compiled functions, unless it can write beside their source.

    It reads this when it is imported, and else takes a folder of its own in the home directory. This folder
    may be read-only, and other sources may be where these are not: see `disk/numba_cache.py`.

    Raises:
        NoCacheFolder: there is no such folder.
    """
    if "NUMBA_CACHE_DIR" not in os.environ and not os.access(Path(__file__).parent, os.W_OK):
        os.environ["NUMBA_CACHE_DIR"] = str(find_cache_folder() / "numba")

"""What several processes share: files, whole or not there, locks, and errors."""

from disk.errors import PortableError
from disk.folders import check_empty, write_whole_folder
from disk.lock import hold_lock
from disk.places import (
    NoCacheFolder,
    choose_numba_cache,
    equip_user,
    find_cache_folder,
    find_own_folder,
    has_home,
)
from disk.whole import (
    identify_processes,
    open_whole,
    publish,
    remove_abandoned,
    write_parts,
    write_whole,
)

__all__ = [
    "NoCacheFolder",
    "PortableError",
    "check_empty",
    "choose_numba_cache",
    "equip_user",
    "find_cache_folder",
    "find_own_folder",
    "has_home",
    "hold_lock",
    "identify_processes",
    "open_whole",
    "publish",
    "remove_abandoned",
    "write_parts",
    "write_whole",
    "write_whole_folder",
]

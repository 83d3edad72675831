"""Files that several processes share: whole or not there, and locks."""

from disk.lock import hold_lock
from disk.whole import find_abandoned, open_whole, write_whole

__all__ = ["find_abandoned", "hold_lock", "open_whole", "write_whole"]

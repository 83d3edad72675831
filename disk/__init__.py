"""What several processes share: files, whole or not there, locks, and errors."""

from disk.errors import PortableError
from disk.lock import hold_lock
from disk.whole import open_whole, publish, remove_abandoned, write_whole

__all__ = ["PortableError", "hold_lock", "open_whole", "publish", "remove_abandoned", "write_whole"]

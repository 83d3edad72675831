"""From the address of a store to its files."""

from pathlib import Path

from logit_store.errors import UnsupportedAddress
from logit_store.files import Files
from logit_store.folder import Folder


def open_files(address: str) -> Files:
    """Return the files at an address; nothing is read or written.

    Raises:
        UnsupportedAddress: it is neither a folder nor a bucket.
    """
    if address.startswith("s3://"):
        # Imports libraries for S3, which takes half a second.
        from logit_store.bucket import Bucket

        return Bucket(address)
    if "://" in address:
        raise UnsupportedAddress(address)
    # Absolute, because workers may have another current folder.
    return Folder(Path(address).expanduser().absolute())

"""Files from the network: once per machine, whole or not at all, and compared at each later use."""

import functools
import hashlib
import logging
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from disk import find_own_folder, hold_lock
from redact import redact_secrets
from teachers.errors import MissingWeights
from teachers.fetched import check_fetched
from teachers.transfer import Interrupted, OnDownload, OpenBody, PartialFile, Refused

if TYPE_CHECKING:
    from logit_store import LogitStore

logger = logging.getLogger(__name__)

SCHEMES = ("https", "http", "s3")


def fetch_file(
    address: str,
    *,
    store: "LogitStore | None" = None,
    on_progress: OnDownload = lambda done, total: None,
) -> Path:
    """Return the local copy of a published file, which is downloaded if it is not here yet.

    However many processes of a machine ask at once, one downloads and the others wait for it. An
    interrupted download is resumed by the next one.

    Args:
        address: https://, http:// or s3:// (keys and endpoint from the usual AWS_* variables).
        store: records size and SHA-256 at the first use and compares them at every later one;
            None trusts the file.
        on_progress: called repeatedly while this process downloads.

    Raises:
        ValueError: an address of another kind, or one that names no file.
        MissingWeights: it is not here, and the network does not give it.
        DamagedWeights: it is not the file that the store has recorded.
    """
    if urlsplit(address).scheme not in SCHEMES:
        said = redact_secrets(address)
        raise ValueError(f"address {said!r}, expected one with https://, http:// or s3://")
    place = locate_file(address)
    if not place.is_file():
        _download(address, place, on_progress)
    if store is not None:
        check_fetched(address, place, store)
    return place


def find_weights_folder() -> Path:
    """Return where weights lie on this machine: $TUTTI_WEIGHTS, else ~/.cache/tutti/weights."""
    return find_own_folder("TUTTI_WEIGHTS", "weights")


def locate_file(address: str) -> Path:
    """Return where the file of an address lies, or would lie; you may also put it there by hand.

    Its name is the published one with twelve digits that stand for the whole address, so that files
    of the same name from two hosts never collide.

    Raises:
        ValueError: the address names no file.
    """
    published = PurePosixPath(unquote(urlsplit(address).path)).name
    if not published or address.endswith("/"):
        raise ValueError(
            f"address {redact_secrets(address)!r} names no file: it should end in one, like .../mn.pt"
        )
    plain = PurePosixPath(re.sub(r"[^A-Za-z0-9._-]", "_", published).lstrip("."))
    digits = hashlib.sha256(address.encode()).hexdigest()[:12]
    return find_weights_folder() / f"{plain.stem}-{digits}{plain.suffix}"


def _download(address: str, place: Path, on_progress: OnDownload) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(place.with_name(f".{place.name}.lock")):
        if place.is_file():
            return
        logger.info("downloading address=%s place=%s", redact_secrets(address), place)
        partial = PartialFile(place)
        try:
            partial.complete(_choose_opener(address), on_progress)
        except (Interrupted, Refused) as error:
            raise MissingWeights(address, str(error), _explain_by_hand(address, place)) from error
        partial.move_to(place)


def _choose_opener(address: str) -> OpenBody:
    # HTTP and S3 libraries are imported only for a download: most processes need none.
    from teachers.servers import open_http, open_s3

    return functools.partial(open_s3 if address.startswith("s3:") else open_http, address)


def _explain_by_hand(address: str, place: Path) -> str:
    bring = f"aws s3 cp '{address}' '{place}'"
    if not address.startswith("s3://"):
        bring = f"curl -L -o '{place}' '{address}'"
    return (
        f"Put the file there by hand: {bring}\n($TUTTI_WEIGHTS names another folder), or start "
        "from random weights: --weights none"
    )

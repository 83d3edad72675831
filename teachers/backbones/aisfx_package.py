"""Where the published weights of aiSFX are: in a package of the registry, none of whose code is run."""

import importlib.util
from pathlib import Path

from teachers.errors import DamagedWeights, MissingWeights
from teachers.fetched import hash_file

VERSION = "0.1.2"
CHECKPOINT_SHA256 = "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"
"""As the package's own list of its files (RECORD) has it."""
LICENCE = "CC-BY-4.0"

_INSTALL = f"uv pip install --no-deps aisfx=={VERSION}"


def locate_checkpoint() -> Path:
    """Return the checkpoint in the installed package, which is not imported.

    Raises:
        MissingWeights: the package is not installed.
        DamagedWeights: it is another version, or its file has changed.
    """
    found = importlib.util.find_spec("aisfx")
    folders = [] if found is None else found.submodule_search_locations or []
    places = [Path(folder) / "models" / "checkpoint.pth" for folder in folders]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise MissingWeights(
            f"package aisfx {VERSION}", "it is not installed", f"Install it: {_INSTALL}"
        )
    sha256 = hash_file(place)
    if sha256 != CHECKPOINT_SHA256:
        raise DamagedWeights(
            str(place),
            f"sha256 {sha256}, expected {CHECKPOINT_SHA256} of aisfx {VERSION}",
            f"Install it again: {_INSTALL} --reinstall",
        )
    return place

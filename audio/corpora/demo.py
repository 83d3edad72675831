"""The demo corpus of the project: 765 seconds of ten everyday sounds on 9 recording devices."""

from pathlib import Path

from audio.clips import Corpus
from audio.corpora import tau

DEMO_ROOT = Path(__file__).parent / "demo"


def read(root: Path = DEMO_ROOT) -> Corpus:
    """Return the demo corpus; its sources and licence are in demo/ATTRIBUTION.md."""
    return tau.read(root, name="demo")

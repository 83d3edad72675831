"""The constants of DCASE 2024 task 1: scenes, limits and file names.

Source: dcase.community, challenge 2024, task 1, and its published submission validator.
"""

import re

CHALLENGE_SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)
RECORDING_DEVICES = ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")
"""Recording devices of the test fold of the development set."""
OUTPUT_COLUMNS = ("filename", "scene_label", *CHALLENGE_SCENES)
MAX_ABBREVIATION = 10
LABEL_FORM = "<Lastname>_<INSTITUTE>_task1_<1...4>"

_LABEL = re.compile(r"[^_/]+_[^_/]+_task1_[1-4]")


def is_label(text: str) -> bool:
    """Return whether a text can be a system's label: exactly four parts, the last one 1 ... 4."""
    return _LABEL.fullmatch(text) is not None


def name_output(label: str, split: int) -> str:
    """Return the path in the package of a split's predictions."""
    return f"task1/{label}/{label}.output.split_{split}.csv"


def name_meta(label: str) -> str:
    """Return the path in the package of a system's description."""
    return f"task1/{label}/{label}.meta.yaml"


def name_technical_report(label: str) -> str:
    """Return the path in the package of the report on all systems of these authors."""
    return f"task1/{label.rpartition('_')[0]}.technical_report.pdf"

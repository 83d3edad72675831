"""The constants of DCASE 2024 and 2025 task 1: scenes, devices and file names.

Sources: dcase.community, challenges 2024 and 2025, task 1; the published submission validator of 2024; the
API, scripts and description of the published inference package of 2025 (dcase2025_task1_inference).
"""

import re
from typing import Literal

Year = Literal[2024, 2025]

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
SPLIT_OF_2025 = 25
"""The split that systems of 2025 are trained on."""
COUNTED_DEVICES = ("a", "b", "c", *(f"s{number}" for number in range(1, 11)))
"""Recording devices whose networks the organisers' script of 2025 counts."""
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


def name_only_output(label: str) -> str:
    """Return the path in the package of 2025 of the predictions."""
    return f"task1/{label}/{label}.output.csv"


def name_inference_package(label: str) -> str:
    """Return the name of the inference package of 2025: of all systems of these authors."""
    return label.rpartition("_")[0]


def name_meta(label: str) -> str:
    """Return the path in the package of a system's description."""
    return f"task1/{label}/{label}.meta.yaml"


def name_technical_report(label: str) -> str:
    """Return the path in the package of the report on all systems of these authors."""
    return f"task1/{label.rpartition('_')[0]}.technical_report.pdf"

"""What DCASE 2024 task 1 fixes: its scenes, its limits, its names of files.

Source: dcase.community, challenge 2024, task 1, and its published submission validator.
"""

import re

SCENES = (
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
"""Of the development set's test fold."""
OUTPUT_COLUMNS = ("filename", "scene_label", *SCENES)
MAX_ABBREVIATION = 10
LABEL_FORM = "<Lastname>_<INSTITUTE>_task1_<1...4>"

_LABEL = re.compile(r"[^_/]+_[^_/]+_task1_[1-4]")


def is_label(text: str) -> bool:
    """Whether it can name a system: exactly four parts, the last of them 1 ... 4."""
    return _LABEL.fullmatch(text) is not None


def output_name(label: str, split: int) -> str:
    """Where in the package a split's predictions are."""
    return f"task1/{label}/{label}.output.split_{split}.csv"


def meta_name(label: str) -> str:
    """Where in the package a system's description is."""
    return f"task1/{label}/{label}.meta.yaml"


def technical_report_name(label: str) -> str:
    """Where in the package the report on all systems of these authors is."""
    return f"task1/{label.rpartition('_')[0]}.technical_report.pdf"

"""A package that follows every rule of DCASE 2024 task 1, for four clips, to be broken."""

import io
import json
from zipfile import ZIP_DEFLATED, ZipFile

import yaml

from audio.clips import SPLITS
from report.dcase.challenge import CHALLENGE_SCENES, OUTPUT_COLUMNS, RECORDING_DEVICES

LABEL = "Doe_UNI_task1_1"
N_CLIPS = 4
TEXTS = {
    "submission": {
        "name": "Small student",
        "abbreviation": "Small",
        "authors": [
            {
                "lastname": "Doe",
                "firstname": "Jo",
                "email": "jo.doe@example.org",
                "affiliation": {"institute": "University", "location": "Somewhere"},
                "corresponding": True,
            },
            {
                "lastname": "Roe",
                "firstname": "Al",
                "email": "al.roe@example.org",
                "affiliation": "University",
            },
        ],
    },
    "system": {
        "description": {
            "acoustic_features": "log-mel energies",
            "data_augmentation": ["freq-mixstyle", "time rolling"],
            "machine_learning_method": "CNN",
            "external_data_usage": None,
            "complexity_management": "knowledge distillation",
            "pipeline": "training",
            "framework": "pytorch",
            "split_adaptations": None,
            "system_adaptations": None,
        },
        "external_datasets": [
            {"name": "MicIRP", "url": "https://example.org", "total_audio_length": 2.5}
        ],
        "source_code": None,
    },
}
"""What people write; the rest is measured."""


def meta():
    """Return a complete description as a document."""
    scores = {"accuracy": 50.0, "logloss": None}
    result = {
        "overall": scores,
        "class_wise": dict.fromkeys(CHALLENGE_SCENES, scores),
        "device_wise": dict.fromkeys(RECORDING_DEVICES, scores),
    }
    # Through text, so that no part is shared with another one.
    return json.loads(
        json.dumps(
            {
                "submission": {"label": LABEL, **TEXTS["submission"]},
                "system": {
                    **TEXTS["system"],
                    "description": {
                        "input_sampling_rate": "32kHz",
                        **TEXTS["system"]["description"],
                    },
                    "complexity": {
                        "total_model_size": 128_000,
                        "total_parameters": 64_000,
                        "macs": 30_000_000,
                    },
                },
                "results": {"development_dataset": {f"split_{split}": result for split in SPLITS}},
            }
        )
    )


def output():
    """Return a file of predictions."""
    probabilities = ["0.91", *["0.01"] * 9]
    rows = [[f"{n}.wav", "airport", *probabilities] for n in range(N_CLIPS)]
    return "".join("\t".join(row) + "\n" for row in [OUTPUT_COLUMNS, *rows])


def files():
    """Return the files of a package by name, as texts."""
    folder = f"task1/{LABEL}/{LABEL}"
    outputs = {f"{folder}.output.split_{split}.csv": output() for split in SPLITS}
    return {**outputs, f"{folder}.meta.yaml": as_yaml(meta())}


def as_yaml(document):
    """Return a document as YAML, by libyaml: the writer in Python takes a tenth of a second."""
    return yaml.dump(document, Dumper=yaml.CSafeDumper)


def zipped(parts, method=ZIP_DEFLATED):
    """Return files by name as one ZIP."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()

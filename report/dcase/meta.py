"""A system's description: what people write and what is measured, in one YAML file."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from students.complexity import Complexity


class SubmissionError(ValueError):
    """A part of a submission is not as expected; the message says which, and what was expected."""


def read_texts(file: Path) -> Mapping[str, Any]:
    """Read what people write: authors, names, how the system works.

    Raises:
        SubmissionError: The file is not YAML, or not a mapping.
        OSError: The file cannot be read.
    """
    try:
        texts = yaml.safe_load(file.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SubmissionError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(texts, dict):
        raise SubmissionError(f"{file}: {texts!r}, expected the keys submission and system")
    return texts


def check_declared(texts: Mapping[str, Any], pools: Collection[str]) -> None:
    """Make sure that a description declares external data if pools taught the system.

    Args:
        texts: What people wrote.
        pools: Names of the pools, none of which is in the development set.

    Raises:
        SubmissionError: It declares fewer data sets than there are pools.
    """
    system = texts.get("system")
    declared = system.get("external_datasets") if isinstance(system, Mapping) else None
    n_declared = len(declared) if isinstance(declared, list) else 0
    if n_declared < len(pools):
        raise SubmissionError(
            f"system.external_datasets: {n_declared} declared, expected at least {len(pools)}: students "
            f"learnt from {', '.join(pools)}, which are external data: it must be on the list "
            "of the challenge and be declared here with name, url and total_audio_length"
        )


def write_meta(
    texts: Mapping[str, Any],
    *,
    label: str,
    sample_rates: Collection[int],
    complexity: Sequence[tuple[Complexity, int]],
    results: Mapping[str, Mapping[str, Any]],
    more: Mapping[str, Any] | None = None,
) -> bytes:
    """Write the whole description with all that is measured, as YAML in UTF-8.

    If the models of the splits differ, the largest of each figure counts, because each model has to
    stay within the limits.

    Args:
        texts: What people wrote.
        label: The label of the system.
        sample_rates: The sample rates of the models' inputs, in Hz.
        complexity: The complexity of each split's model and the bytes of its parameters.
        results: The scores on the development set, by what they are called: split_5 ...
        more: What else is measured of the system and belongs into its description.

    Raises:
        SubmissionError: The texts contain what is measured.
    """
    measured = {
        "submission": {"label": label},
        "system": {
            "description": {
                "input_sampling_rate": ", ".join(
                    f"{rate / 1000:g}kHz" for rate in sorted(sample_rates)
                ),
                **(more or {}),
            },
            "complexity": {
                "total_model_size": max(n_bytes for _, n_bytes in complexity),
                "total_parameters": max(each.params for each, _ in complexity),
                "macs": max(each.macs for each, _ in complexity),
            },
        },
        "results": {"development_dataset": {name: dict(each) for name, each in results.items()}},
    }
    whole = _join(measured, texts, "")
    return yaml.safe_dump(whole, sort_keys=False, allow_unicode=True).encode()


def _join(measured: Mapping[str, Any], texts: Mapping[str, Any], place: str) -> dict[str, Any]:
    joined = dict(measured)
    for key, text in texts.items():
        below = f"{place}.{key}" if place else key
        ours = measured.get(key)
        if ours is None:
            joined[key] = text
        elif isinstance(ours, Mapping) and isinstance(text, Mapping):
            joined[key] = _join(ours, text, below)
        else:
            expected = "keys below it" if isinstance(ours, Mapping) else "nothing: it is measured"
            raise SubmissionError(f"{below}: {text!r}, expected {expected}")
    return joined

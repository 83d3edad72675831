"""The rules for a system's description, as one tree of what must stand where."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from audio.clips import SPLITS
from report.dcase.challenge import (
    MAX_ABBREVIATION,
    RECORDING_DEVICES,
    SCENES,
)
from report.dcase.problems import Problem
from students.complexity import MAX_BYTES, MAX_MACS


@dataclass(frozen=True, slots=True)
class _Value:
    """A place where one value stands."""

    expected: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class _List:
    """A place where a list stands, all of whose entries are alike."""

    entry: "_Rule"
    expected: str
    fits: Callable[[list[Any]], bool]


_Rule = _Value | _List | Mapping[str, "_Rule"]


def check_meta(file: str, content: bytes, label: str) -> Iterator[Problem]:
    """Every rule that a description breaks.

    Args:
        file: Its name, for the messages.
        content: What is in it.
        label: Of the system that it must be about.
    """
    try:
        document = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield Problem(file=file, value=" ".join(str(error).split()), expected="YAML")
        return
    for place, value, expected in _broken(_rules(label), document, ""):
        yield Problem(file=file, place=place, value=value, expected=expected)


def _broken(rule: _Rule, value: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """Place, value and what was expected, wherever the value does not fit its rule."""
    match rule:
        case _Value():
            if not rule.fits(value):
                yield place, _shown(value), rule.expected
        case _List():
            if not isinstance(value, list) or not rule.fits(value):
                yield place, _shown(value), rule.expected
            for index, entry in enumerate(value if isinstance(value, list) else ()):
                yield from _broken(rule.entry, entry, f"{place}[{index}]")
        case _:
            if not isinstance(value, dict):
                yield place, _shown(value), f"the keys {', '.join(rule)}"
                return
            for key, inner in rule.items():
                below = f"{place}.{key}" if place else key
                if key in value:
                    yield from _broken(inner, value[key], below)
                else:
                    yield below, "missing", _asked(inner)


def _asked(rule: _Rule) -> str:
    return rule.expected if isinstance(rule, _Value | _List) else f"the keys {', '.join(rule)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: Any, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def _has_one_corresponding(authors: list[Any]) -> bool:
    told = [each.get("corresponding") for each in authors if isinstance(each, dict)]
    return sum(flag is True for flag in told) == 1


_TEXT = _Value("a text that is not empty", _is_text)
_ANYTHING = _Value("a value, or null", lambda value: True)
_SCORES: _Rule = {
    "accuracy": _Value(
        "a percentage, 0 ... 100", lambda value: _is_number(value) and 0 <= value <= 100
    ),
    "logloss": _Value(
        "a number of at least 0, or null",
        lambda value: value is None or (_is_number(value) and value >= 0),
    ),
}
_AUTHOR: _Rule = {
    "lastname": _TEXT,
    "firstname": _TEXT,
    "email": _TEXT,
    "affiliation": _Value(
        "a text, or the parts of an address",
        lambda value: _is_text(value) or (isinstance(value, dict) and bool(value)),
    ),
}
_SUBMISSION: dict[str, _Rule] = {
    "name": _TEXT,
    "abbreviation": _Value(
        f"a text of at most {MAX_ABBREVIATION} characters",
        lambda value: _is_text(value) and len(value) <= MAX_ABBREVIATION,
    ),
    "authors": _List(
        _AUTHOR,
        "a list of authors, one of them and no more with `corresponding: true`",
        _has_one_corresponding,
    ),
}
_SYSTEM: _Rule = {
    "description": dict.fromkeys(
        (
            "input_sampling_rate",
            "acoustic_features",
            "data_augmentation",
            "machine_learning_method",
            "external_data_usage",
            "complexity_management",
            "pipeline",
            "framework",
            "split_adaptations",
            "system_adaptations",
        ),
        _ANYTHING,
    ),
    "complexity": {
        "total_model_size": _Value(
            f"a number of bytes, 1 ... {MAX_BYTES:,}", lambda value: _is_count(value, MAX_BYTES)
        ),
        "total_parameters": _Value("a number of parameters, at least 1", _is_count),
        "macs": _Value(
            f"a number of multiply-accumulates, 1 ... {MAX_MACS:,}",
            lambda value: _is_count(value, MAX_MACS),
        ),
    },
    "external_datasets": _List(
        {
            "name": _TEXT,
            "url": _TEXT,
            "total_audio_length": _Value(
                "a number of minutes", lambda value: _is_number(value) and value >= 0
            ),
        },
        "a list, empty where there is none",
        lambda datasets: True,
    ),
    "source_code": _ANYTHING,
}
_RESULTS: _Rule = {
    "development_dataset": {
        f"split_{split}": {
            "overall": _SCORES,
            "class_wise": dict.fromkeys(SCENES, _SCORES),
            "device_wise": dict.fromkeys(RECORDING_DEVICES, _SCORES),
        }
        for split in SPLITS
    }
}


def _rules(label: str) -> _Rule:
    """All that must be in the description of that system; more may be."""
    named = _Value(f"{label!r}, as its files are called", lambda value: value == label)
    return {
        "submission": {"label": named, **_SUBMISSION},
        "system": _SYSTEM,
        "results": _RESULTS,
    }

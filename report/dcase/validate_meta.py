"""The rules for a system's description, as a pydantic model of its keys and values.

The description of each field is what messages say is expected there.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)

from audio.clips import SPLITS
from report.dcase.challenge import (
    CHALLENGE_SCENES,
    MAX_ABBREVIATION,
    RECORDING_DEVICES,
    Year,
)
from report.dcase.problems import BrokenRule
from students.complexity import MAX_BYTES, MAX_MACS

_CORRESPONDING = "a list of authors, exactly one of them with `corresponding: true`"
_MAX_SHOWN = 80
"""Longer values are cut in messages."""
MOST_VALUES = 100_000
"""A complete description has some hundreds."""


def _check_affiliation(value: Any) -> Any:
    is_text = isinstance(value, str) and value.strip()
    if not is_text and not (isinstance(value, dict) and value):
        raise ValueError
    return value


def _check_filled(text: str) -> str:
    if not text.strip():
        raise ValueError("only space")
    return text


# Python's idea of space, which has a few characters more than a pattern's \s.
_FilledText = Annotated[str, AfterValidator(_check_filled)]
_Text = Annotated[_FilledText, Field(description="a text that is not empty")]
_Anything = Annotated[Any, Field(description="a value, or null")]
_Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Part(BaseModel):
    """A mapping with at least these keys; it may have others."""

    model_config = ConfigDict(strict=True)


class _Author(_Part):
    lastname: _Text
    firstname: _Text
    email: _Text
    affiliation: Annotated[
        Any,
        AfterValidator(_check_affiliation),
        Field(description="a text, or the parts of an address"),
    ]


class _Submission(_Part):
    label: str
    name: _Text
    abbreviation: _FilledText = Field(
        max_length=MAX_ABBREVIATION,
        description=f"a text of at most {MAX_ABBREVIATION} characters",
    )
    authors: list[_Author] = Field(description=_CORRESPONDING)


class _Description(_Part):
    input_sampling_rate: _Anything
    acoustic_features: _Anything
    data_augmentation: _Anything
    machine_learning_method: _Anything
    external_data_usage: _Anything
    complexity_management: _Anything
    pipeline: _Anything
    framework: _Anything
    split_adaptations: _Anything
    system_adaptations: _Anything


class _DescriptionOf2025(_Part):
    input_sampling_rate: _Anything
    acoustic_features: _Anything
    data_augmentation: _Anything
    machine_learning_method: _Anything
    external_data_usage: _Anything
    complexity_management: _Anything
    pipeline: _Anything
    framework: _Anything
    device_information: _Anything
    num_models_at_inference: int = Field(gt=0, description="a number of networks, at least 1")
    model_weight_sharing: _Anything


class _Complexity(_Part):
    total_model_size: int = Field(
        gt=0, le=MAX_BYTES, description=f"a number of bytes, 1 ... {MAX_BYTES:,}"
    )
    total_parameters: int = Field(gt=0, description="a number of parameters, at least 1")
    macs: int = Field(
        gt=0, le=MAX_MACS, description=f"a number of multiply-accumulates, 1 ... {MAX_MACS:,}"
    )


class _ExternalDataset(_Part):
    name: _Text
    url: _Text
    total_audio_length: _Number = Field(description="a number of minutes")


class _System(_Part):
    description: _Description
    complexity: _Complexity
    external_datasets: list[_ExternalDataset] = Field(
        description="a list, empty where there is none"
    )
    source_code: _Anything


class _SystemOf2025(_Part):
    description: _DescriptionOf2025
    complexity: _Complexity
    external_datasets: list[_ExternalDataset] = Field(
        description="a list, empty where there is none"
    )
    inference_code: _Text = Field(description="the address of the published inference package")
    source_code: _Anything


class _Scores(_Part):
    accuracy: _Number = Field(le=100, description="a percentage, 0 ... 100")
    logloss: _Number | None = Field(description="a number of at least 0, or null")


def _make_part(base: type[_Part] = _Part, /, **parts: Any) -> type[_Part]:
    """Return a model with one field for each of these names."""
    fields: Any = {name: (part, ...) for name, part in parts.items()}
    return create_model("_MadePart", __base__=base, **fields)


_SCORES_OF_SPLIT = _make_part(
    overall=_Scores,
    class_wise=_make_part(**dict.fromkeys(CHALLENGE_SCENES, _Scores)),
    device_wise=_make_part(**dict.fromkeys(RECORDING_DEVICES, _Scores)),
)
_RESULTS = _make_part(
    development_dataset=_make_part(**{f"split_{split}": _SCORES_OF_SPLIT for split in SPLITS})
)
_RESULTS_OF_2025 = _make_part(
    development_dataset=_make_part(device_specific=_SCORES_OF_SPLIT, general=_SCORES_OF_SPLIT)
)


def check_meta(file: str, content: bytes, label: str, year: Year = 2024) -> Iterator[BrokenRule]:
    """Find every rule that a description breaks.

    Args:
        file: Its name, for the messages.
        content: The text of the file.
        label: The label of the system that it must describe.
        year: Of the challenge.
    """
    try:
        _check_size(content)
        document = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield BrokenRule(file=file, value=" ".join(str(error).split()), expected="YAML")
        return
    broken = [*_check_values(file, document, label, year), *_check_corresponding(file, document)]
    # In the order of the file, where the submission is first.
    yield from sorted(broken, key=lambda rule: not rule.place.startswith("submission"))


def _check_size(content: bytes) -> None:
    """Make sure that the aliases of a text do not stand for more than a description has.

    Raises:
        yaml.YAMLError: they do, or it is no YAML.
    """
    sizes: dict[int, float] = {}

    def count(node: Any) -> float:
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # as long as it is counted: an alias of itself has no end
            inside = node.value if isinstance(node, yaml.CollectionNode) else ()
            pairs = (each if isinstance(each, tuple) else (each,) for each in inside)
            sizes[id(node)] = 1 + sum(count(part) for pair in pairs for part in pair)
        return sizes[id(node)]

    if count(yaml.compose(content, Loader=yaml.SafeLoader)) > MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values")


def _check_values(file: str, document: Any, label: str, year: Year) -> Iterator[BrokenRule]:
    model = _make_model(label, year)
    try:
        model.model_validate(document)
    except ValidationError as error:
        for each in error.errors():
            path = each["loc"]
            value = "missing" if each["type"] == "missing" else _shorten(each["input"])
            expected = _find_expected(model, path)
            yield BrokenRule(file=file, place=_format_path(path), value=value, expected=expected)


def _make_model(label: str, year: Year) -> type[_Part]:
    """Return the model of a whole description of the system with this label."""
    is_label = Annotated[
        Literal[label],  # pyrefly: ignore[invalid-literal, not-a-type]
        Field(description=f"{label!r}, as its files are called"),
    ]
    submission = _make_part(_Submission, label=is_label)
    if year == 2025:
        return _make_part(submission=submission, system=_SystemOf2025, results=_RESULTS_OF_2025)
    return _make_part(submission=submission, system=_System, results=_RESULTS)


def _check_corresponding(file: str, document: Any) -> Iterator[BrokenRule]:
    submission = document.get("submission") if isinstance(document, dict) else None
    authors = submission.get("authors") if isinstance(submission, dict) else None
    if isinstance(authors, list):
        flags = [each.get("corresponding") for each in authors if isinstance(each, dict)]
        if sum(flag is True for flag in flags) != 1:
            yield BrokenRule(
                file=file,
                place="submission.authors",
                value=_shorten(authors),
                expected=_CORRESPONDING,
            )


def _format_path(path: tuple[str | int, ...]) -> str:
    """Write a path of keys and indices as in `submission.authors[1].email`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return "".join(steps).removeprefix(".")


def _find_expected(model: type[BaseModel], path: tuple[str | int, ...]) -> str:
    """Return what a model expects at the end of a path."""
    part: Any = model
    description = None
    for step in path:
        if isinstance(step, int):
            part, description = get_args(part)[0], None
        else:
            field = part.model_fields[step]
            part, description = field.annotation, field.description
    return description or f"the keys {', '.join(part.model_fields)}"


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."

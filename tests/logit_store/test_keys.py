"""Names, paths and fingerprints."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from logit_store import (
    LogitKey,
    StrayFile,
    fingerprint,
    hash_row_order,
    keys,
    name_member,
)
from logit_store.paths import check_object_name, ensemble_path, logits_path, parse_key


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Recipe:
    inner: Inner = Inner()
    steps: tuple[int, ...] = (1, 2)
    name: str | None = None


@dataclass(frozen=True)
class OtherRecipe:
    inner: Inner = Inner()
    steps: tuple[int, ...] = (1, 2)
    name: str | None = None


def test_a_key_gives_the_path_of_its_logits() -> None:
    key = LogitKey("tau22", 5, "mn10_as-3f9c21ab04de", 2)
    path = "logits/v1/corpus=tau22/split=5/member=mn10_as-3f9c21ab04de/view=2/logits.parquet"
    assert logits_path(key) == path
    assert parse_key(path, path) == key


@pytest.mark.parametrize("path", ["split=7/member=m", "split=5/member=a b", "split=05/member=m"])
def test_a_path_without_a_key_is_an_error(path: str) -> None:
    name = f"logits/v1/corpus=c/{path}/view=0/logits.parquet"
    with pytest.raises(StrayFile, match=f"root/{name}"):
        parse_key(name, f"root/{name}")


@pytest.mark.parametrize(
    ("corpus", "split", "member", "view"),
    [
        ("", 5, "m", 0),
        ("a/b", 5, "m", 0),
        ("tau\n", 5, "m", 0),
        ("tau", 6, "m", 0),
        ("tau", 5.0, "m", 0),
        ("tau", 5, "m*", 0),
        ("tau", 5, "é", 0),
        ("tau", 5, "m", -1),
        ("tau", 5, "m", True),
    ],
)
def test_a_key_is_checked_when_it_is_made(corpus: str, split: int, member: str, view: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        LogitKey(corpus, split, member, view)


@pytest.mark.parametrize(
    "name",
    [
        "teachers/v1/m",
        "clips/v1/m/x",
        "teachers/v1/../x",
        "weights/v1/mn.pt",
        "weights/v2/a/b",
        "teachers/v1/m/.x",
        "/etc/v1/a/b",
    ],
)
def test_an_object_with_another_path_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="object"):
        check_object_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "teachers/v1/mn10-0123456789ab/record.json",
        "students/v1/m/weights.safetensors",
        "weights/v1/mn10_as-0123456789ab.pt/fetched.json",
        "search/v1/isotropic-0123456789ab/result.json",
        "jobs/v1/20261122T062000Z-teachers-0123/driver.json",
        "units/v1/20261122T062000Z-teachers-0123/00001/00017-0123.json",
    ],
)
def test_objects_belong_to_members_weights_searches_and_jobs(
    name: str,
) -> None:
    assert check_object_name(name) == name


def test_the_name_of_an_ensemble_cannot_begin_with_a_dot() -> None:
    with pytest.raises(ValueError, match="dot"):
        ensemble_path("tau", 5, ".best")


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    value = {"b": 1, "a": (0.1, None, "é", True)}
    script = f"from logit_store import fingerprint; print(fingerprint({value!r}), end='')"
    command = [sys.executable, "-c", script]
    root = Path(__file__).resolve().parents[2]
    told = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    assert told == fingerprint(value)
    assert len(told) == 12
    assert set(told) <= set("0123456789abcdef")


def test_a_fingerprint_has_the_documented_digits() -> None:
    # SHA-256 of {"a":0.1,"b":[1,null]}. With another result, no stored member would be found.
    assert fingerprint({"b": (1, None), "a": 0.1}) == "99c2505ae8eb"


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 100])
def test_columns_hashed_in_parts_have_the_hash_of_the_whole_table(monkeypatch, at_a_time) -> None:
    monkeypatch.setattr(keys, "HASHED_AT_A_TIME", at_a_time)
    table = pa.table({"row": [0, 1, 2], "fold": ["fit", None, 'ö,"]'], "clip": ["a", "b", "c"]})
    assert keys.hash_columns(table) == keys.hash_json(table.to_pydict())


def test_equal_values_have_equal_fingerprints_in_any_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(Recipe()) == fingerprint(Recipe(steps=(1, 2)))


def test_settings_from_json_have_the_fingerprint_of_the_settings_that_were_written() -> None:
    settings = {"layers": ({"width": 8, "skip": None}, {"width": 16, "skip": (0, 1)}), "no": ()}
    assert fingerprint(json.loads(json.dumps(settings))) == fingerprint(settings)
    assert name_member("ours", {"layers": [1, 2]}) == name_member("ours", {"layers": (1, 2)})


def test_different_values_have_different_fingerprints() -> None:
    values = [
        Recipe(),
        OtherRecipe(),
        Recipe(inner=Inner(rate=np.nextafter(0.1, 1).item())),
        Recipe(steps=(2, 1)),
        Recipe(name=""),
        1,
        1.0,
        True,
        "1",
        (1,),
        None,
    ]
    assert len({fingerprint(value) for value in values}) == len(values)


@pytest.mark.parametrize(
    "value", [{1}, Path("x"), np.float32(1), np.zeros(1), Recipe, b"x", {1: 2}, {"a": [({1},)]}]
)
def test_a_value_without_a_fingerprint_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="no fingerprint"):
        fingerprint(value)


def test_a_type_error_names_the_place_of_the_value() -> None:
    with pytest.raises(TypeError, match=r"value\['recipe'\]\.steps\[0\] is a set"):
        fingerprint({"recipe": Recipe(steps=({1},))})  # type: ignore[arg-type]


def test_a_member_is_a_name_and_a_fingerprint() -> None:
    assert name_member("mn10_as", Recipe()) == f"mn10_as-{fingerprint(Recipe())}"
    with pytest.raises(ValueError, match="member 'a b'"):
        name_member("a b", Recipe())


def test_the_row_order_hash_depends_on_order_and_bounds_of_clip_ids() -> None:
    hashes = {hash_row_order(ids) for ids in (["a", "b"], ["b", "a"], ["ab"], ["a,b"], ["a"], [])}
    assert len(hashes) == 6

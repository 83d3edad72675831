from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def root():
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def read(root):
    """Reads a YAML file of cluster/."""
    return lambda name: yaml.safe_load((root / "cluster" / name).read_text())


@pytest.fixture(scope="session")
def strict():
    """Makes a schema refuse what it does not name: by default one allows any field."""

    def closed(schema):
        if isinstance(schema, list):
            return [closed(part) for part in schema]
        if not isinstance(schema, dict):
            return schema
        copy = {name: closed(part) for name, part in schema.items()}
        if isinstance(copy.get("properties"), dict):
            copy.setdefault("additionalProperties", False)
        return copy

    return closed

from pathlib import Path

import pytest
import yaml


@pytest.fixture(scope="session")
def root():
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def readme(root):
    return (root / "cluster" / "README.md").read_text()


@pytest.fixture(scope="session")
def read(root):
    """Return a function that reads a YAML file of cluster/."""
    return lambda name: yaml.safe_load((root / "cluster" / name).read_text())


@pytest.fixture(scope="session")
def strict():
    """Return a function that makes a schema refuse unknown fields, which schemas allow by default."""

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

import pytest
from compiled_selection import compile_once

compiled = pytest.fixture(scope="session", autouse=True)(compile_once)

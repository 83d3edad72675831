import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_first(compiled):
    """All tests of this folder select."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_first(compiled):
    """Compile first, as all tests of this folder use the kernels."""

import pytest
from tiny import tiny_corpus
from tiny_student import open_store


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return tiny_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def store(tmp_path, corpus):
    """A store of its own for each test, with the corpus's clips."""
    with open_store(tmp_path, corpus) as store:
        yield store

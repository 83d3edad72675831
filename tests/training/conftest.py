import shutil
from pathlib import Path

import pytest

from training.mlflow_server import find_run, open_client

VARIABLES = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


@pytest.fixture(scope="session")
def mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an MLflow file without runs; its hundred tables take seconds, so it is made once."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in VARIABLES.items():
            patch.setenv(name, value)
        with open_client(f"sqlite:///{file}", "") as client:
            find_run(client, "Default", "none")
    return file


@pytest.fixture
def mlflow_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that the variables that clients set do not outlive the test."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def mlflow_address(mlflow_tables: Path, tmp_path: Path, mlflow_variables: None) -> str:
    """Return the address of a fresh MLflow file."""
    return f"sqlite:///{shutil.copy(mlflow_tables, tmp_path / 'mlflow.db')}"

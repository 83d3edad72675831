"""The cluster that RAY_ADDRESS names: it answers, or a job ends within seconds and says why."""

import socket
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from http_servers import QuietHandler, serve

from jobs.schedule import cluster, find_cluster
from jobs.schedule.workers import IN_PROCESS
from terminal.console import UserError


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    """No cluster of this machine, and little patience."""
    monkeypatch.delenv(IN_PROCESS, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(find_cluster, "PATIENCE_S", 0.5)
    monkeypatch.setattr(find_cluster, "PAUSE_S", 0.05)


@pytest.fixture
def closed():
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def silent():
    """A port that takes connections, and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@pytest.fixture
def web():
    """The port of a web server."""
    with serve(QuietHandler) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture
def other_grpc():
    """The port of a server that speaks gRPC, and is no head of Ray."""
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def refuse(monkeypatch, address):
    """Return how a job refuses an address, in one line."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError) as refused, cluster.connect():
        pass
    message = str(refused.value)
    assert "\n" not in message
    assert "unset RAY_ADDRESS" in message or "expected HOST:PORT" in message
    return message


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_an_address_at_which_nobody_listens_is_refused(monkeypatch, closed, scheme):
    message = refuse(monkeypatch, f"{scheme}127.0.0.1:{closed}")
    assert message.startswith(f"no Ray cluster answers at 127.0.0.1:{closed}: Connection refused")


@pytest.mark.parametrize("server", ["silent", "web", "other_grpc"])
def test_a_server_that_is_no_head_of_ray_is_refused(monkeypatch, request, server):
    port = request.getfixturevalue(server)
    assert "no head of Ray" in refuse(monkeypatch, f"127.0.0.1:{port}")


def test_a_server_of_rays_clients_need_not_be_a_head(monkeypatch, other_grpc):
    monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{other_grpc}")
    assert find_cluster.find_cluster() == f"ray://127.0.0.1:{other_grpc}"


def test_a_name_that_nobody_knows_is_refused(monkeypatch):
    def fail(address, timeout):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", fail)
    assert "answers at nowhere:6379: Name or service not known" in refuse(
        monkeypatch, "nowhere:6379"
    )


def test_a_dashboards_address_is_refused_with_the_one_that_would_do(monkeypatch):
    message = refuse(monkeypatch, "http://someone:the-password@10.0.0.5:8265")
    assert "HOST:6379" in message
    assert "ray job submit" in message
    assert "the-password" not in message


@pytest.mark.parametrize("address", ["10.0.0.5", "10.0.0.5:port", "redis://10.0.0.5:6379", ":6379"])
def test_what_is_no_address_of_a_cluster_is_refused(monkeypatch, address):
    assert refuse(monkeypatch, address).startswith(f"RAY_ADDRESS={address}: expected HOST:PORT")


def test_a_cluster_that_is_just_starting_is_waited_for(monkeypatch, other_grpc):
    connect, tries = socket.create_connection, []

    def refuse_first(address, timeout):
        tries.append(address)
        if len(tries) < 3:
            raise ConnectionRefusedError(111, "Connection refused")
        return connect(address, timeout)

    monkeypatch.setattr(socket, "create_connection", refuse_first)
    monkeypatch.setenv("RAY_ADDRESS", f"ray://127.0.0.1:{other_grpc}")
    assert find_cluster.find_cluster() is not None


def record_cluster(tmp_path, port):
    """Leave the note that `ray start` leaves."""
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}")


@pytest.mark.parametrize("named", [None, "", "local"])
@pytest.mark.parametrize("server", ["closed", "web"])
def test_a_note_of_a_cluster_that_is_gone_is_passed_over(
    monkeypatch, tmp_path, request, named, server
):
    record_cluster(tmp_path, request.getfixturevalue(server))
    if named is None:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    else:
        monkeypatch.setenv("RAY_ADDRESS", named)
    assert find_cluster.find_cluster() is None


def test_auto_needs_a_cluster_of_this_machine(monkeypatch, tmp_path, closed):
    record_cluster(tmp_path, closed)
    assert refuse(monkeypatch, "auto").startswith("RAY_ADDRESS=auto: no Ray cluster")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n"),
            "started with: Ray: 2.9.0",
        ),
        (ConnectionError("the head went away"), "the head went away"),
    ],
)
def test_what_ray_refuses_later_is_said_without_a_traceback(monkeypatch, error, words):
    import ray

    def fail(**settings):
        raise error

    monkeypatch.setattr(cluster, "find_cluster", lambda: "10.0.0.5:6379")
    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(UserError, match="cluster at 10.0.0.5:6379: ") as refused, cluster.connect():
        pass
    assert words in str(refused.value).splitlines()[0]

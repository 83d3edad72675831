"""S3 servers for tests: a real one with credentials, one in the process, and a proxy that fails."""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import BotoCoreError
from http_servers import QuietHandler, serve
from s3fs import S3FileSystem

from cluster.ports import find_free_ports

BUCKET = "tutti"
READY_WITHIN_S = 120
SLOW_S = 0.9
"""Duration of a slow answer; a reader that is to notice it needs a shorter timeout."""

Fault = Literal["429", "500", "503", "slow", "cut", "lost", "garbled"]
"""`cut` breaks the answer off in the middle; `lost` carries the request out and never answers;
`garbled` changes one byte of a body that has a checksum."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a server is, and who may use it; it has a bucket BUCKET."""

    endpoint: str
    key: str = "a-key"
    secret: str = "a-secret-of-nobody"

    def variables(self) -> dict[str, str]:
        """Return the environment variables that lead to the server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            # Without this, boto looks for keys in the network where none are given.
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def name_in(self, patch: pytest.MonkeyPatch) -> None:
        """Set the variables that lead to the server."""
        for name, value in self.variables().items():
            patch.setenv(name, value)


@contextmanager
def weed(folder: Path) -> Iterator[S3Server]:
    """Run SeaweedFS with all its parts in one process; it accepts its own key only."""
    names = ("master", "volume", "filer", "s3")
    ports = dict(
        zip([*names, *(f"{name}.grpc" for name in names)], find_free_ports(8), strict=True)
    )
    server = S3Server(f"http://127.0.0.1:{ports['s3']}")
    (folder / "data").mkdir()
    (folder / "s3.json").write_text(json.dumps(_identities(server)))
    options = [f"-{name}.port={ports[name]}" for name in names]
    options += [f"-{name}.port.grpc={ports[f'{name}.grpc']}" for name in names]
    options += ["-filer", "-s3", "-s3.config=s3.json", "-s3.iam=false", "-master.telemetry=false"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=0"]
    options += ["-master.volumeSizeLimitMB=64", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-dir=data"]
    program = Path(sys.executable).with_name("weed")
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [program, "server", *options], cwd=folder, stdout=sink, stderr=subprocess.STDOUT
        )
    try:
        _wait_for(server, process, log)
        yield server
    finally:
        process.kill()
        process.wait()


@contextmanager
def moto() -> Iterator[S3Server]:
    """Run a server in threads of this process; it accepts any key and forgets everything at the end."""
    # The import takes a second, and most tests of a store do not need it.
    from moto.server import ThreadedMotoServer

    threaded = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    threaded.start()
    try:
        server = S3Server(f"http://127.0.0.1:{threaded.get_host_and_port()[1]}")
        as_owner(server).call_s3("create_bucket", Bucket=BUCKET)
        yield server
    finally:
        threaded.stop()


class Proxy:
    """A proxy before a server that records requests and injects faults."""

    def __init__(self, target: S3Server, endpoint: str) -> None:
        self.server = S3Server(endpoint, target.key, target.secret)
        self.target = urlsplit(target.endpoint).netloc
        self.fault: Fault | None = None
        """What happens to every third request from now on."""
        self.every = 3
        self.pause_s = 0.0
        """Pause before each answer."""
        self.asked: list[str] = []
        """Methods, in the order in which requests came."""
        self.sent_bytes = 0
        self.n_garbled = 0
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    @contextmanager
    def request(self, method: str) -> Iterator[Fault | None]:
        """Count a request; yield the fault that is to happen to it, if any."""
        with self._lock:
            self.asked.append(method)
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            due = len(self.asked) % self.every == 0
        try:
            yield self.fault if due else None
        finally:
            with self._lock:
                self._now -= 1

    def forget(self) -> None:
        """Reset the counts."""
        self.asked, self.sent_bytes, self.most_at_once = [], 0, 0


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[Proxy]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.proxy.request(self.command) as fault:
            time.sleep(self.proxy.pause_s)
            if fault in ("429", "500", "503"):
                self.send_response(int(fault))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if fault == "slow":
                time.sleep(SLOW_S)
            self.forward(body, fault)

    def forward(self, body: bytes, fault: Fault | None) -> None:
        connection = http.client.HTTPConnection(self.proxy.target)
        connection.request(self.command, self.path, body, dict(self.headers.items()))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.close_connection = fault in ("cut", "lost")
        if fault == "lost":
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        # The answer to a HEAD has the length of the object.
        length = answer.getheader("Content-Length") or str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        sent = content[: len(content) // 2] if fault == "cut" else content
        if fault == "garbled" and answer.getheader("x-amz-checksum-crc32") and content:
            sent = bytes([content[0] ^ 1]) + content[1:]
            self.proxy.n_garbled += 1
        self.proxy.sent_bytes += len(sent)
        # The client may have given up waiting.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(sent)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer


@contextmanager
def proxy(target: S3Server) -> Iterator[Proxy]:
    """Run a proxy before a server."""
    handler = type("Handler", (_Handler,), {})
    with serve(handler) as address:
        handler.proxy = Proxy(target, address)
        yield handler.proxy


@contextmanager
def refusing(status: int, code: str) -> Iterator[S3Server]:
    """Run a server that gives the same error to every request."""
    body = f"<Error><Code>{code}</Code><Message>not now</Message></Error>".encode()
    with answering(status, body) as server:
        yield server


@contextmanager
def answering(status: int, body: bytes) -> Iterator[S3Server]:
    """Run a server that gives the same answer to every request."""

    class Refusal(QuietHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = answer

    with serve(Refusal) as address:
        yield S3Server(address)


def _identities(server: S3Server) -> dict[str, object]:
    credentials = [{"accessKey": server.key, "secretKey": server.secret}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "tests", "credentials": credentials, "actions": actions}]}


def as_owner(server: S3Server) -> S3FileSystem:
    """Return the server's files as they are now, with all permissions."""
    return S3FileSystem(
        key=server.key,
        secret=server.secret,
        endpoint_url=server.endpoint,
        client_kwargs={"region_name": "us-east-1"},
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def _wait_for(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the server accepts an object, which is some seconds after it lists its buckets."""
    files, give_up_at = as_owner(server), time.monotonic() + READY_WITHIN_S
    while process.poll() is None and time.monotonic() < give_up_at:
        try:
            if not files.exists(BUCKET):
                files.call_s3("create_bucket", Bucket=BUCKET)
            files.pipe_file(f"{BUCKET}/ready", b"yes")
        except (OSError, BotoCoreError):
            time.sleep(0.5)
        else:
            return
    raise RuntimeError(f"{process.args} does not answer: {log.read_text()[-2000:]}")

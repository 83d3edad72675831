"""Downloads from a server of this process (or of moto), with all that goes wrong with real ones."""

import hashlib
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from http_servers import QuietHandler, serve

from logit_store import LogitStore
from teachers import DamagedWeights, MissingWeights, UnfitWeights, WeightsError
from teachers.fetch import fetch_file, locate_file
from teachers.private import PrivateWeights
from teachers.servers import CHUNK_BYTES

ROOT = Path(__file__).parents[2]
CONTENT = bytes(range(256)) * 12_000  # 3 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """What the server serves, and the requests that it received."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.etag: str | None = '"v1"'
        self.takes_ranges = True
        self.failures: list[tuple[int, dict[str, str]]] = []
        """Answered first, one after the other: status and headers."""
        self.cuts: list[int] = []
        """The next answers break off after this many bytes."""
        self.pause_s = 0.0
        """Time that passes before each piece."""
        self.asked: list[dict[str, str]] = []
        self.address = ""
        self.lock = threading.Lock()


class Handler(QuietHandler):
    site: ClassVar[Site]

    def do_GET(self) -> None:
        site = self.site
        with site.lock:
            site.asked.append(
                {"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}
            )
            failure = site.failures.pop(0) if site.failures else None
            cut = site.cuts.pop(0) if site.cuts else None
        if self.path.startswith("/moved/"):
            return self.answer(302, {"Location": self.path.removeprefix("/moved")})
        if self.path.startswith("/gone/"):
            return self.answer(404)
        if failure is not None:
            return self.answer(*failure)
        return self.give(site, cut)

    def answer(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()

    def give(self, site: Site, cut: int | None) -> None:
        start = self.first_byte(site)
        body = site.content[start:]
        if start and not body:
            return self.answer(416)
        self.send_response(206 if start else 200)
        if start:
            total = len(site.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if site.etag is not None:
            self.send_header("ETag", site.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body if cut is None else body[:cut]
        for i in range(0, len(body), 2**17):
            time.sleep(site.pause_s)
            self.wfile.write(body[i : i + 2**17])
        self.close_connection = True
        return None

    def first_byte(self, site: Site) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = self.headers.get("If-Range") == site.etag
        return int(match[1]) if match and is_same and site.takes_ranges else 0


@pytest.fixture
def site() -> Iterator[Site]:
    served = Site()
    with serve(type("Here", (Handler,), {"site": served})) as address:
        served.address = f"{address}/v1/mn.pt"
        yield served


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the weights' folder, and no waits between attempts."""
    folder = tmp_path / "weights"
    monkeypatch.setenv("TUTTI_WEIGHTS", str(folder))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("teachers.transfer.WAITS_S", (0.0,) * 4)
    return folder


@pytest.fixture
def store(tmp_path: Path) -> LogitStore:
    return LogitStore(tmp_path / "store")


def leftovers(folder: Path) -> set[str]:
    return {path.name.rpartition(".")[2] for path in folder.iterdir() if path.name.startswith(".")}


def test_a_file_is_downloaded_whole_and_only_once(site: Site, folder: Path):
    progress: list[tuple[int, int | None]] = []
    place = fetch_file(site.address, on_progress=lambda done, total: progress.append((done, total)))
    assert place.read_bytes() == CONTENT
    assert fetch_file(site.address) == place
    assert len(site.asked) == 1
    assert progress[0] == (0, len(CONTENT))
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert progress == sorted(progress)
    assert leftovers(folder) == {"lock"}


def test_a_redirect_is_followed_and_the_asked_address_names_the_file(site: Site):
    moved = site.address.replace("/v1/", "/moved/v1/")
    assert fetch_file(moved).read_bytes() == CONTENT
    assert fetch_file(moved) != fetch_file(site.address)


def test_a_cut_connection_is_resumed_where_it_broke(site: Site):
    site.cuts = [16 * CHUNK_BYTES, 10 * CHUNK_BYTES + 1]
    assert fetch_file(site.address).read_bytes() == CONTENT
    assert [asked.get("range") for asked in site.asked] == [
        None,
        f"bytes={16 * CHUNK_BYTES}-",
        f"bytes={26 * CHUNK_BYTES}-",
    ]
    assert site.asked[1]["if-range"] == '"v1"'


@pytest.mark.parametrize("why", ["ignores Range", "tells no version", "has a new version"])
def test_what_cannot_be_resumed_starts_over(site: Site, why: str):
    site.cuts = [1_000_000]
    site.takes_ranges = why != "ignores Range"
    site.etag = None if why == "tells no version" else '"v1"'

    def change(done: int, total: int | None) -> None:
        if why == "has a new version" and done:
            site.etag, site.content = '"v2"', CONTENT[::-1]

    assert fetch_file(site.address, on_progress=change).read_bytes() == site.content
    assert len(site.asked) == 2


@pytest.mark.parametrize("tag", [b"\xff\xfe", b"\n\n", bytes(4), b""])
def test_a_part_with_a_damaged_tag_starts_over(site: Site, tag: bytes):
    place = locate_file(site.address)
    place.parent.mkdir(parents=True)
    place.with_name(f".{place.name}.part").write_bytes(bytes(1_000))
    place.with_name(f".{place.name}.tag").write_bytes(tag)
    assert fetch_file(site.address).read_bytes() == CONTENT


def test_what_an_earlier_process_left_is_resumed_even_if_nothing_is_missing(site: Site):
    place = locate_file(site.address)
    place.parent.mkdir(parents=True)
    for left, asked in (
        (2_000_000, ["bytes=2000000-"]),
        (len(CONTENT), [f"bytes={len(CONTENT)}-", None]),
    ):
        place.with_name(f".{place.name}.part").write_bytes(CONTENT[:left])
        place.with_name(f".{place.name}.tag").write_text('"v1"')
        site.asked.clear()
        assert fetch_file(site.address).read_bytes() == CONTENT
        assert [each.get("range") for each in site.asked] == asked
        place.unlink()


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_busy_server_is_asked_again(site: Site, status: int):
    site.failures = [(status, {}), (status, {"Retry-After": "0"})]
    assert fetch_file(site.address).read_bytes() == CONTENT
    assert len(site.asked) == 3


def test_a_server_that_stays_busy_is_reported(site: Site):
    site.failures = [(503, {})] * 99
    with pytest.raises(MissingWeights, match="HTTP 503"):
        fetch_file(site.address)
    assert len(site.asked) == 5


def test_a_file_that_always_ends_too_early_is_given_up_and_never_used(site: Site):
    site.takes_ranges = False
    site.cuts = [1_000_000] * 99
    with pytest.raises(MissingWeights, match="IncompleteRead|Connection broken"):
        fetch_file(site.address)
    assert not locate_file(site.address).exists()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final_and_says_what_to_do(site: Site, status: int):
    site.failures = [(status, {})] * 99
    with pytest.raises(MissingWeights) as caught:
        fetch_file(site.address)
    assert len(site.asked) == 1
    message = str(caught.value)
    assert f"HTTP {status}" in message
    assert f"curl -L -o '{locate_file(site.address)}' '{site.address}'" in message
    assert "--weights none" in message


def test_without_a_network_the_error_says_what_to_do():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}/mn.pt"
        with pytest.raises(MissingWeights, match="(?s)refused.*--weights none"):
            fetch_file(address)


def test_private_weights_that_changed_since_the_plan_are_refused(site: Site):
    address = f"{site.address}?sig=plant"
    weights = PrivateWeights.of(address)
    assert weights.fetch() == locate_file(address)
    assert weights.sha256 == SHA256
    locate_file(address).write_bytes(b"other")
    with pytest.raises(DamagedWeights, match=f"it was {SHA256} when the run was planned"):
        weights.fetch()


def test_a_file_put_in_place_by_hand_needs_no_server(store: LogitStore):
    address = "https://nowhere.invalid/mn.pt"
    place = locate_file(address)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"by hand")
    for _ in range(2):
        assert fetch_file(address, store=store) == place


def test_files_of_one_name_from_two_hosts_do_not_collide():
    places = {
        locate_file(f"{start}/mn10(2).pt")
        for start in ("https://a.org/v1", "https://b.org/v1", "https://a.org/v2", "s3://a.org/v1")
    }
    assert len(places) == 4
    assert all(re.fullmatch(r"mn10_2_-[0-9a-f]{12}\.pt", place.name) for place in places)


@pytest.mark.parametrize(
    "address", ["ftp://a.org/mn.pt", "https://a.org/", "https://a.org", "mn.pt"]
)
def test_what_is_not_the_address_of_a_file_is_refused(address: str):
    with pytest.raises(ValueError, match=f"address '{address}'"):
        fetch_file(address)


def test_the_first_use_is_recorded(site: Site, store: LogitStore):
    place = fetch_file(
        site.address.replace("//", "//me:secret@") + "?signature=secret", store=store
    )
    record = store.objects.read_json(f"weights/v1/{place.name}/fetched.json")
    assert record.pop("when").endswith("+00:00")
    assert record == {"address": site.address, "bytes": len(CONTENT), "sha256": SHA256}


def test_a_file_that_differs_from_the_first_use_is_refused_with_both_hashes(
    site: Site, store: LogitStore
):
    place = fetch_file(site.address, store=store)
    place.unlink()
    site.content = b"other bytes"
    with pytest.raises(DamagedWeights) as caught:
        fetch_file(site.address, store=store)
    message = str(caught.value)
    assert SHA256 in message
    assert hashlib.sha256(b"other bytes").hexdigest() in message
    assert message.startswith(str(place))
    assert f"{store.address}/weights/v1/{place.name}/fetched.json" in message
    assert "Delete the file to fetch it again" in message
    # Without a store nothing is compared.
    assert fetch_file(site.address) == place


def test_a_broken_record_in_the_store_is_reported(site: Site, store: LogitStore):
    place = fetch_file(site.address, store=store)
    store.objects.write(f"weights/v1/{place.name}/fetched.json", b"{}")
    with pytest.raises(DamagedWeights, match=r"fetched\.json: not a record.*\n.*Delete it"):
        fetch_file(site.address, store=store)


def test_a_file_is_hashed_once_per_process(site: Site, store: LogitStore, monkeypatch):
    hashed: list[int] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *args: hashed.append(1) or digest(*args))
    for _ in range(3):
        fetch_file(site.address, store=store)
    assert len(hashed) == 1


SIXTEEN = """
import multiprocessing
import os
import sys

from teachers.fetch import fetch_file
from teachers.servers import open_http  # once, not in each process

def one(barrier):
    barrier.wait()
    # In one call: 16 processes write to the same pipe.
    os.write(1, b"%d\\n" % fetch_file(sys.argv[1]).stat().st_size)

# Forked: 16 fresh interpreters would each import the HTTP library first.
context = multiprocessing.get_context("fork")
barrier = context.Barrier(16)
children = [context.Process(target=one, args=(barrier,)) for _ in range(16)]
for child in children:
    child.start()
for child in children:
    child.join()
sys.exit(max(child.exitcode for child in children))
"""


def test_sixteen_processes_at_once_download_once(site: Site):
    site.pause_s = 0.02
    command = [sys.executable, "-c", SIXTEEN, site.address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(CONTENT))] * 16
    assert len(site.asked) == 1
    assert locate_file(site.address).read_bytes() == CONTENT


def test_a_killed_download_leaves_a_part_that_the_next_one_resumes(site: Site, folder: Path):
    site.pause_s = 0.05
    program = "import sys; from teachers.fetch import fetch_file; fetch_file(sys.argv[1])"
    child = subprocess.Popen([sys.executable, "-c", program, site.address], cwd=ROOT)
    part = locate_file(site.address).with_name(f".{locate_file(site.address).name}.part")
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    left = part.stat().st_size
    assert 0 < left < len(CONTENT)
    assert not locate_file(site.address).exists()
    site.pause_s = 0
    assert fetch_file(site.address).read_bytes() == CONTENT
    assert site.asked[-1]["range"] == f"bytes={left}-"
    assert leftovers(folder) == {"lock"}


def test_a_full_disk_is_not_blamed_on_the_server(site: Site, monkeypatch):
    def fail(done: int, total: int | None) -> None:
        if done:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fetch_file(site.address, on_progress=fail)
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    "error",
    [
        MissingWeights("https://a.org/mn.pt", "HTTP 404", "Put it there"),
        DamagedWeights("weights/mn.pt", "sha256 1, but 2", "Delete it"),
        UnfitWeights("mn.pt", "does not fit", "Give another"),
    ],
)
def test_errors_survive_pickling(error: WeightsError):
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert vars(other) == vars(error)


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], str]:
    """Return a function that puts bytes at a key and returns their address."""
    import s3fs

    for name, value in (
        ("AWS_ENDPOINT_URL", s3_endpoint),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)

    def put(key: str, content: bytes) -> str:
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        if not files.exists("weights"):
            files.mkdir("weights")
        files.pipe_file(f"weights/{key}", content)
        return f"s3://weights/{key}"

    return put


def test_a_file_in_a_bucket_is_downloaded_whole(
    bucket: Callable[[str, bytes], str], store: LogitStore
):
    address = bucket("v1/mn.safetensors", CONTENT)
    progress: list[int] = []
    place = fetch_file(address, store=store, on_progress=lambda done, total: progress.append(done))
    assert place.read_bytes() == CONTENT
    assert place.suffix == ".safetensors"
    assert progress[-1] == len(CONTENT)


def test_a_part_of_a_file_in_a_bucket_is_resumed_if_its_version_is_the_same(
    bucket: Callable[[str, bytes], str],
):
    address = bucket("v2/mn.pt", CONTENT)
    place = locate_file(address)
    place.parent.mkdir(parents=True)
    etag = f'"{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"'
    for tag, first in ((etag, 1_000_000), ('"other"', 0)):
        place.with_name(f".{place.name}.part").write_bytes(CONTENT[:1_000_000])
        place.with_name(f".{place.name}.tag").write_text(tag)
        progress: list[int] = []
        fetch_file(
            address, on_progress=lambda done, total, progress=progress: progress.append(done)
        )
        assert place.read_bytes() == CONTENT
        assert progress[0] == first
        place.unlink()


def test_a_file_that_a_bucket_lacks_is_missing_with_a_way_out(
    bucket: Callable[[str, bytes], str],
):
    bucket("v1/other.pt", b"1")
    with pytest.raises(MissingWeights, match="(?s)FileNotFoundError.*aws s3 cp"):
        fetch_file("s3://weights/v1/none.pt")


def test_without_keys_for_a_bucket_the_error_says_which_variables_to_set(
    bucket: Callable[[str, bytes], str], monkeypatch
):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(MissingWeights, match="set AWS_ACCESS_KEY_ID"):
        fetch_file("s3://weights/v1/mn.pt")

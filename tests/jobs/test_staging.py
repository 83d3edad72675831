"""A corpus on S3 is copied to a node: completely, once, and checked."""

import os
import threading

import pytest
from corpus_files import write_corpus
from s3_servers import BUCKET, as_owner, moto, proxy

from jobs.worker import staging
from jobs.worker.staging import DamagedDownload, stage
from jobs.worker.where import Where, open_corpus
from logit_store import LogitStore
from logit_store.s3 import MAX_REQUESTS, Requests
from terminal.console import UserError

ROOT = f"s3://{BUCKET}/corpora/tones"


@pytest.fixture(scope="module")
def server():
    with moto() as server:
        yield server


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files by name, more than are fetched at once."""
    return {f"audio/{n % 3}/{n}.wav": bytes([n]) * (1000 + n) for n in range(40)} | {
        "meta.csv": b"filename\n"
    }


@pytest.fixture
def node(server, files, tmp_path, monkeypatch):
    """A node without copies; the bucket is left as it was."""
    server.name_in(monkeypatch)
    monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
    stage.cache_clear()
    s3 = as_owner(server)
    if s3.exists(ROOT):
        s3.rm(ROOT, recursive=True)
    s3.pipe({f"{ROOT}/{name}": data for name, data in files.items()})
    yield s3
    stage.cache_clear()


def held(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def gets(asked):
    """Count the objects that were fetched; a listing is a GET as well."""
    return asked.count("GET") - 1


def test_all_files_lie_on_the_node_as_they_are(node, files):
    assert held(stage(ROOT).folder) == files
    assert stage(f"{ROOT}/").folder == stage(ROOT).folder


def test_a_second_process_fetches_nothing_and_one_that_knows_the_version_asks_nothing(
    node, server, files, monkeypatch
):
    with proxy(server) as before:
        before.server.name_in(monkeypatch)
        first = stage(ROOT)
        assert gets(before.asked) == len(files)
        assert 1 < before.most_at_once <= MAX_REQUESTS
        before.forget()
        stage.cache_clear()
        assert stage(ROOT) == first
        assert before.asked == ["GET"]
        before.forget()
        stage.cache_clear()
        assert stage(ROOT, first.version) == first
        assert before.asked == []


def test_an_interrupted_copy_goes_on_where_it_was(node, server, files, monkeypatch):
    fetch, fetched = staging._fetch, []

    def breaks_off(bucket, entry, folder):
        if len(fetched) == 10:
            raise KeyboardInterrupt
        fetched.append(entry.name)
        fetch(bucket, entry, folder)

    with proxy(server) as before:
        before.server.name_in(monkeypatch)
        with monkeypatch.context() as patch:
            patch.setattr(staging, "_fetch", breaks_off)
            patch.setattr(staging, "MAX_REQUESTS", 1)
            with pytest.raises(KeyboardInterrupt):
                stage(ROOT)
        before.forget()
        assert held(stage(ROOT).folder) == files
        assert gets(before.asked) == len(files) - 10


def test_a_half_written_file_is_no_file(node, files):
    folder = stage(ROOT).folder
    (folder.parent / staging.MARK).unlink()
    (folder / "audio/0/3.wav").write_bytes(b"half")
    (folder / "audio/0/.6.wav.part").write_bytes(b"half")
    stage.cache_clear()
    assert held(stage(ROOT).folder) == files


@pytest.mark.parametrize(
    "damage",
    [lambda file: file.unlink(), lambda file: file.write_bytes(b"")],
    ids=["removed", "cut"],
)
def test_a_copy_that_was_changed_is_not_believed_but_mended(node, files, damage):
    first = stage(ROOT)
    for version in (None, first.version):
        damage(first.folder / "audio/0/3.wav")
        stage.cache_clear()
        assert stage(ROOT, version) == first
        assert held(first.folder) == files


def test_what_changes_on_the_server_changes_on_the_node(node, files):
    first = stage(ROOT)
    node.pipe_file(f"{ROOT}/meta.csv", b"another\n")
    node.rm_file(f"{ROOT}/audio/0/0.wav")
    stage.cache_clear()
    second = stage(ROOT)
    assert second.version != first.version
    changed = {name: data for name, data in files.items() if name != "audio/0/0.wav"}
    assert held(second.folder) == changed | {"meta.csv": b"another\n"}


def test_hidden_objects_and_folders_own_objects_are_passed_over(node, files):
    node.pipe_file(f"{ROOT}/.DS_Store", b"x")
    node.pipe_file(f"{ROOT}/audio/../../../leaving.wav", b"x")
    assert held(stage(ROOT).folder) == files


def test_processes_of_a_node_copy_one_after_the_other(node, server, files, monkeypatch):
    with proxy(server) as before:
        before.server.name_in(monkeypatch)
        # A copy in the memory of this process is not used.
        threads = [threading.Thread(target=stage.__wrapped__, args=(ROOT,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert before.asked.count("GET") == len(files) + 3  # one listing each


def altered(monkeypatch, change):
    ask = Requests.ask

    async def asked(self, method, **arguments):
        answer = await ask(self, method, **arguments)
        if method == "get_object" and arguments["Key"].endswith("/3.wav"):
            return answer | {"Body": change(answer["Body"])}
        return answer

    monkeypatch.setattr(Requests, "ask", asked)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda body: body[:-1], "got 1,002 bytes, expected 1,003 bytes"),
        (lambda body: b"\0" + body[1:], "got MD5 .*, expected MD5"),
    ],
)
def test_an_object_that_comes_otherwise_is_one_error_that_names_it(
    node, monkeypatch, change, found
):
    altered(monkeypatch, change)
    with pytest.raises(DamagedDownload, match=f"{ROOT}/audio/0/3.wav: {found}"):
        stage(ROOT)
    (folder,) = (staging.find_cache_folder() / "corpora").glob("*/files")
    assert not (folder / "audio/0/3.wav").exists()


def test_an_upload_in_parts_is_checked_by_its_size(node, files):
    with node.open(f"{ROOT}/long.wav", "wb", block_size=5 * 2**20) as file:
        file.write(bytes(11 * 2**20))
    assert "-" in node.info(f"{ROOT}/long.wav")["ETag"]
    assert held(stage(ROOT).folder).keys() == {*files, "long.wav"}


def test_an_empty_prefix_is_named(node):
    with pytest.raises(UserError, match=f"--root s3://{BUCKET}/nothing: there is nothing"):
        stage(f"s3://{BUCKET}/nothing")


def test_another_kind_of_address_says_what_would_do():
    with pytest.raises(UserError, match="expected a folder or s3://BUCKET/PREFIX"):
        stage("gs://bucket/prefix")


def test_a_disk_that_is_too_small_is_said_before_anything_is_copied(node, monkeypatch):
    status = os.statvfs("/")
    full = os.statvfs_result([*status[:4], 0, *status[5:10]])
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    with pytest.raises(UserError, match="which has room for 0.0 GB: free some"):
        stage(ROOT)
    (folder,) = (staging.find_cache_folder() / "corpora").glob("*/files")
    assert held(folder) == {}


def test_a_corpus_on_s3_is_the_same_corpus(node, tmp_path):
    local = write_corpus(tmp_path / "tau")
    node.put(str(local), f"{BUCKET}/corpora/tau", recursive=True)
    address, store = f"s3://{BUCKET}/corpora/tau", LogitStore(tmp_path / "store")
    here, _ = open_corpus("tau", str(local), store)
    there, _ = open_corpus("tau", address, store)
    assert there.compute_identity() == here.compute_identity()
    where = Where.of("tau", address, store)
    assert where.version == stage(address).version
    assert where.open()[1].root == there.root

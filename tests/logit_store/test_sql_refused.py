"""SQL reads a store, and does nothing else."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from logit_store import LogitKey, LogitStore, QueryFailed
from logit_store.sql_text import check_expression

KEY = LogitKey("tau", 25, "m-1")

REFUSED = {
    "select * from read_text('/etc/passwd')": 'Cannot access file "/etc/passwd"',
    "from '/etc/passwd.csv'": "Cannot access file",
    "select * from read_csv('OUTSIDE')": "Cannot access file",
    "select * from glob('/etc/*')": "Cannot access file",
    "select * from read_parquet('STORE/../outside.csv')": "Cannot access file",
    "select * from read_text('STORE-beside/secret')": "Cannot access file",
    "select * from read_text('https://example.com/x')": "Cannot access file",
    "select * from read_text('s3://bucket/x')": "Cannot access file",
    "copy (select 1) to 'MEMBER'": "COPY is refused",
    "copy (select 1) to 'STORE/new.parquet' (format parquet)": "COPY is refused",
    "export database 'STORE/x'": "EXPORT is refused",
    "import database 'STORE/x'": "refused|[Cc]annot",
    "attach 'STORE/x.db'": "ATTACH is refused",
    "install httpfs": "LOAD is refused",
    "load httpfs": "LOAD is refused",
    "pragma database_list": "PRAGMA is refused",
    "set threads = 1": "SET is refused",
    "reset threads": "SET is refused",
    "create table x (a int)": "CREATE is refused",
    "create secret (type s3, key_id 'x')": "refused",
    "drop view members": "DROP is refused",
    "insert into members values (1)": "INSERT is refused",
    "delete from members": "DELETE is refused",
    "call enable_logging()": "CALL is refused",
    "explain select 1": "EXPLAIN is refused",
    "begin": "TRANSACTION is refused",
    "update extensions": "a statement of this kind is refused",
    "": "0 statements are refused",
    "select 1; select 2": "2 statements are refused",
    "select 1; copy (select 1) to 'MEMBER'": "2 statements are refused",
    "with x as (insert into t values (1) returning *) from x": "INSERT is refused",
    "with x as (delete from t returning *) from x": "DELETE is refused",
    "from query('select 1')": "the function query is refused",
    "select (select a from system.main.\"Query\"('select 1 as a'))": "the function query is refused",
    "from json_execute_serialized_sql(json_serialize_sql('select 1'))": "the function json_execute",
    "from enable_profiling(save_location = 'STORE/x')": "the function enable_profiling is refused",
    "from enable_logging()": "the function enable_logging is refused",
    "from members, lateral (from checkpoint())": "the function checkpoint is refused",
    "from arrow_scan(1::pointer, 1::pointer, 1::pointer)": "the function arrow_scan is refused",
    "pivot members on split using count(*)": "a PIVOT needs its values",
}
"""Queries, and words of their refusals."""

READ = {
    "select 1 as x;": 1,
    "values (1), (2)": 2,
    "from clips limit 3": 3,
    "table members": 1,
    "describe members": 15,
    "with x as (select row from clips) select * from x union all select * from x": 120,
    "with recursive t(n) as (select 1 union all select n + 1 from t where n < 4) from t": 4,
    "from range(3), unnest([1, 2])": 6,
    "pivot members on split in (5, 25) using count(*) group by member": 1,
    "select * from read_parquet('MEMBER')": 60,
    "select row, rank() over (order by row) from clips where row in (select row from logits)": 60,
}
"""Queries that are allowed, and how many rows they give."""


@pytest.fixture
def filled(store: LogitStore, logits_NK: np.ndarray) -> LogitStore:
    """A store with a member, beside files that are not its own."""
    store.write(KEY, logits_NK, {"kind": "teacher"})
    root = Path(store.address)
    (root.parent / "outside.csv").write_text("a,b\n1,2\n")
    beside = root.parent / f"{root.name}-beside"
    beside.mkdir()
    (beside / "secret").write_text("secret")
    return store


def hash_files(folder: Path) -> Mapping[str, str]:
    """Return the hash of each file below a folder."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def fill_in(text: str, store: LogitStore) -> str:
    """Return a query with the paths of the store."""
    (member,) = Path(store.address).glob("**/*m-1*/**/*.parquet")
    outside = Path(store.address).parent / "outside.csv"
    for word, path in (("MEMBER", member), ("OUTSIDE", outside), ("STORE", store.address)):
        text = text.replace(word, str(path))
    return text


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_reading_of_the_store_is_refused_in_words_and_changes_nothing(
    filled: LogitStore, text: str
) -> None:
    query = fill_in(text, filled)
    folder = Path(filled.address).parent
    filled.sql("from members")
    before = hash_files(folder)
    with pytest.raises(QueryFailed, match=REFUSED[text]) as caught:
        filled.sql(query)
    words = str(caught.value)
    assert "one SELECT statement" in words
    assert "views: clips, logits, members" in words
    assert "reads the views and the files behind them and changes nothing" in words
    assert hash_files(folder) == before


@pytest.mark.parametrize("text", READ)
def test_every_way_of_reading_a_store_is_allowed(filled: LogitStore, text: str) -> None:
    assert filled.sql(fill_in(text, filled)).num_rows == READ[text]


def test_a_store_behind_a_link_or_a_relative_path_is_read(
    filled: LogitStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(filled.address)
    monkeypatch.chdir(tmp_path)
    for address in (str(tmp_path / "link"), "store", "./link/../store", "link/"):
        assert LogitStore(address).sql("from predictions").num_rows == 60


def test_the_same_holds_on_s3(
    clips: pa.Table, logits_NK: np.ndarray, s3_address: str, tmp_path: Path
) -> None:
    bucket, beside = LogitStore(s3_address), LogitStore(f"{s3_address}-beside")
    for store in (bucket, beside):
        store.write_clips("tau", clips)
        store.write(KEY, logits_NK, {"kind": "teacher"})
    names = {each.name: each.version for each in bucket.files.find("*/*/*.parquet")}
    (member,) = (each.name for each in bucket.files.find("logits/*/*/*/*/*/*.parquet"))
    for text, words in {
        f"from read_parquet('{beside.files.locate(member)}')": "Cannot access file",
        f"from read_parquet('{s3_address}/../x.parquet')": "Cannot access file",
        "from read_text('/etc/passwd')": "Cannot access file",
        f"copy (select 1) to '{bucket.files.locate(member)}'": "COPY is refused",
        "load httpfs": "LOAD is refused",
    }.items():
        with pytest.raises(QueryFailed, match=words):
            bucket.sql(text)
    assert bucket.sql(f"from read_parquet('{bucket.files.locate(member)}')").num_rows == 60
    assert {each.name: each.version for each in bucket.files.find("*/*/*.parquet")} == names
    assert bucket.sql("from logits").num_rows == 60


@pytest.mark.parametrize(
    "text",
    [
        "family != 'passt' and log_loss_select < 1.5",
        "member in ('a', 'b') -- a remark",
        "case when seed = 0 then split = 5 else written > date '2024-01-01' end",
        "list_transform([split], lambda x: x + 1) = [26] and members.member like 'mn%'",
        """ family = '"class":"STAR"' or family = 'a; copy' """,
        " + ".join(["seed"] * 600) + " > 1",
    ],
)
def test_an_expression_is_allowed(text: str) -> None:
    check_expression(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1=1); copy (select 1) to 'x'", "syntax error"),
        ("1=1) or (1=1", "syntax error"),
        ("true; copy (select 1) to 'x'", "more than one expression"),
        ("true;", "more than one expression"),
        ("true, false", "more than one expression"),
        ("true as x", "more than one expression"),
        ("true from predictions", "more than one expression"),
        ("true where true", "more than one expression"),
        ("true union select true", "more than one expression"),
        ("distinct split", "more than one expression"),
        ("member in (select member from predictions where fold = 'test')", "a subquery"),
        ("exists (from predictions)", "a subquery"),
        ("split = any(select split from logits)", "a subquery"),
        ("(from predictions)", "a subquery"),
        ("columns(*) is null", r"a \*"),
        ("row_number() over () = 1", "a window"),
        ("seed = $1", "a parameter"),
        ("seed = 1 /* ", "unterminated"),
        ("", "without selection list"),
        ("member = '\udcff'", "UTF-8"),
    ],
)
def test_what_is_no_single_expression_is_refused(text: str, words: str) -> None:
    with pytest.raises(QueryFailed, match=words):
        check_expression(text)

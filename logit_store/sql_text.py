"""Checks queries with DuckDB's own parser before they run: they may only read the store."""

import re
from collections.abc import Sequence

import duckdb

from logit_store.errors import QueryFailed

ALLOWED = (
    "a query is one SELECT statement, which reads the views and the files behind them and "
    "changes nothing"
)

_TABLE_FUNCTIONS = re.compile(
    "generate_series|glob|histogram|histogram_values|json_each|json_tree|parquet_scan|range|repeat|"
    "repeat_row|summary|unnest|pragma_table_info|parquet_([a-z]+_)?metadata|parquet_schema|"
    "read_(blob|text|parquet|csv|csv_auto|json|json_auto|json_objects|ndjson|ndjson_auto|"
    "ndjson_objects)|duckdb_(columns|constraints|functions|keywords|schemas|settings|tables|types|views)"
)
"""They change nothing, and run no text as SQL. The connection decides which files they may open."""
_READING = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""All other nodes with this ending (such as `INSERT_QUERY_NODE`) write."""
_NO_EXPRESSION = {
    "SUBQUERY": "it has a subquery",
    "STAR": "it has a *",
    "WINDOW": "it has a window",
    "PARAMETER": "it has a parameter",
}
# In the parser's JSON a quote within a string is escaped, so no string of a query looks like these.
_NODE = re.compile(r'"type":"(\w+_NODE)"')
_CLASS = re.compile(r'"class":"(\w+)"')
_TABLE_FUNCTION = re.compile(r'"type":"TABLE_FUNCTION"')
_FUNCTION_NAME = re.compile(r'"function":\{"class":"FUNCTION"[^{}]*?"function_name":"(\w+)"')
_PLACE = re.compile(r'"query_location(_length)?":\d+')


def check_query(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Make sure that a text is one SELECT statement that changes nothing.

    Args:
        connection: a locked one, because parsing some statements opens files.
        text: the query.

    Raises:
        QueryFailed: it is something else.
    """
    statements = _extract_statements(connection, text)
    if len(statements) != 1:
        raise QueryFailed(f"{len(statements)} statements are refused: {ALLOWED}")
    kind = _name_kind(statements[0])
    if kind == "MULTI":
        raise QueryFailed(f"a PIVOT needs its values, as in ON split IN (25, 100): {ALLOWED}")
    if kind != "SELECT":
        raise QueryFailed(f"{kind} is refused: {ALLOWED}")
    tree = _parse(connection, text)
    for node in _NODE.findall(tree):
        if node not in _READING:
            raise QueryFailed(f"{node.partition('_')[0]} is refused: {ALLOWED}")
    functions = [name.lower() for name in _FUNCTION_NAME.findall(tree)]
    for name in functions:
        if not _TABLE_FUNCTIONS.fullmatch(name):
            raise QueryFailed(f"the function {name} is refused: {ALLOWED}")
    if len(functions) < len(_TABLE_FUNCTION.findall(tree)):
        raise QueryFailed(f"a function without a plain name is refused: {ALLOWED}")


def check_expression(text: str) -> None:
    """Make sure that a text is one expression over the columns of one table.

    Such a text keeps its meaning between brackets on lines of their own.

    Raises:
        QueryFailed: it is something else.
    """
    with duckdb.connect(":memory:") as connection:
        lock(connection, ())
        if len(_extract_statements(connection, f"select {text}")) != 1:
            raise QueryFailed("it is more than one expression")
        alone = _parse(connection, f"select {text}")
        try:
            within_brackets = _parse(connection, f"select (\n{text}\n)")
        except QueryFailed as error:
            raise QueryFailed("it is more than one expression") from error
    if _PLACE.sub("", alone) != _PLACE.sub("", within_brackets):
        raise QueryFailed("it is more than one expression")
    for kind in _CLASS.findall(alone):
        if kind in _NO_EXPRESSION:
            raise QueryFailed(_NO_EXPRESSION[kind])


def lock(connection: duckdb.DuckDBPyConnection, paths: Sequence[str]) -> None:
    """Restrict a connection to some files, irrevocably.

    Allowing a folder would not be enough: on S3, DuckDB accepts `FOLDER/../FILE` as being in it.
    """
    connection.execute("set allowed_paths = $1", [list(paths)])
    connection.execute(
        "set autoinstall_known_extensions = false; set autoload_known_extensions = false; "
        "set allow_community_extensions = false; set allow_persistent_secrets = false; "
        "set enable_external_access = false; set lock_configuration = true"
    )


def _extract_statements(connection: duckdb.DuckDBPyConnection, text: str) -> list[duckdb.Statement]:
    try:
        text.encode()
        return connection.extract_statements(text)
    except UnicodeEncodeError as error:
        raise QueryFailed("the text is not valid UTF-8") from error
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error


def _name_kind(statement: duckdb.Statement) -> str:
    try:
        return statement.type.name
    except ValueError:
        # DuckDB's Python package does not know some kinds, such as UPDATE EXTENSIONS.
        return "a statement of this kind"


def _parse(connection: duckdb.DuckDBPyConnection, text: str) -> str:
    """Return the parser's tree of SELECT statements, as JSON."""
    # DuckDB also extracts the error: Python's JSON fails for expressions of some hundred parts.
    question = "select tree, tree ->> 'error_message' from (select json_serialize_sql($1) as tree)"
    try:
        rows = connection.execute(question, [text]).fetchall()
    except duckdb.Error as error:
        raise QueryFailed(str(error)) from error
    ((tree, problem),) = rows
    if problem is not None:
        raise QueryFailed(problem)
    return tree

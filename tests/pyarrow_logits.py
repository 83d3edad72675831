"""Files of logits as pyarrow's own writer makes them, which those of the store are held against."""

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq

from logit_store.seal import DIGEST_KEY, UNSEALED, seal


def encode_logits(table: pa.Table, metadata: Mapping[str, str]) -> bytes:
    """Encode a table of row numbers and columns of float16, with one page per column.

    Args:
        table: row numbers, then columns of numbers.
        metadata: key-value pairs of the footer.
    """
    row, *others = table.column_names
    n, sink = table.num_rows, pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        table.schema,
        store_schema=False,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
        column_encoding={row: "DELTA_BINARY_PACKED", **dict.fromkeys(others, "PLAIN")},
        write_statistics=False,
        data_page_size=2**30,
        max_rows_per_page=n,
        write_batch_size=n,
    ) as writer:
        writer.write_table(table, row_group_size=n)
        writer.add_key_value_metadata({**metadata, DIGEST_KEY: UNSEALED})
    data = memoryview(sink.getvalue())
    return bytes(seal(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little")))

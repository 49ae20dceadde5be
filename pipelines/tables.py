"""Parquet files written and read a row group at a time: memory does not grow with the number of rows.

They are read with `use_threads=False`: with threads, pyarrow 26 may abort when Python ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import urls
from schemas.errors import DatasetError

DECISIONS, INDEX = "decisions.parquet", "index.parquet"
GROUP_ROWS = 5000
"""Rows of a row group: some 20 MB of Python objects while they wait."""


@contextmanager
def table_writer(url: str, schema: pa.Schema) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that adds a row to the file at `url`, which appears whole, when the block ends well."""
    with urls.open_whole(url) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as file:
        rows: list[Mapping[str, Any]] = []

        def flush() -> None:
            file.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

        def write(row: Mapping[str, Any]) -> None:
            rows.append(row)
            if len(rows) == GROUP_ROWS:
                flush()

        yield write
        if rows:
            flush()


@contextmanager
def open_table(url: str) -> Iterator[pq.ParquetFile]:
    """The Parquet file at `url`. Raises `DatasetError` where it is missing or damaged, then and while it is read."""
    try:
        with urls.open_read(url) as stream:
            yield pq.ParquetFile(stream)
    except FileNotFoundError:
        raise DatasetError("there is no such table", where=url, remedy="Run `vvt build` again") from None
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"the table cannot be read ({error})", where=url, remedy="Run `vvt build` again") from error


def read_rows(table: pq.ParquetFile, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Rows of `table`, without the other columns."""
    for batch in table.iter_batches(batch_size=GROUP_ROWS, columns=list(columns), use_threads=False):
        yield from batch.to_pylist()

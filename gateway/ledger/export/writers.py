"""Rows into CSV, JSON lines or Parquet, a few at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from types import ModuleType
from typing import IO, Any, Protocol

from gateway.ledger.export.columns import PLACES, Cell, Column, Kind, Row
from gateway.ledger.text import inert

ROWS_PER_GROUP = 100_000  # of a Parquet file: about 10 MB in memory


class NoParquet(Exception):
    """Its library is not installed."""


class Writer(Protocol):
    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None:
        """Writes what is left. The file stays open."""
        ...


class CsvWriter:
    """Text is UTF-8, and no formula; nothing stands for null; times are ISO 8601 in UTC."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._file = file
        self._kinds: list[Kind] = [column.kind for column in columns]
        self._write([[column.name for column in columns]])

    def write(self, rows: Sequence[Row]) -> None:
        kinds: list[Kind] = self._kinds
        self._write([_text(cell, kind) for cell, kind in zip(row, kinds, strict=True)] for row in rows)

    def close(self) -> None:
        pass

    def _write(self, rows: Iterable[Sequence[object]]) -> None:
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode())


class JsonWriter:
    """An object on each line. Amounts are strings, so that no reader rounds them."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        self._file = file
        self._columns = columns

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            cells = {column.name: _plain(cell, column.kind) for column, cell in zip(self._columns, row, strict=True)}
            self._file.write(json.dumps(cells, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        pass


class ParquetWriter:
    """Amounts are decimals, times are UTC timestamps in milliseconds."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column]) -> None:
        """Raises NoParquet."""
        arrow, parquet = _arrow()
        self._arrow: Any = arrow
        types: dict[Kind, Any] = {
            "text": self._arrow.string(),
            "count": self._arrow.int64(),
            "number": self._arrow.float64(),
            "flag": self._arrow.bool_(),
            "amount": self._arrow.decimal128(38, PLACES["amount"]),
            "ratio": self._arrow.decimal128(38, PLACES["ratio"]),
            "time": self._arrow.timestamp("ms", tz="UTC"),
        }
        self._kinds = [column.kind for column in columns]
        self._schema: Any = self._arrow.schema([(column.name, types[column.kind]) for column in columns])
        self._writer: Any = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        self._waiting.extend(rows)
        while len(self._waiting) >= ROWS_PER_GROUP:
            self._write(self._waiting[:ROWS_PER_GROUP])
            del self._waiting[:ROWS_PER_GROUP]

    def close(self) -> None:
        if self._waiting:
            self._write(self._waiting)
            self._waiting = []
        self._writer.close()

    def _write(self, rows: Sequence[Row]) -> None:
        columns = [
            [_milliseconds(cell) for cell in cells] if kind == "time" else cells
            for kind, cells in zip(self._kinds, zip(*rows, strict=True), strict=True)
        ]
        arrays = [self._arrow.array(cells, type=field.type) for cells, field in zip(columns, self._schema, strict=True)]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))


def _arrow() -> tuple[ModuleType, Any]:
    try:
        import pyarrow  # pyright: ignore[reportMissingTypeStubs]
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        raise NoParquet("Parquet needs pyarrow, which is not installed: pip install 'tollgate[export]'") from None
    return pyarrow, parquet


def _milliseconds(cell: Cell) -> int | None:
    return None if cell is None else round(float(cell) * 1000)


def _time(seconds: Cell) -> str:
    moment = datetime.fromtimestamp(float(seconds or 0), UTC)
    return (
        moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        if moment.microsecond == 0
        else (moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    )


def _text(cell: Cell, kind: Kind) -> str | int | float | Decimal | None:
    if cell is None:
        return None
    if kind == "time":
        return _time(cell)
    if kind == "flag":
        return "true" if cell else "false"
    if kind == "text":
        return inert(str(cell))
    return format(cell, "f") if isinstance(cell, Decimal) else cell


def _plain(cell: Cell, kind: Kind) -> str | int | float | bool | None:
    if cell is not None and kind == "time":
        return _time(cell)
    return format(cell, "f") if isinstance(cell, Decimal) else cell

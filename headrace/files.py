"""Reads a file of rows: CSV, NDJSON or Parquet, the first two also gzipped."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import polars as pl

from headrace.errors import WrongUse
from headrace.rows import Input, Options, messages
from schemas.pipeline import Pipeline

__all__ = ["Input", "Options", "digest", "messages", "read"]


def read(path: Path) -> pl.DataFrame:
    """The rows of a file, in its order.

    Columns of a CSV are texts: the pipeline knows their types, and guessing would turn the code `007` into a 7.

    Raises:
        WrongUse: There is no such file, it is of an unknown kind, is damaged, or holds no rows.
    """
    reader = _reader(path)
    try:
        frame = reader(path)
    except FileNotFoundError:
        raise WrongUse(f"{path}: there is no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise WrongUse(f"{path}: cannot be read: {error}") from error
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        kind = path.name.partition(".")[2]
        raise WrongUse(f"{path}: is not a readable {kind} file: {_first_line(error)}") from error
    if frame.is_empty():
        raise WrongUse(f"{path}: holds no rows")
    return frame


def digest(file: Path, spec: Pipeline, options: Options, partitions: int) -> str:
    """What stands for a stream: the same file, specification and options make the same one."""
    state = hashlib.sha256(file.read_bytes())
    state.update(repr((spec.digest, options, partitions)).encode())
    return state.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _reader(path: Path) -> Callable[[Path], pl.DataFrame]:
    name = path.name.lower().removesuffix(".gz")
    for endings, reader in _READERS.items():
        if name.endswith(endings):
            return reader
    known = ", ".join(ending for endings in _READERS for ending in endings)
    raise WrongUse(f"{path}: unknown kind of file; name one that ends in {known} (CSV and NDJSON also with .gz)")


def _bytes(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.name.lower().endswith(".gz") else content


def _csv(path: Path) -> pl.DataFrame:
    return pl.read_csv(_bytes(path), infer_schema=False)


def _ndjson(path: Path) -> pl.DataFrame:
    return pl.read_ndjson(_bytes(path), infer_schema_length=None)


def _parquet(path: Path) -> pl.DataFrame:
    return pl.read_parquet(_bytes(path))


_READERS: dict[tuple[str, ...], Callable[[Path], pl.DataFrame]] = {
    (".csv",): _csv,
    (".ndjson", ".jsonl"): _ndjson,
    (".parquet", ".pq"): _parquet,
}

"""Columns on disk for rows that wait long: files that are mapped into memory and are gone with the process."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa


class Shelf:
    """A directory for rows; the system reads them back page by page as they are used, and lets go of pages again.

    A file is deleted as soon as it is mapped, so nothing is left behind; what a crash did leave is removed first.

    Args:
        directory: Its own directory, made when it is needed.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._ready = directory, False

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The same rows, on disk.

        Raises:
            OSError: The disk is full.
        """
        if not self._ready:
            self._prepare()
        path = self._directory / "rows.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_batch(rows)
        mapped = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        path.unlink()
        return mapped

    def _prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "rows.arrow").unlink(missing_ok=True)
        self._ready = True

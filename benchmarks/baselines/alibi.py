"""alibi-detect's online MMD beside the others: a process in the environment that `make mmd` makes."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.drift_streams import BEFORE, changed, normal, shaped

Floats = npt.NDArray[np.float64]
ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv" / "alibi" / "bin" / "python"
REFERENCE, NULL_ROWS, BEHIND, STREAMS = 500, 10_000, 2_000, 5
"""Rows of the reference, without a change, behind a change; streams with one."""


def alibi(say: Callable[[str], None]) -> dict[str, float | None]:
    """False alarms, delay and speed; null where the environment is not there."""
    keys = "mmd_false_alarms_per_100k", "mmd_delay_half_sigma", "mmd_missed", "mmd_rows_per_core_second"
    if not PYTHON.exists():
        say("alibi-detect's online MMD is not compared: `make mmd` makes its environment (6 GB)")
        return dict.fromkeys(keys)
    say(f"alibi-detect's online MMD: {NULL_ROWS} rows and {STREAMS} changes")
    found = _run()
    delays = [np.inf if each is None else each for each in found["delays"]]
    missed = float(np.isinf(delays).sum())
    middle = float(np.median(delays))
    figures = found["alarms"] * 1e5 / NULL_ROWS, middle if np.isfinite(middle) else None, missed
    return dict(zip(keys, (*figures, found["rows_per_second"]), strict=True))


def _run() -> dict[str, Any]:
    random = np.random.default_rng(1_000)
    reference = shaped(normal(random, REFERENCE), random)
    centre, spread = np.nanmean(reference, 0), np.nanstd(reference, 0)

    def told(rows: Floats) -> Floats:
        return np.nan_to_num((rows - centre) / spread).astype(np.float32)  # type: ignore[no-any-return]

    streams = [changed("half_sigma", np.random.default_rng(2_000 + seed)) for seed in range(STREAMS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npz"
        np.savez(
            path,
            reference=told(reference),
            null=told(shaped(normal(random, NULL_ROWS), random)),
            changed=np.array([told(each[BEFORE : BEFORE + BEHIND]) for each in streams]),
        )
        command = [str(PYTHON), "-m", "benchmarks.baselines.mmd", str(path)]
        done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found

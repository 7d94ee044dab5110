"""alibi-detect's online MMD. Runs in an environment of its own (`make mmd`), fed with arrays in one file.

It draws its threshold from bootstraps, which have to be several times as many as the rows to a false alarm that it
shall allow: one in 1,000 rows is allowed here. One in 43,200 panes would take millions of them, and terabytes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from alibi_detect.cd import MMDDriftOnline

Floats = npt.NDArray[np.float32]

BETWEEN, BOOTSTRAPS, WINDOW = 1_000, 5_000, 50
"""Rows to a false alarm, bootstraps, rows of the test window."""


def main(path: str) -> None:
    """Print false alarms and speed in the rows `null`, and the delay in each of the streams `changed`."""
    given = np.load(path)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    np.random.seed(1)
    detector = MMDDriftOnline(
        given["reference"], BETWEEN, WINDOW, "pytorch", n_bootstraps=BOOTSTRAPS, device="cpu", verbose=False
    )
    begun = time.process_time()
    alarms = len(alarmed(detector, given["null"]))
    spent = time.process_time() - begun
    delays = [next(iter(alarmed(detector, rows)), None) for rows in given["changed"]]
    print(json.dumps({"alarms": alarms, "rows_per_second": len(given["null"]) / spent, "delays": delays}))


def alarmed(detector: Any, rows: Floats) -> list[int]:
    """How many rows it had seen at each alarm; it begins anew behind each."""
    detector.reset_state()
    found = []
    for seen, row in enumerate(rows, 1):
        if detector.predict(row)["data"]["is_drift"]:
            found.append(seen)
            detector.reset_state()
    return found


if __name__ == "__main__":
    main(sys.argv[1])

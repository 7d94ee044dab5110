"""`headrace demo` closes the loop on real processes and a real Kafka, and leaves nothing running."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_closes_the_loop_and_says_so_as_json(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from headrace.cli import main; main()", "demo", "--json"],
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    told = [json.loads(line) for line in ended.stdout.splitlines()]
    assert told[-1]["closed"] is True
    assert told[-1]["worst"] < told[-1]["before"] - 0.2
    assert told[-1]["after"] > told[-1]["before"] - 0.05
    commands = [" ".join(each.info["cmdline"] or []) for each in psutil.process_iter(["cmdline"])]
    assert not [each for each in commands if str(tmp_path) in each]
    assert sorted(path.stem for path in (tmp_path / ".headrace" / "demo" / "logs").iterdir()) == [
        "drift",
        "features",
        "ingestion",
        "serving",
        "training",
    ]

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.errors import WrongSetup
from runtime.service import Context
from services.training.__main__ import build
from services.training.settings import Settings
from tests.unit.services.training.loop import spec


def test_a_store_that_is_not_writable_shows_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "probe").write_text("in the way")
    settings = Settings(artefacts=f"file://{tmp_path}", allow_unsigned=True)
    with pytest.raises(WrongSetup, match=r"not writable.*HEADRACE_ARTEFACTS"):
        build(Context("training", settings, spec()), settings)

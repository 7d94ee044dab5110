from __future__ import annotations

import socket

import pytest

from runtime.errors import WrongSetup
from runtime.service import Context
from services.serving.__main__ import build
from services.serving.settings import Settings
from tests.unit.services.serving.loop import spec


def test_a_taken_port_shows_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(artefacts="memory://", allow_unsigned=True, http_port=taken.getsockname()[1])
        with pytest.raises(WrongSetup, match=r"cannot listen on.*HEADRACE_HTTP_PORT"):
            build(Context("serving", settings, spec()), settings)

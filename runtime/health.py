"""The small HTTP server of every service: /metrics for Prometheus, /live and /ready for whoever restarts it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from runtime.errors import WrongSetup

Check = Callable[[], dict[str, bool]]


class HealthServer:
    """Serves until the process ends.

    Args:
        port: TCP port, 0 for any free one.
        registry: What /metrics shows.
        live: Named checks of "must not be restarted"; all true is 200, else 503.
        ready: Named checks of "does its work".

    Raises:
        WrongSetup: The port is taken.
    """

    def __init__(self, port: int, registry: CollectorRegistry, live: Check, ready: Check) -> None:
        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
            "/live": lambda: _verdict(live()),
            "/ready": lambda: _verdict(ready()),
        }
        try:
            self._server = ThreadingHTTPServer(("0.0.0.0", port), _handler(pages))  # noqa: S104 - scraped from outside
        except OSError as error:
            raise WrongSetup(
                f"port {port} for /metrics is taken ({error.strerror}): set HEADRACE_METRICS_PORT to a free one, "
                "to 0 for any, or to -1 for none"
            ) from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _verdict(checks: dict[str, bool]) -> tuple[int, str, bytes]:
    return 200 if all(checks.values()) else 503, "application/json", json.dumps(checks).encode()


def _handler(pages: dict[str, Callable[[], tuple[int, str, bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = pages.get(self.path, lambda: (404, "text/plain", b"/metrics, /live or /ready\n"))()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Say nothing: a line per scrape helps nobody."""

    return Handler

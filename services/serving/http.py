"""POST /v1/predict: the pool in service, over HTTP, in a thread of its own beside the worker."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

from runtime.errors import WrongSetup
from runtime.metrics import Metrics
from schemas.answers import one_thread
from schemas.pipeline import Pipeline
from services.serving.domain.pool import ServedPool
from services.serving.domain.requests import Problem, Reader, Wrong, answers, told_by

log = logging.getLogger("headrace.http")

BODY_BYTES = 8 << 20
RETRY_SECONDS = 5
BACKLOG = 1024
PATH = "/v1/predict"

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MENDS = {
    404: f"POST to {PATH}",
    405: f"{PATH} takes POST only",
    413: f"send at most {BODY_BYTES} bytes per request",
}


class PredictServer:
    """Answers requests until `stop`. The port is taken when it is made, so a wrong one shows at the start.

    Args:
        spec: The pipeline.
        pool: Gives the pool in service; asked once per request.
        host: Address.
        port: Port, 0 for any.
        metrics: Where requests are counted.

    Raises:
        WrongSetup: The address cannot be had.
    """

    def __init__(
        self,
        spec: Pipeline,
        pool: Callable[[], ServedPool | None],
        host: str,
        port: int,
        metrics: Metrics | None = None,
    ) -> None:
        self._spec, self._pool, self._metrics = spec, pool, metrics or Metrics()
        self._reader = Reader(spec)
        self._socket = _listen(host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the requests under way, then end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        one_thread()
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self._application(), access_log=None)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.SockSite(runner, self._socket, backlog=BACKLOG).start())
        log.info("listening", extra={"port": self.port, "path": PATH})
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=BODY_BYTES, middlewares=[self._explained])
        application.router.add_post(PATH, self._predict)
        return application

    async def _predict(self, request: web.Request) -> web.StreamResponse:
        pool = self._pool()
        if pool is None:
            mend = "try again when training has announced a model; `headrace status` shows how many rows it has"
            problem = Problem("no_model", "there is no model yet", "$", mend)
            return self._reply(503, {"problems": [problem]}, {"Retry-After": str(RETRY_SECONDS)})
        asked = self._reader.read(await request.read())
        outputs = pool.outputs(asked.features)
        told = answers(asked.events, pool.answers(outputs), self._spec)
        if asked.outputs:
            told = [each | more for each, more in zip(told, told_by(pool.members, outputs), strict=True)]
        ruling = {"model": pool.announced.leader, "pool": pool.version, "weights": pool.number}
        return self._reply(200, {"predictions": told, **ruling})

    @web.middleware
    async def _explained(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        """Every refusal is JSON of the same form."""
        try:
            return await handler(request)
        except Wrong as wrong:
            return self._reply(wrong.status, {"problems": wrong.problems})
        except web.HTTPException as refusal:
            what = f"{request.method} {request.path}: {refusal.reason}"
            problem = Problem("http", what, request.path, _MENDS.get(refusal.status, "mend the request"))
            allow = {"Allow": refusal.headers["Allow"]} if "Allow" in refusal.headers else {}
            return self._reply(refusal.status, {"problems": [problem]}, allow)

    def _reply(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> web.Response:
        self._metrics.requests.labels(str(status)).inc()
        value = msgspec.json.encode(body)
        return web.Response(status=status, body=value, content_type="application/json", headers=headers)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        mend = "stop what listens there, or set HEADRACE_HTTP_PORT (0 for any, -1 for none) and HEADRACE_HTTP_HOST"
        raise WrongSetup(f"cannot listen on {host}:{port}: {error.strerror}; {mend}") from error

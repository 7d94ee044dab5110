"""Does the fit that another process ordered, and packs what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, process_time

import msgspec

from runtime.estimators import dumps
from services.training.domain.estimators import Refused
from services.training.domain.fitting import Fit
from services.training.domain.work import Numbers, Result, Work, unpacked


def answer(order: bytes, rows: bytes, peak: Callable[[], int]) -> bytes:
    """The packed result of a packed order; `peak` says how much memory it took, in bytes."""
    result = done(unpacked(order, rows))
    return msgspec.msgpack.encode(msgspec.structs.replace(result, peak_bytes=peak()))


def done(work: Work) -> Result:
    """What comes of a fit."""
    began, worked = monotonic(), process_time()
    try:
        made = work.do()
    except Refused as error:
        return Result(refused=str(error), seconds=monotonic() - began, cpu_seconds=process_time() - worked)
    return _result(made, monotonic() - began, process_time() - worked)


def _result(made: Fit, seconds: float, cpu_seconds: float) -> Result:
    return Result(
        estimator=dumps(made.estimator),
        encoding=made.encoding,
        verdict=made.verdict,
        outputs=Numbers.of(made.outputs),
        learnt=made.learnt,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )

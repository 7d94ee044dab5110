"""Fits in a process of their own: the same models, and whatever becomes of the process is a decision."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from runtime.clock import SystemClock
from runtime.metrics import Metrics
from schemas.answers import answer
from services.training.doing import done
from services.training.domain.estimators import Recipe, Refused
from services.training.domain.fitting import Fit, Rival
from services.training.domain.work import Work, packed, unpacked
from services.training.fits import Failed, InCaller, Pending
from services.training.outside import Limits, Outside
from tests.polling import eventually
from tests.unit.services.training.loop import labelled, spec

WAIT_SECONDS = 60.0
SLEEPER = "tests.unit.services.training.estimators:Sleeper"
GLUTTON = "tests.unit.services.training.estimators:Glutton"
DOOMED = "tests.unit.services.training.estimators:Doomed"


def work(estimator: str = "hist_gradient_boosting", rows: int = 400, **params: object) -> Work:
    types = spec().feature_types
    return Work(Recipe(estimator, params), labelled(0, rows), types, 7, "log_loss")


@contextmanager
def outside(seconds: float = WAIT_SECONDS, megabytes: int = 2048) -> Iterator[Outside]:
    fits = Outside(Limits(seconds, megabytes), Metrics(), SystemClock())
    try:
        yield fits
    finally:
        fits.drop()


def awaited(fits: Outside, asked: Work, key: str = "k") -> Fit:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return fits.fit(key, asked)
        except Pending:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def halves(rows: pa.RecordBatch) -> npt.NDArray[np.float64]:
    return 0.25 + 0.5 * (rows.column("z").to_numpy() > 0)  # type: ignore[no-any-return]


# --- the same fits ----------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["hist_gradient_boosting", "logistic_regression", "random_forest", "sgd"])
def test_a_fit_that_went_through_bytes_answers_the_same_to_the_last_bit(estimator: str) -> None:
    asked = work(estimator)
    order, rows = packed(asked)
    again = unpacked(order, bytes(rows))
    here, there = asked.do(), again.do()
    assert again.rows.equals(asked.rows)
    assert np.array_equal(here.outputs, there.outputs)
    assert (here.verdict, here.encoding) == (there.verdict, there.encoding)


@pytest.mark.parametrize("rival", [halves, "several", "alone"])
def test_against_what_a_fit_is_judged_goes_along(rival: Rival) -> None:
    asked = replace(work(), rival=rival)
    order, rows = packed(asked)
    again = unpacked(order, bytes(rows))
    assert callable(again.rival) == callable(rival)
    here, there = asked.do(), again.do()
    assert (there.verdict, there.learnt) == (here.verdict, here.learnt)


def test_a_process_makes_the_fit_of_the_caller() -> None:
    metrics = Metrics()
    here = InCaller(metrics).fit("k", work())
    with outside() as fits:
        there = awaited(fits, work())
        assert fits.fit("k", work()) is there
        assert there.held_out.equals(here.held_out)
        assert np.array_equal(there.outputs, here.outputs)
        inputs, target = here.encoding.matrix(here.held_out), spec().target
        assert np.array_equal(answer(there.estimator, inputs, target), answer(here.estimator, inputs, target))
        assert (there.verdict, there.encoding, there.learnt) == (here.verdict, here.encoding, True)
        assert there.spent["fit_seconds"] > 0
        assert there.spent["fit_megabytes"] > 10
    assert metrics.registry.get_sample_value("headrace_fit_seconds_sum")


def test_rows_that_an_estimator_does_not_take_are_refused_there_too() -> None:
    result = done(work("logistic_regression", C=-1.0))
    assert "C" in result.refused
    with outside() as fits, pytest.raises(Refused, match="'C'"):
        awaited(fits, work("logistic_regression", C=-1.0))


# --- fits that come to no end -----------------------------------------------------------------


def test_a_fit_that_takes_too_long_is_ended_and_says_so() -> None:
    with outside(seconds=0.5) as fits:
        fits.prepare()
        pid = fits.pid
        assert pid is not None
        with pytest.raises(Failed, match="ended after 0 s, all that HEADRACE_FIT_LIMIT_S allows") as failed:
            awaited(fits, work(SLEEPER))
        assert failed.value.figures["seconds"] >= 0.5
        assert not alive(pid)


def test_the_process_of_a_fit_makes_the_next_one_unless_it_has_ended() -> None:
    with outside() as fits:
        awaited(fits, work("logistic_regression"), "first")
        pid = fits.pid
        again = awaited(fits, work("logistic_regression"), "second")
        assert fits.pid == pid
        assert again.spent["fit_megabytes"] < 2048
        with pytest.raises(Failed):
            awaited(fits, work(DOOMED), "third")
        replaced = fits.pid
        with pytest.raises(Failed):
            fits.fit("third", work(DOOMED))
        assert replaced == fits.pid != pid


def test_a_fit_that_needs_too_much_memory_is_ended_and_the_next_one_is_made() -> None:
    with outside(megabytes=512) as fits:
        with pytest.raises(Failed, match="more than 512 MB, all that HEADRACE_FIT_MEMORY_MB allows"):
            awaited(fits, work(GLUTTON))
        assert awaited(fits, work("logistic_regression"), "next").verdict.accepted


def test_a_fit_whose_process_ends_or_is_killed_says_how() -> None:
    with outside() as fits:
        with pytest.raises(Failed, match="exit code 7"):
            awaited(fits, work(DOOMED))
        with pytest.raises(Pending):
            fits.fit("other", work(SLEEPER))
        assert fits.pid is not None
        os.kill(fits.pid, signal.SIGKILL)
        with pytest.raises(Failed, match="SIGKILL"):
            awaited(fits, work(SLEEPER), "other")
        with pytest.raises(Failed, match="SIGKILL"):
            fits.fit("other", work(SLEEPER))


def test_what_is_dropped_ends_at_once_and_another_fit_is_made() -> None:
    with outside() as fits:
        with pytest.raises(Pending):
            fits.fit("k", work(SLEEPER))
        pid = fits.pid
        assert pid is not None
        fits.drop()
        assert not alive(pid)
        assert awaited(fits, work("logistic_regression")).verdict.accepted


def test_no_process_outlives_its_parent(tmp_path: Path) -> None:
    code = (
        "import time; from tests.unit.services.training.test_outside import SLEEPER, Limits, Metrics, Outside, Pending,"
        " SystemClock, work\n"
        "fits = Outside(Limits(600, 2048), Metrics(), SystemClock())\n"
        "try: fits.fit('k', work(SLEEPER))\n"
        "except Pending: print(fits.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert eventually(lambda: not alive(pid), WAIT_SECONDS)

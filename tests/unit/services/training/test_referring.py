"""The reference of a fit: which rows stand in it, in which panes and strata."""

import numpy as np
import pyarrow as pa
import pytest

from runtime.bundle import SIGNATURE
from runtime.model import fetch
from runtime.references import fetch_reference
from runtime.store import NotStored, Store
from schemas import batch as b
from schemas.artefact import MANIFEST, Manifest
from schemas.bins import LABEL, LOSS, PREDICTION, Kind
from schemas.reference import HOUR, REFERENCE, Reference
from schemas.task import Target, log_losses
from services.training.domain.referring import Calendar, reference
from tests.unit.services.training.loop import FAR, STEP, Loop, labelled, spec

TARGET = Target("binary", ("bad", "good"))
TYPES = {"x": "number", "z": "number", "colour": "category"}
PANE = 10 * STEP


def rows(count: int, delay: int = 0, step: int = STEP) -> pa.RecordBatch:
    """Rows whose labels come so many milliseconds later than they, step by step."""
    made = labelled(0, count)
    times = np.arange(count) * step
    for name, values in ((b.TIME, times), (b.LABEL_TIME, times + delay)):
        at = made.schema.get_field_index(name)
        made = made.set_column(at, name, pa.array(values, pa.timestamp("ms", "UTC")))
    return made


def of(count: int = 1_000, delay: int = 0, calendar: Calendar | None = None, step: int = STEP) -> Reference:
    dataset = rows(count, delay, step)
    older, held_out = dataset.slice(0, count * 4 // 5), dataset.slice(count * 4 // 5)
    outputs = np.random.default_rng(1).random(held_out.num_rows)
    calendar = calendar or Calendar(PANE)
    return reference(older, held_out, outputs, TYPES, TARGET, calendar)  # type: ignore[arg-type]


def part(of: Reference, name: str, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    """Counts and panes of one stream."""
    where = of.bins.part(name, kind)
    return of.counts[:, where], of.panes[:, where]


# The older half of the rows of the fit makes the axes and has no scores.
STREAMS: list[tuple[str, Kind, int]] = [
    ("x", "numeric", 800),
    ("z", "magnitude", 800),
    ("1", "score", 400),
    ("colour", "category", 800),
    (PREDICTION, "numeric", 200),
    (LABEL, "classes", 1_000),
    (LOSS, "loss", 200),
]


@pytest.mark.parametrize(("name", "kind", "expected"), STREAMS)
def test_features_are_of_fitted_rows_predictions_and_losses_of_held_out_ones_classes_of_all(
    name: str, kind: Kind, expected: int
) -> None:
    counts, panes = part(of(), name, kind)
    assert counts.sum() == panes.sum() == expected
    assert sorted(set(panes.sum(axis=1).tolist())) == [0, 10]


def test_losses_and_classes_stand_in_panes_of_label_time() -> None:
    """Labels come five rows late: the first pane of labels holds five of them, that of events ten."""
    found = of(delay=5 * STEP)
    for name, kind, expected in (
        (LABEL, "classes", 5),
        (LOSS, "loss", 5),
        (PREDICTION, "numeric", 10),
        ("x", "numeric", 10),
    ):
        _, panes = part(found, name, kind)  # type: ignore[arg-type]
        rows = panes.sum(axis=1)
        assert rows[rows > 0][0] == expected


def test_the_edges_of_losses_are_those_of_the_held_out_ones() -> None:
    found = of()
    outputs = np.random.default_rng(1).random(200)
    losses = log_losses(outputs, labelled(0, 1_000).column(b.LABEL).to_numpy()[800:] == 1)
    counted = found.bins.count({LOSS: losses}, np.zeros(200, np.int64), 1)[0, found.bins.part(LOSS, "loss")]
    assert part(found, LOSS, "loss")[0][0].tolist() == counted.tolist()
    assert set(counted[:16].tolist()) <= {12, 13}


def test_the_same_rows_give_the_same_bytes_which_read_back() -> None:
    one = of().to_bytes()
    assert one == of().to_bytes()
    assert Reference.from_bytes(one).to_bytes() == one


def test_strata_are_those_of_the_panes_and_visits_those_of_time() -> None:
    """Rows every ten minutes for 38 hours and 20 minutes: the hours up to 14 o'clock are come into twice."""
    calendar = Calendar(HOUR // 6, ("hour_of_day",))
    found = of(288, calendar=calendar, step=HOUR // 6)
    older = 230
    assert found.visits.tolist() == [2] * 15 + [1] * 9
    counts, panes = part(found, "x", "numeric")
    assert counts.sum(axis=1).tolist() == [12] * 14 + [8] + [6] * 9
    rows = panes.sum(axis=1) > 0
    assert found.strata[rows].tolist() == [index // 6 % 24 for index in range(older)]


def test_panes_of_a_sparse_stream_are_those_that_hold_rows_and_the_newest() -> None:
    """One row a day in panes of a minute: a thousand panes among millions, and no more memory than for those."""
    found = of(20_000, calendar=Calendar(60_000), step=24 * HOUR)
    counts, panes = part(found, "x", "numeric")
    assert counts.sum() == 16_000
    assert len(found.panes) <= 2_048
    assert panes.sum() == 1_024 == (panes.sum(axis=1) > 0).sum()
    assert part(found, "1", "score")[1].sum() == 1_024  # all of them among the newer half of the rows


def test_an_all_null_and_a_constant_feature_are_no_obstacle() -> None:
    dataset = rows(500)
    dataset = dataset.set_column(dataset.schema.get_field_index("x"), "x", pa.nulls(500, pa.float64()))
    dataset = dataset.set_column(dataset.schema.get_field_index("z"), "z", pa.array(np.ones(500)))
    outputs = np.full(100, 0.5)
    found = reference(dataset.slice(0, 400), dataset.slice(400), outputs, TYPES, TARGET, Calendar(PANE))  # type: ignore[arg-type]
    assert part(found, "x", "numeric")[0][0, -1] == part(found, "z", "numeric")[0].sum() == 400


def test_a_fit_stores_its_reference_and_lists_it_in_the_manifest() -> None:
    loop = Loop()
    loop.examples(labelled(0, 400))
    loop.passes(FAR)
    loop.start()
    loop.run()
    (member,) = loop.members()
    manifest = Manifest.model_validate_json(loop.store.get(f"{member.uri}/{MANIFEST}"))
    assert list(manifest.files) == ["model.skops", "warmup.arrow", REFERENCE]
    found = fetch_reference(loop.store, member)
    assert found is not None
    fitted = manifest.dataset.rows - manifest.dataset.held_out
    assert found.counts[:, found.bins.part("x", "numeric")].sum() == fitted
    assert found.counts[:, found.bins.part(LABEL, "classes")].sum() == manifest.dataset.rows
    assert [each.values for each in found.bins.streams if each.name == LABEL] == [("false", "true")]
    assert fetch(loop.store, member, spec().feature_types).version == 1


def test_a_model_answers_without_its_reference() -> None:
    """What serving needs are the model and its warm-up rows; artefacts of earlier versions have no more."""
    loop, store = Loop(), Store("memory://")
    loop.examples(labelled(0, 400))
    loop.passes(FAR)
    loop.start()
    loop.run()
    (member,) = loop.members()
    for name in (MANIFEST, SIGNATURE, "model.skops", "warmup.arrow"):
        store.put(f"{member.uri}/{name}", loop.store.get(f"{member.uri}/{name}"))
    assert fetch(store, member, spec().feature_types).version == 1
    with pytest.raises(NotStored, match=REFERENCE):
        fetch_reference(store, member)

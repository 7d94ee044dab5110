"""Real rows in random order: whatever their shapes, ties and dependence, nothing has changed, so nothing is said."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from schemas.bins_learning import learn
from schemas.reference import Reference
from schemas.spec import FeatureType
from services.drift.domain.monitor import Monitor
from tests.unit.services.drift.watched import PANE, A, first_alarm

DATA = Path(__file__).parents[5] / "shared" / "data"
CLASSES = ("class", "batch", "date")
REFERENCE, MOST = 5_000, 30_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["elec2", "gas_sensor", "powersupply"])
def test_shuffled_rows_raise_no_alarm(name: str) -> None:
    path = DATA / f"{name}.csv.gz"
    if not path.exists():
        pytest.skip(f"the {name} stream is not in ../shared/data")
    table = csv.read_csv(path, parse_options=csv.ParseOptions(invalid_row_handler=lambda _: "skip"))
    order = np.random.default_rng(1).permutation(table.num_rows)[:MOST]
    rows = table.drop_columns([each for each in CLASSES if each in table.column_names]).take(pa.array(order))
    columns = {column: rows.column(column).combine_chunks() for column in rows.column_names}
    types: dict[str, FeatureType] = {
        column: "category" if pa.types.is_string(values.type) else "number" for column, values in columns.items()
    }
    size = REFERENCE // PANE
    bins = learn(pa.record_batch({name: values[:REFERENCE] for name, values in columns.items()}), types)
    known = {name: values[:REFERENCE] for name, values in columns.items()}
    world = Reference.of(bins, bins.count(known, np.arange(REFERENCE) // PANE, size, learnt=True))
    panes = (len(order) - REFERENCE) // PANE
    fresh = {name: values[REFERENCE : REFERENCE + panes * PANE] for name, values in columns.items()}
    counts = bins.count(fresh, np.arange(panes * PANE) // PANE, panes)
    assert first_alarm(Monitor(world, "features", A), counts) is None

"""Builders: scored rows with what serving says of them, members with references, and what was counted of the rows."""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from runtime.bundle import SIGNATURE, sign_files
from runtime.ports import Place
from runtime.signing import keys_in_memory, signed
from schemas import batch as b
from schemas import cloudevents
from schemas.artefact import MANIFEST, Dataset, File, Manifest, sha256
from schemas.bins import Bins
from schemas.bins_learning import learn
from schemas.messages import Cause, Member
from schemas.reference import REFERENCE, Reference
from services.drift.domain.door import FATES
from services.drift.domain.pane_counts import PaneCounts
from services.drift.domain.sums import Sums
from tests.unit.services.drift.stream import Drift

TYPES = {"x": "number", "colour": "category"}


@dataclass(frozen=True)
class Score:
    """A scored row; members are those of its pool, with None for no pool."""

    position: int
    time: int
    x: float | None = 0.0
    source: int = 0
    members: tuple[int, ...] | None = (1,)
    id: str = ""
    colour: str | None = "red"


def scores(rows: Sequence[Score]) -> pa.RecordBatch:
    """The batch that serving would write."""
    members = [None if row.members is None else list(row.members) for row in rows]
    outputs = [None if each is None else [0.1 * member for member in each] for each in members]
    return pa.RecordBatch.from_pydict(
        {
            b.SOURCE: pa.array([row.source for row in rows], pa.int16()),
            b.POSITION: pa.array([row.position for row in rows], pa.int64()),
            b.ROW: pa.array([0 for _ in rows], pa.int32()),
            b.EVENT_ID: pa.array([row.id or f"e{row.source}-{row.position}" for row in rows], pa.string()),
            b.TIME: pa.array([row.time for row in rows], pa.timestamp("ms", "UTC")),
            "x": pa.array([row.x for row in rows], pa.float64()),
            "colour": pa.array([row.colour for row in rows], pa.string()),
            b.MEMBERS: pa.array(members, pa.list_(pa.int32())),
            b.OUTPUTS: pa.array(outputs, pa.list_(pa.float64())),
        }
    )


def reached(
    watermark: int | None,
    *,
    rejects: Mapping[int, list[b.Reject]] | None = None,
    sources: Sequence[int] = (0,),
    highest: int | None = None,
    **fields: object,
) -> b.Headers:
    """Headers of a message of scored rows whose sources have reached a time."""
    marks = {} if watermark is None else {b.EVENTS: dict.fromkeys(sources, (watermark, False))}
    top = {} if highest is None else {b.EVENTS: highest}
    through = b.Through(watermarks=marks, highest=top)
    return b.Headers(through=through, rejects=dict(rejects or {}), **fields)  # type: ignore[arg-type]


def say(drift: Drift, partition: int, rows: Sequence[Score], headers: b.Headers) -> None:
    """Write a message of scored rows."""
    drift.broker.append(Place("scored", partition), b.encode(scores(rows)), headers=b.encode_headers(headers))


@cache
def reference(shift: float = 0.0) -> Reference:
    """A reference of 2,000 rows around a place."""
    random = np.random.default_rng(3)
    values, colours = random.normal(shift, 1, 2_000), random.choice(["red", "blue"], 2_000)
    rows = pa.RecordBatch.from_pydict({"x": values, "colour": colours})
    bins = learn(rows, TYPES, random.random(2_000))  # type: ignore[arg-type]
    panes = bins.count({"x": values, "colour": pa.array(colours)}, np.arange(2_000) // 100, 20)
    return Reference.of(bins, panes)


def bins_of(member: int) -> Bins:
    """The bins of a member of these tests: each member has its own."""
    return reference(float(member)).bins


def members(version: int, files: Mapping[str, bytes] | None = None) -> tuple[Member, dict[str, bytes]]:
    """A member and the files of its artefact: by default a reference and the manifest."""
    files = {REFERENCE: reference(float(version)).to_bytes()} if files is None else files
    manifest = _manifest(version, files).model_dump_json().encode()
    member = Member.written(
        model="shop", version=version, uri=f"models/shop/{version}", sha256="0" * 64, manifest_sha256=sha256(manifest),
        digest="0" * 64, pipeline_digest="p", features=("x", "colour"), trained_through={}, rows=1,
        metrics={}, cause=Cause(kind="first", id="c"), epoch=1,
    )  # fmt: skip
    digests = {name: sha256(value) for name, value in {**files, MANIFEST: manifest}.items()}
    signature = sign_files(keys_in_memory(), str(version), digests)
    assert signature is not None
    return member, {**files, MANIFEST: manifest, SIGNATURE: signature}


def announce(
    drift: Drift,
    *versions: int,
    without: Sequence[int] = (),
    stored: bool = True,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Store the references of members, but for those that are to have none, and announce them."""
    for version in versions:
        member, made = members(version, {} if version in without else files)
        for name, value in made.items() if stored else ():
            drift.store.put(f"{member.uri}/{name}", value)
        value, headers = cloudevents.encode(
            signed(keys_in_memory(), member), id=member.key, source="/headrace/shop/training"
        )
        drift.broker.append(Place("models", 0), value, member.key.encode(), headers)


def _manifest(version: int, files: Mapping[str, bytes]) -> Manifest:
    return Manifest(
        model="shop", version=version, pipeline_digest="p", features=TYPES, vocabulary={}, fill={},
        classes=(False, True), estimator="logistic_regression", params={},
        dataset=Dataset(positions={}, rows=1, held_out=0, label_cutoff=0, digest="0" * 64), seed=0, metrics={},
        libraries={}, files={name: File(sha256=sha256(value), size=len(value)) for name, value in files.items()},
        digest="0" * 64, cause=Cause(kind="first", id="c"),
    )  # fmt: skip


def counted(drift: Drift) -> list[PaneCounts]:
    """What all partitions counted of scored rows, added up."""
    sums = Sums(drift.partitions, lambda member: bins_of(member).cells)
    for partition in range(drift.partitions):
        for offset, (headers, rows) in enumerate(drift.counted(partition)):
            if "scored" in headers.coverage and headers.panes is not None:
                assert sums.lanes[partition].follows(headers.panes[0])
                sums.lanes[partition].add(offset, rows, headers, headers.panes)
    return sums.settle()


def told(found: Sequence[PaneCounts]) -> list[object]:
    """Counts as values that can be compared."""
    return [(each.pane, each.anchor, each.sources, each.counts.tolist(), each.quality.tolist()) for each in found]


def fates(found: Sequence[PaneCounts]) -> dict[int, dict[int, dict[str, int]]]:
    """Per pane and source what became of the rows, zeros left out."""
    return {
        each.pane: {
            source: {fate: count for fate, count in zip(FATES, row, strict=True) if count}
            for source, row in zip(each.sources, each.quality.tolist(), strict=True)
        }
        for each in found
    }


def repeats(drift: Drift, partition: int = 0) -> Tally[tuple[int, int, int]]:
    """How often each (pane, member, source) was said."""
    rows = [row for _, rows in drift.counted(partition) for row in rows.to_pylist()]
    return Tally((row["pane"], row["member"], row["source"]) for row in rows)

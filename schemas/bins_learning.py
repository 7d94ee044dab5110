"""Bins from reference rows: edges at order statistics, the frequent categories, the principal components.

Order statistics make the law of the counts free of the feature's distribution: whatever it is, the chances of the
sixteen bins are Dirichlet distributed with the reference counts, as long as the values are continuous.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas import bins_codes as codes
from schemas.bins import LABEL, LOSS, PREDICTION, QUALITY, Axes, Bins, Family, Kind, Stream, fitted
from schemas.spec import FeatureType

Floats = npt.NDArray[np.float64]

FREQUENT = 5
"""Rows that a category needs for a bin of its own."""
MOST_KNOWN, MOST_TEXT = 4_096, 16_384
"""Categories, and characters of those without a bin of their own, that are remembered per feature."""

MOST_SCORES = 20
NORMAL_SCALE, LOADING_SCALE = 32, 2_048
FLAT = 1e-6
"""Share of the greatest variance below which a component is a constant."""


def learn(
    features: pa.RecordBatch,
    types: Mapping[str, FeatureType],
    predictions: Floats | Sequence[str] | None = None,
    losses: Floats | None = None,
    labels: Floats | Sequence[str] = (),
    quality: Sequence[str] = (),
) -> Bins:
    """The bins of everything that is watched.

    Args:
        features: Reference rows, with a column for each feature.
        types: Type of each feature.
        predictions: Outputs for rows that the model was not fitted on, or the names of the classes that it tells apart;
            without them none are watched.
        losses: Its losses on such rows; likewise.
        labels: Values, or the names of the classes; none where no label is watched.
        quality: What may become of a row at the door, the good end first; none where that is not watched.
    """
    numeric = [name for name, kind in types.items() if kind == "number"]
    matrix = np.array([codes.numbers(features.column(name)) for name in numeric])
    streams = [_ranked(name, "features", "numeric", row) for name, row in zip(numeric, matrix, strict=True)]
    axes, scores = components(streams, matrix)
    streams += [_magnitude(name, row) for name, row in zip(numeric, matrix, strict=True)]
    streams += scores
    streams += [_category(name, features.column(name)) for name, kind in types.items() if kind == "category"]
    if predictions is not None:
        streams.append(_role(PREDICTION, "prediction", predictions))
    if len(labels):
        streams.append(_role(LABEL, "label", labels))
    if losses is not None:
        streams.append(_ranked(LOSS, "concept", "loss", losses))
    if quality:
        streams.append(Stream(QUALITY, "quality", "classes", values=tuple(quality)))
    return Bins(tuple(streams), axes)


def edges(values: Floats) -> tuple[float, ...]:
    """At most fifteen edges at the order statistics of what is not missing.

    A value that takes up two of them or more gets a bin of its own: between the next smaller number and itself.
    """
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return ()
    places = np.ceil(np.arange(1, codes.RANKS - 1) * len(known) / (codes.RANKS - 1)).astype(int) - 1
    chosen = known[np.maximum(places, 0)]
    repeated = np.concatenate(([False], chosen[1:] == chosen[:-1]))
    with np.errstate(over="ignore"):  # below the least number is infinity, which is left out
        found = np.unique(np.where(repeated, np.nextafter(chosen, -np.inf), chosen))
    return tuple(found[np.isfinite(found)].tolist())


def _role(name: str, family: Family, values: Floats | Sequence[str]) -> Stream:
    """Of values or of the names of classes."""
    if isinstance(values, np.ndarray):
        return _ranked(name, family, "numeric", values)
    return Stream(name, family, "classes", values=tuple(values))


def _ranked(name: str, family: Family, kind: Kind, values: Floats) -> Stream:
    return Stream(name, family, kind, edges=edges(values))


def _magnitude(name: str, values: Floats) -> Stream:
    """The middle of the reference's powers of two is in the middle of the bins: 2^16 times more or less is seen."""
    known = values[np.isfinite(values) & (values != 0)]
    middle = int(np.median(np.frexp(known)[1])) - 1 if len(known) else 0
    return Stream(name, "features", "magnitude", lowest=middle - codes.OCTAVES // 2)


def _category(name: str, column: pa.Array) -> Stream:
    texts = column if column.type == pa.string() else column.cast(pa.string())
    counted = pc.value_counts(texts.drop_null()).to_pylist()
    ranked = sorted(((each["values"], each["counts"]) for each in counted), key=lambda each: (-each[1], each[0]))
    leading = sum(count >= FREQUENT for _, count in ranked[: codes.LEADING])
    sizes = np.cumsum([len(text) for text, _ in ranked[leading:]])
    kept = ranked[: min(leading + int(np.searchsorted(sizes, MOST_TEXT, "right")), MOST_KNOWN)]
    closed = len(kept) == len(ranked)
    once = sum(count == 1 for _, count in kept) if closed else 0
    values = tuple(text for text, _ in kept)
    return Stream(name, "features", "category", values=values, leading=leading, once=once, closed=closed)


def components(streams: Sequence[Stream], matrix: Floats) -> tuple[Axes | None, list[Stream]]:
    """The axes of the leading principal components of the ranked features' normal scores, and their streams.

    The older half of the rows makes the axes, the newer half the bins: along axes that were fitted to them, rows vary
    otherwise than those to come, the more so the more features there are.
    """
    if len(streams) < 2 or matrix.shape[1] < 2:  # noqa: PLR2004 - one feature depends on nothing
        return None, []
    ranks = codes.ranks(matrix, codes.padded([each.edges for each in streams]))
    normal = np.array([_normal_scores(row) for row in ranks])
    values = np.take_along_axis(normal, ranks.astype(np.intp), axis=1).astype(np.float32)
    older = fitted(values.shape[1])
    loadings = _loadings(values[:, older])
    if not len(loadings):
        return None, []
    scores = (loadings.astype(np.float32) @ values[:, ~older]).astype(np.float64)
    axes = Axes(tuple(each.name for each in streams), normal, loadings)
    return axes, [_ranked(str(index + 1), "features", "score", row) for index, row in enumerate(scores)]


def _normal_scores(ranks: codes.Codes) -> npt.NDArray[np.int8]:
    """Of each bin the normal quantile of the middle of its ranks, in 32nds; 0 for missing."""
    counts = np.bincount(ranks, minlength=codes.RANKS)[:-1]
    middle = (np.cumsum(counts) - counts / 2) / max(1, counts.sum())
    smallest = 0.5 / max(1, counts.sum())
    quantile = NormalDist().inv_cdf
    scores = np.array([quantile(each) for each in np.clip(middle, smallest, 1 - smallest).tolist()])
    return np.append(np.rint(np.clip(scores * NORMAL_SCALE, -127, 127)), 0).astype(np.int8)


def _loadings(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    exact = values.astype(np.float64)
    exact -= exact.mean(axis=1, keepdims=True)
    variances, vectors = np.linalg.eigh(exact @ exact.T)
    leading = np.argsort(-variances, kind="stable")[:MOST_SCORES]
    leading = leading[variances[leading] > FLAT * max(variances.max(), 1.0)]
    chosen = vectors[:, leading].T
    # A direction and its opposite are the same; which of them is found is up to the linear algebra library.
    signs = np.sign(np.take_along_axis(chosen, np.abs(chosen).argmax(axis=1, keepdims=True), axis=1))
    loadings: npt.NDArray[np.int16] = np.rint(chosen * signs * LOADING_SCALE).astype(np.int16)
    return loadings

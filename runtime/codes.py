"""Categories of boosted trees as they answer: codes come in, and scikit-learn looks for text and frames.

Its way through several transformers takes longer for a hundred rows than the trees do. The same is one search per
category here. Only what answers is made so, nothing that is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

from runtime.packing import replaced
from runtime.trees import BOOSTED
from schemas.encoding import Matrix


@dataclass(frozen=True, slots=True)
class Codes:
    """Stands for the transformers of a fitted boosted model.

    Attributes:
        order: The columns of the matrix as the trees count them: categories come first.
        known: What each category is in the fit's rows, ascending; the index is its code for the trees.
    """

    order: npt.NDArray[np.intp]
    known: tuple[Matrix, ...]

    def transform(self, matrix: Matrix) -> Matrix:
        """The matrix for the trees; a category that is missing or was not in the fit's rows is NaN.

        Raises:
            ValueError: The matrix has other columns than that of the fit.
        """
        if matrix.shape[1:] != self.order.shape:
            raise ValueError(f"rows have {matrix.shape[1]} features, the model was fitted on {len(self.order)}")
        found = np.take(matrix, self.order, axis=1)
        for place, known in enumerate(self.known):
            found[:, place] = _codes(found[:, place], known)
        return found


def _codes(values: Matrix, known: Matrix) -> Matrix:
    if not len(known):
        return np.full(len(values), np.nan)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[places] == values, places, np.nan)


def check(model: Any) -> None:
    """Look at what stands before the trees of a boosted model: compiled code counts on the columns that come out of it.

    Raises:
        ValueError: It is neither nothing nor what scikit-learn makes of categories.
    """
    columns = vars(model).get("_preprocessor")
    known = type(columns) is ColumnTransformer and _codes_of(columns, model.n_features_in_) is not None
    if columns is not None and not known:
        raise ValueError("before the trees of a boosted model stands something else than its categories' codes")


def coded(model: Any) -> Any:
    """The model with `Codes` in place of its transformers; what is made otherwise is given back as it is."""
    columns = vars(model).get("_preprocessor") if type(model) in BOOSTED else None
    if type(columns) is not ColumnTransformer:
        return model
    try:
        codes = _codes_of(columns, model.n_features_in_)
    except (AttributeError, LookupError, TypeError, ValueError):  # of another version of scikit-learn
        return model
    return model if codes is None else replaced(model, _preprocessor=codes)


def _codes_of(columns: Any, width: int) -> Codes | None:
    (first, encoder, chosen), (second, others, rest), *remaining = columns.transformers_
    categories, numbers = np.flatnonzero(chosen), np.flatnonzero(rest)
    order = np.concatenate((categories, numbers))
    places = {first: slice(0, len(categories))} | ({second: slice(len(categories), width)} if len(numbers) else {})
    known = tuple(_without_nan(np.asarray(each)) for each in encoder.categories_)
    expected = (
        (first, second) == ("encoder", "numerical")
        and (type(encoder), type(others)) == (OrdinalEncoder, FunctionTransformer)
        and {name: columns.output_indices_[name] for name in places} == places
        and not any(np.any(selected) for _, _, selected in remaining)
        and np.array_equal(np.sort(order), np.arange(width))
        and _looks_up(encoder)
        and len(known) == len(categories)
        and all(each.dtype == np.float64 and np.all(np.diff(each) > 0) for each in known)
    )
    return Codes(order, known) if expected else None


def _looks_up(encoder: OrdinalEncoder) -> bool:
    """Whether it does nothing but that, and what it does not find is missing."""
    whole = (encoder.handle_unknown, encoder.min_frequency, encoder.max_categories) == ("use_encoded_value", None, None)
    return whole and bool(np.isnan(encoder.unknown_value) and np.isnan(encoder.encoded_missing_value))


def _without_nan(known: Matrix) -> Matrix:
    return known[:-1] if len(known) and np.isnan(known[-1]) else known

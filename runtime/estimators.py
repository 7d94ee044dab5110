"""Estimators as skops: nothing outside of a constant list of types is ever constructed, whatever a file asks for."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence

import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from runtime import codes, trees
from runtime.packing import packed, unpacked
from schemas.answers import Estimator

TRUSTED = (
    "functools.partial",
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)
"""What skops does not trust by itself and the estimators of the list need. Never what a file says that it needs. Trees,
which are indices, are looked at before they answer (`runtime.trees`).
"""

UNLOADABLE = (
    UntrustedTypesFoundException,
    zipfile.BadZipFile,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ImportError,
    NotImplementedError,
    EOFError,
    RecursionError,
    ArithmeticError,
    MemoryError,
)
"""What a file may raise that is none."""


def dumps(estimator: Estimator) -> bytes:
    """An estimator as it is stored; boosted trees are packed."""
    return skops.io.dumps(packed(estimator))  # type: ignore[no-any-return]


def loads(stored: bytes, trusted: Sequence[str] = ()) -> Estimator:
    """The estimator in a model's file, without anything that tells whether it answers as it should.

    Args:
        stored: The file.
        trusted: Types that it may hold besides those of the list.

    Raises:
        Exception: One of `UNLOADABLE`, before compiled code follows anything that the file says.
    """
    estimator = skops.io.loads(stored, trusted=[*TRUSTED, *trusted])
    trees.check(estimator)
    for each in trees.boosted(estimator):
        codes.check(each)
    return unpacked(estimator)  # type: ignore[no-any-return]

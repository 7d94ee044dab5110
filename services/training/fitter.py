"""Fits, and the artefacts that they become: what happens between a dataset and an announcement."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import get_args

import pyarrow as pa

from runtime.announced import Announced
from runtime.artefact import ModelRefused
from runtime.errors import WrongSetup
from runtime.model import Model, fetch, libraries, save, storable
from runtime.references import fetch_reference
from runtime.store import Store
from schemas.messages import Member
from schemas.pipeline import Pipeline
from schemas.reference import REFERENCE, Season
from services.training.domain.announcements import Candidate, directory, manifest_of, member_of
from services.training.domain.estimators import NotInstalled, Recipe, Refused
from services.training.domain.fitting import Fit, Rival, parts, seed_of
from services.training.domain.referring import Calendar, reference
from services.training.domain.work import Work
from services.training.fits import Fits

log = logging.getLogger("headrace.training")


class Fitter:
    """Fits one pipeline's models and stores them.

    Args:
        spec: The pipeline.
        store: Where artefacts go.
        fits: Makes them.
        trusted: Types that a model may hold besides those of the list.

    Raises:
        WrongSetup: The estimator cannot be imported, does not take the parameters, or could not be loaded again.
    """

    def __init__(self, spec: Pipeline, store: Store, fits: Fits, trusted: Sequence[str] = ()) -> None:
        self._spec, self._store, self._fits, self._trusted = spec, store, fits, tuple(trusted)
        self._recipe = _recipe(spec, self._trusted)
        self._ruling: Model | None = None

    def fit(self, cause: str, rows: pa.RecordBatch, at: int, version: int, announced: Announced) -> Fit:
        """A checked fit; kept, so that a store that is away does not make it again at every attempt.

        Raises:
            Pending: It is under way; ask again.
            Failed: It came to no end.
            Refused: The estimator does not take the rows.
            Transient: The store is away.
        """
        rival, seed = self._rival(announced), seed_of(self._spec.pipeline, version)
        work = Work(self._recipe, rows, self._spec.feature_types, seed, self._spec.metric, rival)
        return self._fits.fit((cause, at, version), work)

    def store(self, candidate: Candidate, epoch: int) -> Member:
        """Store, then read back as serving will: what is announced is known to load and to answer the same.

        Raises:
            Transient: The store is away.
            ModelRefused: The store does not give back what it took.
        """
        manifest = manifest_of(self._spec, candidate, libraries())
        fit, files = candidate.fit, {REFERENCE: self._reference(candidate)}
        stored = save(self._store, directory(manifest), fit.estimator, fit.warm_up, manifest, files)
        member = member_of(stored, epoch)
        fetch(self._store, member, self._spec.feature_types, self._trusted)
        fetch_reference(self._store, member)
        return member

    def _reference(self, candidate: Candidate) -> bytes:
        """What the fit's world looked like."""
        older, held_out = parts(candidate.taken.rows)
        types, drift = self._spec.feature_types, self._spec.drift
        calendar = Calendar(drift.pane, tuple(each for each in get_args(Season) if each in drift.seasonality))
        return reference(older, held_out, candidate.fit.outputs, types, self._spec.target, calendar).to_bytes()

    def _rival(self, announced: Announced) -> Rival:
        """Against what a fit is judged: of several members labels decide, whoever leads them."""
        if self._spec.strategy.members > 1:
            return None if announced.pool is None else "several"
        leader = None if announced.pool is None else announced.members.get(announced.pool.leader)
        ruling = None if leader is None else self._in_service(leader)
        return "alone" if ruling is None else ruling.score

    def _in_service(self, member: Member) -> Model | None:
        """The model of the leader; None where its artefact is unusable (serving has refused it then)."""
        if self._ruling is None or self._ruling.version != member.version:
            try:
                self._ruling = fetch(self._store, member, self._spec.feature_types, self._trusted)
            except ModelRefused as error:
                log.warning("ruling_model_unusable", extra={"error": str(error)})
                return None
        return self._ruling


def _recipe(spec: Pipeline, trusted: Sequence[str]) -> Recipe:
    recipe = Recipe(spec.model.estimator, spec.model.params, spec.target)
    try:
        storable(recipe.check(), trusted)
    except NotInstalled as error:
        raise WrongSetup(f"model.estimator of pipeline.yaml: {error}") from error
    except Refused as error:
        raise WrongSetup(f"model.params of pipeline.yaml: {error}; mend or remove the parameter") from error
    except ModelRefused as error:
        raise WrongSetup(f"model.estimator of pipeline.yaml: {spec.model.estimator}: {error}") from error
    return recipe

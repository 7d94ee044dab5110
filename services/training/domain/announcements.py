"""What a controller says about a fit: the manifest, the member, the pool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schemas.answers import answer
from schemas.artefact import MODEL, Dataset, Made, Manifest, model_digest, sha256
from schemas.messages import Cause, Member, Pool
from schemas.pipeline import Pipeline
from schemas.spec import FeatureType
from services.training.domain.fitting import Fit
from services.training.domain.taking import Taken, dataset_of

HISTORY = "history-"
"""What the name of a history begins with; ids of topics do not."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fit that was accepted, with what it was made from."""

    version: int
    cause: Cause
    cutoff: int
    taken: Taken
    fit: Fit

    @property
    def dataset(self) -> Dataset:
        """The rows, such that they can be found again."""
        fit = self.fit
        return dataset_of(self.taken, fit.held_out.num_rows, fit.encoding.types, learnt=fit.learnt)


def directory(manifest: Manifest) -> str:
    """Where the artefact lies: named by content too, so that another log's version 1 is another artefact."""
    return f"models/{manifest.model}/{manifest.version}-{manifest.digest[:12]}"


def manifest_of(spec: Pipeline, candidate: Candidate, libraries: Mapping[str, str]) -> Manifest:
    """The manifest, without the files."""
    fit, features = candidate.fit, _features(spec)
    matrix = fit.encoding.matrix(fit.warm_up)
    outputs = answer(fit.estimator, matrix, spec.target)
    made = Made(spec.model.estimator, spec.model.params, fit.seed, spec.target)
    digest = model_digest(made, fit.encoding, matrix, outputs)
    return Manifest(
        model=spec.pipeline,
        version=candidate.version,
        pipeline_digest=spec.digest,
        features=features,
        vocabulary=dict(fit.encoding.vocabulary),
        fill=dict(fit.encoding.fill),
        task=spec.task,
        classes=spec.classes,
        estimator=spec.model.estimator,
        params=dict(spec.model.params),
        dataset=candidate.dataset,
        seed=fit.seed,
        metrics=fit.verdict.metrics,
        libraries=dict(libraries),
        files={},
        digest=digest,
        cause=candidate.cause,
    )


def _features(spec: Pipeline) -> dict[str, FeatureType]:
    return dict(spec.feature_types)


def member_of(stored: bytes, epoch: int) -> Member:
    """The announcement of a stored artefact, from its manifest's bytes."""
    manifest = Manifest.model_validate_json(stored)
    return Member(
        model=manifest.model,
        version=manifest.version,
        uri=directory(manifest),
        sha256=manifest.files[MODEL].sha256,
        manifest_sha256=sha256(stored),
        digest=manifest.digest,
        pipeline_digest=manifest.pipeline_digest,
        features=tuple(manifest.features),
        trained_through=_through(manifest.dataset),
        rows=manifest.dataset.rows,
        metrics=manifest.metrics,
        cause=manifest.cause,
        epoch=epoch,
    )


def _through(dataset: Dataset) -> dict[str, int]:
    """The last offsets that a model saw; those of a history are no positions of this log."""
    where = dataset.log if dataset.log.startswith(HISTORY) else "examples"
    return {f"{where}/{each}": stop - 1 for each, (_, stop) in dataset.positions.items()}


def pool_of(
    member: Member, version: int, cutoff: int, pane: int, epoch: int, strategy: Literal["blend", "champion"] = "blend"
) -> Pool:
    """The pool in which a member is alone, leads and is watched, from the pane after its newest row on."""
    return Pool(
        model=member.model,
        version=version,
        members=(member.version,),
        leader=member.version,
        anchor=member.version,
        reference_pane=(cutoff // pane + 1) * pane,
        weights={member.version: 1.0},
        strategy=strategy,
        epoch=epoch,
        cause=member.cause,
    )

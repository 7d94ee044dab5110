"""Whether a fit may serve: judged on rows that it has not seen, the newest ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.task import BINARY, FLOOR, Target
from services.training.domain.estimators import Labels

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a fit may serve, why, and the figures."""

    accepted: bool
    reason: str
    metrics: dict[str, float]


def losses(metric: str, outputs: Vector, labels: Labels, target: Target = BINARY) -> Vector:
    """Loss of each row, of which the mean is compared.

    Args:
        metric: log_loss: minus the log of the probability that its class was given; accuracy: 1 for the wrong class;
            mae: the error without its sign; rmse, r2: its square.
        outputs: What a model gives the rows.
        labels: Their labels.
        target: What is predicted.
    """
    if metric == "accuracy":
        return target.wrong(target.predictions(outputs), labels).astype(np.float64)
    found = target.losses(outputs, labels)
    return found**2 if metric in {"rmse", "r2"} else found


def judge(
    metric: str,
    prior: float | Vector,
    labels: Labels,
    outputs: Vector,
    ruling: Vector | None,
    target: Target = BINARY,
) -> Verdict:
    """The verdict on a fit that is to answer alone.

    It must predict better than who knows the labels alone, and not worse than the model in service. Chance is allowed
    for: the mean difference may be one standard error above zero. An equally good fit then passes five times in six,
    and how much harm a worse one can do shrinks with the rows that it was checked on.

    Args:
        metric: What pipeline.yaml names.
        prior: Frequency of the second class among the rows of the fit, of each class, or the mean of the values.
        labels: Labels of the held-out rows.
        outputs: What the fit gives them.
        ruling: What the model in service gives them, None where there is none.
        target: What is predicted.
    """
    verdict = _against_labels(prior, labels, outputs, target)
    if ruling is None or not verdict.accepted:
        return verdict
    both = (losses(metric, each, labels, target) for each in (outputs, ruling))
    return _against(metric, labels, both, verdict.metrics)


def judge_one_of_several(prior: float | Vector, labels: Labels, outputs: Vector, target: Target = BINARY) -> Verdict:
    """The verdict on a fit that is to be one of several members; arguments as those of `judge`.

    Labels decide between it and the others. It must predict better than who knows the labels alone, too, but may be
    too sure of itself if it is right more often than the likeliest class: weights and calibrator see to that.
    """
    verdict = _against_labels(prior, labels, outputs, target)
    if verdict.accepted or target.is_regression:
        return verdict
    right = verdict.metrics["accuracy"]
    blind = losses("accuracy", np.broadcast_to(prior, outputs.shape), labels, target)
    if not right > _shown("accuracy", blind, labels):
        return verdict
    return Verdict(True, f"{verdict.reason}, but it is right in {right:.1%}: labels decide", verdict.metrics)


def _against_labels(prior: float | Vector, labels: Labels, outputs: Vector, target: Target) -> Verdict:
    """Whether a fit predicts better than who knows the labels alone."""
    sense, of_prior = ("rmse", "mean") if target.is_regression else ("log_loss", "prior")
    metrics = {name: _shown(name, losses(name, outputs, labels, target), labels) for name in _told(target)}
    own = metrics[sense]
    blindly = losses(sense, np.broadcast_to(prior, outputs.shape), labels, target)
    metrics[f"{sense}_{of_prior}"] = blind = _shown(sense, blindly, labels)
    words, what = sense.replace("_", " "), "mean's" if target.is_regression else "class frequencies'"
    if own < blind:
        return Verdict(True, f"its {words} of {own:.4f} beats the {what} {blind:.4f}", metrics)
    reason = f"its {words} of {own:.4f} on {len(labels)} held-out rows does not beat the {what} {blind:.4f}"
    return Verdict(False, reason, metrics)


def _told(target: Target) -> tuple[str, ...]:
    return ("rmse", "mae", "r2") if target.is_regression else ("log_loss", "accuracy")


def _against(metric: str, labels: Labels, both: Iterator[Vector], metrics: dict[str, float]) -> Verdict:
    new, old = both
    worse, noise = float((new - old).mean()), float((new - old).std() / np.sqrt(len(labels)))
    shown, ruling = _shown(metric, new, labels), _shown(metric, old, labels)
    metrics = {**metrics, f"{metric}_ruling": ruling, "worse_by": worse, "worse_by_error": noise}
    accepted = worse <= noise
    relation = "is not worse than" if accepted else "is worse than"
    reason = (
        f"its {metric} of {shown:.4f} on {len(labels)} held-out rows {relation} "
        f"{ruling:.4f} of the model in service (standard error {noise:.4f})"
    )
    return Verdict(accepted, reason, metrics)


def _shown(metric: str, values: Vector, labels: Labels) -> float:
    """The metric as people know it, from the losses of rows."""
    mean = float(values.mean())
    if metric == "accuracy":
        return 1.0 - mean
    if metric == "rmse":
        return float(np.sqrt(mean))
    return 1.0 - mean / max(float(np.var(labels)), FLOOR) if metric == "r2" else mean

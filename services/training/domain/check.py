"""Whether a fit may serve: judged on rows that it has not seen, the newest ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.predictions import THRESHOLD, log_losses

Vector = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a fit may serve, why, and the figures."""

    accepted: bool
    reason: str
    metrics: dict[str, float]


def losses(metric: str, outputs: Vector, labels: Labels) -> Vector:
    """Loss of each row: minus the log of the probability that its class was given, or 1 for the wrong class."""
    if metric == "accuracy":
        wrong: Vector = ((outputs >= THRESHOLD) != (labels == 1)).astype(np.float64)
        return wrong
    return log_losses(outputs, labels == 1)


def judge(metric: str, prior: float, labels: Labels, outputs: Vector, ruling: Vector | None) -> Verdict:
    """The verdict on a fit.

    It must predict better than the class frequencies do, and not worse than the model in service. Chance is allowed
    for: the mean difference may be one standard error above zero. An equally good fit then passes five times in six,
    and how much harm a worse one can do shrinks with the rows that it was checked on.

    Args:
        metric: What pipeline.yaml names.
        prior: Frequency of the second class among the rows of the fit.
        labels: Classes of the held-out rows.
        outputs: What the fit gives them.
        ruling: What the model in service gives them, None where there is none.
    """
    own = float(losses("log_loss", outputs, labels).mean())
    blind = float(losses("log_loss", np.full(len(labels), prior), labels).mean())
    right = float(1.0 - losses("accuracy", outputs, labels).mean())
    metrics = {"log_loss": own, "log_loss_prior": blind, "accuracy": right}
    if not own < blind:
        reason = (
            f"its log loss of {own:.4f} on {len(labels)} held-out rows does not beat the class frequencies' {blind:.4f}"
        )
        return Verdict(False, reason, metrics)
    if ruling is None:
        return Verdict(True, f"its log loss of {own:.4f} beats the class frequencies' {blind:.4f}", metrics)
    return _against(metric, labels, outputs, ruling, metrics)


def _against(metric: str, labels: Labels, outputs: Vector, ruling: Vector, metrics: dict[str, float]) -> Verdict:
    new, old = losses(metric, outputs, labels), losses(metric, ruling, labels)
    worse, noise = float((new - old).mean()), float((new - old).std() / np.sqrt(len(labels)))
    metrics = {**metrics, f"{metric}_ruling": _shown(metric, old), "worse_by": worse, "worse_by_error": noise}
    accepted = worse <= noise
    relation = "is not worse than" if accepted else "is worse than"
    reason = (
        f"its {metric} of {_shown(metric, new):.4f} on {len(labels)} held-out rows {relation} "
        f"{_shown(metric, old):.4f} of the model in service (standard error {noise:.4f})"
    )
    return Verdict(accepted, reason, metrics)


def _shown(metric: str, values: Vector) -> float:
    mean = float(values.mean())
    return 1.0 - mean if metric == "accuracy" else mean

"""How the members of a pool answer as one: what training learnt from the labels, and what serving makes of it.

The mixture is the logarithmic opinion pool (classes) or the weighted mean (regression) of the members' outputs. A
calibrator, learnt from the labels too, lies on top. Each member has a line of its own besides: fits of other seasons
have other levels, and a mixture of levels has none that one line could mend while the weights move. A checkpoint of all
this goes to the topic `weights`.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from schemas.encoding import LARGEST
from schemas.task import THRESHOLD

Task = Literal["binary", "multiclass", "regression"]
Floats = npt.NDArray[np.float64]

FLOOR = 0.002
"""A member's probability counts as at least this much, and at most as much below 1: nobody is ruined by one row."""
ONLINE_FLOOR = 0.02
"""The same of the online member, whose leaves are sure of themselves after a few rows."""

BOUND: dict[Task, float] = {
    "binary": math.log(1.0 / FLOOR - 1.0),
    "multiclass": -math.log(FLOOR),
    "regression": LARGEST,
}
"""Most that an opinion is, above or below 0, whatever a line makes of it."""

IDENTITY: dict[Task, tuple[float, ...]] = {
    "binary": (1.0, 0.0, 0.0),
    "multiclass": (1.0, 0.0),
    "regression": (1.0, 0.0),
}
"""Parameters of a calibrator that leaves the mixture as it is."""


class Calibrator(msgspec.Struct, frozen=True):
    """What is made of the mixture.

    Attributes:
        parameters: What a prediction needs. binary: factors of the mixture's logit and of the online member's, and what
            is added; multiclass: factors of the mixture's logarithms (an inverse temperature) and of the online
            member's; regression: factor of the mixture, and what is added.
        state: What the fold needs besides to go on; empty at the beginning.
    """

    parameters: tuple[float, ...]
    state: tuple[float, ...] = ()


class Online(msgspec.Struct, frozen=True):
    """A snapshot of the online member.

    Attributes:
        uri: Its file in the artefact store.
        sha256: SHA-256 of the file.
        size: Bytes.
        labels: Labels that it has learnt.
    """

    uri: str
    sha256: str
    size: int
    labels: int


class Trial(msgspec.Struct, frozen=True):
    """How far the comparison of a challenger with the champion has come.

    Attributes:
        number: Which challenger since the last promotion it is, from 1.
        rows: Rows on which both were judged.
        better: Logarithms of the capital of each bet that it is better than the champion.
        worse: Likewise that it is worse.
    """

    number: int
    rows: int
    better: tuple[float, ...]
    worse: tuple[float, ...]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint of what the labels taught about a pool: the weights fold.

    Attributes:
        model: Name of the model: that of the pipeline.
        epoch: Of the controller; lower ones are void.
        number: Counted up per model.
        pool: Version of the pool that it belongs to.
        members: Versions, ascending.
        log_weights: Logarithm of each member's weight; the weights sum to 1.
        labels: Labels by which each member was judged.
        calibrator: What is made of the mixture.
        lines: What is made of each member's opinion before it is mixed, in their order: a factor, and what is added to
            each number, none where no label has spoken yet.
        variance: Regression: running variance of the mixture's residuals; else 0.
        apart: Sum of the distances between the outputs of two members, row by row of the upper triangle.
        together: Rows over which `apart` was summed, likewise.
        champion: The member that rules; strategy `champion` alone.
        challengers: Since the last promotion; strategy `champion` alone.
        trials: Member to its comparison with the champion; strategy `champion` alone.
        online: The newest snapshot of the online member, None where there is none.
        covers: Partition of `examples` to the offset of the last message folded.
        key: Id of the key that it was signed with; empty where it was not.
        signature: Base64.
    """

    model: str
    epoch: int
    number: int
    pool: int
    members: tuple[int, ...]
    log_weights: tuple[float, ...]
    labels: tuple[int, ...]
    calibrator: Calibrator
    lines: tuple[Calibrator, ...] = ()
    variance: float = 0.0
    apart: tuple[float, ...] = ()
    together: tuple[int, ...] = ()
    champion: int | None = None
    challengers: int = 0
    trials: dict[int, Trial] = msgspec.field(default_factory=dict)
    online: Online | None = None
    covers: dict[int, int] = msgspec.field(default_factory=dict)
    key: str = ""
    signature: str = ""

    def weights(self, members: tuple[int, ...]) -> Floats:
        """The weight of each of the members, 0 of one that it does not know; sums to 1 where it knows any."""
        known = dict(zip(self.members, self.log_weights, strict=True))
        found = np.exp([known.get(each, -np.inf) for each in members])
        total = found.sum()
        return found / total if total > 0 else found

    def straight(self, members: tuple[int, ...]) -> Floats | None:
        """Slope and constant of each member, shape (members, 1 + K); 1 and 0 of one not known, None for no lines."""
        width = max((len(each.parameters) for each in self.lines), default=0)
        if width <= 1:
            return None
        known = {member: each.parameters for member, each in zip(self.members, self.lines, strict=True)}
        found = [known.get(each, (1.0,)) for each in members]
        return np.array([(*each, *(0.0,) * (width - len(each))) for each in found])


def mix(
    task: Task,
    outputs: Floats,
    weights: Floats,
    calibrator: Calibrator,
    online: Floats | None = None,
    lines: Floats | None = None,
) -> Floats:
    """One prediction per row: shape (rows,), of several classes their probabilities, shape (rows, classes).

    A member's output that is not finite does not count in its row; NaN where no member's does.

    Args:
        task: What is predicted.
        outputs: Of each member, shape (rows, members, K).
        weights: Of each member, in the same order; their sum is no matter.
        calibrator: What is made of the mixture.
        online: The online member's outputs, shape (rows, K), NaN in rows that it did not score; None without one.
        lines: Factor of each member's opinion and what is added, shape (members, 1 + K); None for none.
    """
    told = opinions(task, outputs)
    mixed = mixture(told if lines is None else straightened(task, told, lines), weights)
    beside = None if online is None else beliefs(task, online)
    return calibrated(task, mixed, calibrator.parameters, beside)


def opinions(task: Task, outputs: Floats) -> Floats:
    """Outputs as they are averaged: logits, logarithms of probabilities, or values; NaN where not finite."""
    if task == "regression":
        return np.clip(np.where(np.isfinite(outputs), outputs, np.nan), -LARGEST, LARGEST)
    return _logs(task, outputs, FLOOR)


def straightened(task: Task, told: Floats, lines: Floats) -> Floats:
    """What the members' lines make of their opinions, shape (rows, members, K).

    Args:
        task: What is predicted.
        told: Opinions, likewise.
        lines: Of each member, shape (members, 1 + K), or of each row's members.
    """
    made = lines[..., :1] * told + lines[..., 1:]
    if task == "multiclass":
        made = made - np.log(np.exp(made).sum(axis=-1, keepdims=True))
    bounded: Floats = np.clip(made, -BOUND[task], BOUND[task])
    return bounded


def beliefs(task: Task, online: Floats) -> Floats:
    """The online member's outputs likewise, and 0, which is no opinion, where it has none."""
    return np.nan_to_num(_logs(task, online, ONLINE_FLOOR))


def mixture(told: Floats, weights: Floats) -> Floats:
    """Weighted mean of opinions, shape (rows, K).

    Args:
        told: Opinions, shape (rows, members, K).
        weights: Of each member, shape (members,), or of each row's members, shape (rows, members).
    """
    there = np.asarray(np.isfinite(told).all(axis=2))
    counted = np.where(there, weights, 0.0)
    with np.errstate(invalid="ignore"):
        counted = counted / counted.sum(axis=1, keepdims=True)
    mixed: Floats = np.einsum("rmk,rm->rk", np.where(there[:, :, None], told, 0.0), counted)
    return mixed


def calibrated(task: Task, mixed: Floats, parameters: tuple[float, ...], beside: Floats | None) -> Floats:
    """Predictions, from the mixture and the online member's beliefs, both of shape (rows, K)."""
    if task == "regression":
        return np.asarray(parameters[0] * mixed[:, 0] + parameters[1])
    total = parameters[0] * mixed if beside is None else parameters[0] * mixed + parameters[1] * beside
    if task == "binary":
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(total[:, 0] + parameters[2], -30.0, 30.0))))
    raised = np.exp(total - total.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def chosen(task: Task, predictions: Floats) -> Floats:
    """The values that are predicted: index of the class, or the number itself; NaN where there is no prediction."""
    if task == "regression":
        return predictions
    if task == "binary":
        values: Floats = np.where(np.isnan(predictions), np.nan, (predictions >= THRESHOLD).astype(float))
        return values
    likeliest = predictions.argmax(axis=1).astype(float)
    return np.where(np.isnan(predictions).any(axis=1), np.nan, likeliest)


def _logs(task: Task, probabilities: Floats, floor: float) -> Floats:
    given = np.clip(np.where(np.isfinite(probabilities), probabilities, np.nan), floor, 1.0 - floor)
    logs: Floats = np.log(given) - np.log1p(-given) if task == "binary" else np.log(given)
    return logs

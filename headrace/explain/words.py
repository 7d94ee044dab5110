"""How an entry of the ledger is said to a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from headrace.explain.ledger import Entry
from schemas.messages import Scalar, rfc3339

HIDDEN = frozenset({"cause", "digest", "pane", "clock", "converged", "wish", "of", "who"})
"""Evidence that says nothing to people, or nothing that the sentence does not say."""


def clock(time: datetime) -> str:
    """The time of day, to the second."""
    return rfc3339(time)[11:19]


def stamp(time: datetime) -> str:
    """A time in a sentence: milliseconds only where there are any."""
    return rfc3339(time).replace(".000Z", "Z")


def sentence(entry: Entry) -> str:
    """An entry in a sentence."""
    return _SENTENCES.get((entry.service, entry.step), _plain)(entry)


def figures(entry: Entry) -> str:
    """The evidence in a line."""
    told = [(name, value) for name, value in entry.evidence.items() if name not in HIDDEN and value is not None]
    return ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in told)


def number(value: Scalar) -> str:
    """A figure as short as it is useful."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() and abs(value) >= 1 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def share(value: float) -> str:
    """A weight for people."""
    return f"{value:.1%}" if value < 0.1 or value > 0.9 else f"{value:.0%}"  # noqa: PLR2004 - where digits tell


def listed(names: Iterable[object]) -> str:
    """Some names in a sentence."""
    found = [str(each) for each in names]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}" if found else "none"


def _plain(entry: Entry) -> str:
    return f"{entry.step.replace('_', ' ')}: {entry.outcome}; {entry.reason}"


def _suppressed(entry: Entry) -> str:
    return f"no retraining: {entry.reason} ({entry.outcome})"


def _quarantined(entry: Entry) -> str:
    source = entry.evidence.get("source")
    where = "" if source is None else f" from source {source}"
    return f"no retraining: bad data, {entry.reason}{where}, since {entry.evidence.get('from')}; {entry.outcome}"


def _rejected(entry: Entry) -> str:
    return f"no new model: {entry.reason}; {entry.outcome}"


def _fitted(entry: Entry) -> str:
    rows = entry.evidence.get("rows")
    on = "" if rows is None else f" on {number(rows)} rows"
    return f"{entry.outcome} was fitted{on}: {entry.reason}"


def _wished(entry: Entry) -> str:
    return f"{entry.evidence.get('who')} wished: {entry.outcome}; {entry.reason}"


def _happened(entry: Entry) -> str:
    return f"{entry.outcome}: {entry.reason}"


_SENTENCES: Mapping[tuple[str, str], Callable[[Entry], str]] = {
    ("training", "suppressed"): _suppressed,
    ("training", "quarantined"): _quarantined,
    ("training", "rejected"): _rejected,
    ("training", "fitted"): _fitted,
    ("training", "announced"): _happened,
    **{("training", step): _happened for step in ("triggered", "recalled", "promoted", "rolled_back", "released")},
    **{("training", step): _happened for step in ("weighed", "joined", "left", "dataset")},
    **{("drift", step): _happened for step in ("opened", "closed")},
    **{("serving", step): _happened for step in ("swapped", "scored", "answered", "mixed")},
    ("features", "labelled"): _happened,
    ("operator", "wished"): _wished,
}

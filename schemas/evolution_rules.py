"""The table of evolution: for each key of pipeline.yaml, what may change in a pipeline that runs.

The rule behind it: a change is fine where everything that was written under the old file still means the same under the
new one, and where everybody who sends events or labels may go on as before. Whatever else is a new field, a new
feature, or a new pipeline. The first case that applies counts, and the last one always does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["fine", "refused"]
When = Callable[[Any, Any], bool]
"""Whether a case applies to the old and the new value; None is a key that is not there."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is to be thought of a change.

    Attributes:
        verdict: Whether it may be made.
        why: What follows from it.
        way: How to get there all the same; empty where it is fine.
        when: Whether it is this case.
    """

    verdict: Verdict
    why: str
    way: str
    when: When


def _always(old: Any, new: Any) -> bool:  # noqa: ARG001 - one shape
    return True


def _added(old: Any, new: Any) -> bool:
    return old is None and new is not None


def _added_nullable(old: Any, new: Any) -> bool:
    return old is None and bool(new.nullable)


def _removed(old: Any, new: Any) -> bool:
    return old is not None and new is None


def _gone_or_lower(old: Any, new: Any) -> bool:
    return new is None or (old is not None and new < old)


def _gone_or_higher(old: Any, new: Any) -> bool:
    return new is None or (old is not None and new > old)


def _gone_or_more(old: Any, new: Any) -> bool:
    return new is None or (old is not None and set(new) >= set(old))


def _longer(old: Any, new: Any) -> bool:
    return bool(new > old)


def _loosened(old: Any, new: Any) -> bool:
    return bool(new) and not old


def _reworded(old: Any, new: Any) -> bool:
    return old is not None and new is not None and bool(old.means(new))


def fine(why: str, when: When = _always) -> Case:
    """A change that may be made."""
    return Case("fine", why, "", when)


def refused(why: str, way: str, when: When = _always) -> Case:
    """A change that must not be made, and the way to it."""
    return Case("refused", why, way, when)


_NEXT_FIT = (fine("the next fit goes by it; models in service stay as they are"),)
_FROM_NOW = (fine("it counts from the restart on; what is on the log stays as it is"),)
_LABELS_ARE_ONE = "Send it as another pipeline with these labels"
_NARROWER = refused(
    "producers that run may send what was valid until now, and it would go to dead letters",
    "Leave it, and bound the value in a new feature, such as least(field, 10), or give the stricter field a new name",
)
_NEW_MEANING = "Add a nullable field with a new name, send both for a while, and read the new one in new features"

RULES: Mapping[str, tuple[Case, ...]] = {
    "pipeline": (refused("another name is another pipeline with topics of its own", "Compare it with its own log"),),
    "task": (refused("labels, models and monitors of the log are those of the other task", "Begin a new pipeline"),),
    # --- events: what producers send, and what the log is ordered and routed by ---
    "events.time": (
        refused("windows, watermarks and panes of the log go by the old event time", "Keep the field as the time"),
    ),
    "events.id": (refused("labels that are still to come name their events by the old id", "Keep sending the old id"),),
    "events.entity": (
        refused("rows were routed to partitions, and kept in order, by the old entity", "Keep the entity"),
    ),
    "events.fields": (fine("columns are found by their names, not by their places"),),
    "events.fields.*": (
        fine("it is null where it was not sent; restart the services before producers send it", _added_nullable),
        refused(
            "producers that run do not send it, so every event of theirs would go to dead letters",
            "Write `nullable: true`; features can say what null means with coalesce(field, ...)",
            _added,
        ),
        refused(
            "producers that run send it, and an event with an unknown field goes to dead letters; old records hold it",
            "Leave it in the file with `nullable: true`: then producers may stop sending it",
        ),
    ),
    "events.fields.*.type": (
        refused("records and models of the log hold the old type, and producers send it", _NEW_MEANING),
    ),
    "events.fields.*.nullable": (
        fine("every event that was valid still is; expressions over it may become null", _loosened),
        refused(
            "producers that run may leave it out, and their events would go to dead letters",
            "Leave `nullable: true`; features can say what null means with coalesce(field, ...)",
        ),
    ),
    "events.fields.*.min": (fine("every event that was valid still is", _gone_or_lower), _NARROWER),
    "events.fields.*.max": (fine("every event that was valid still is", _gone_or_higher), _NARROWER),
    "events.fields.*.values": (fine("every event that was valid still is", _gone_or_more), _NARROWER),
    "events.fields.*.max_length": (fine("every event that was valid still is", _gone_or_higher), _NARROWER),
    "events.fields.*.unit": (
        fine("it says what was meant all along", _added),
        refused("in another unit the same number means something else: models learnt the old one", _NEW_MEANING),
    ),
    # --- labels: who labels, and what a label says ---
    "labels.id": (refused("labels name their events in the old field", "Keep the field's name"),),
    "labels.time": (refused("datasets and the join are cut by the old time of labels", "Keep the field's name"),),
    "labels.revision": (refused("those who label do not send it", _LABELS_ARE_ONE),),
    "labels.mature": (refused("the judge counted rows by the old rule", _LABELS_ARE_ONE),),
    "labels.field": (refused("those who label send the old field", "Keep the field's name"),),
    "labels.type": (refused("examples and models of the log hold the old label", _LABELS_ARE_ONE),),
    "labels.values": (refused("classes on the log are numbers by their place in the old list", _LABELS_ARE_ONE),),
    "labels.horizon": (
        fine("labels may come later; topics must keep their messages as long, which bootstrap checks", _longer),
        refused("labels that come in time until now would go to dead letters", "Leave the longer horizon"),
    ),
    "labels.absent": (refused("rows without a label counted by the old rule", _LABELS_ARE_ONE),),
    # --- features: a name is a definition for ever ---
    "features": (fine("columns are found by their names, not by their places"),),
    "features.*": (
        fine("models in service do not read it; fits do, on rows from now on", _added),
        refused("models in service read it, and would be refused without it", "Leave it in the file", _removed),
        fine("written in another way, it is the same expression", _reworded),
        refused(
            "a feature's name is its definition for ever: models would meet a column that means something else",
            "Leave it as it is and give the new definition a new name",
        ),
    ),
    "windows.per": (refused("window state on the log belongs to the old owner", "Give window features new names"),),
    "windows.entities": _FROM_NOW,
    "model.estimator": _NEXT_FIT,
    "model.params": _NEXT_FIT,
    "model.metric": _NEXT_FIT,
    "model.online": _NEXT_FIT,
    # --- drift: counts on the log are numbered by pane ---
    "drift.false_alarms": _FROM_NOW,
    "drift.pane": (
        refused(
            "drift counts and the judge's checkpoint number panes by their length: the same number would be another "
            "time",
            "Keep the length",
        ),
    ),
    "drift.lateness": _FROM_NOW,
    "drift.settle": _FROM_NOW,
    "drift.seasonality": (refused("the judge's checkpoint counts by the old strata", "Keep the strata"),),
    "training.min_rows": _NEXT_FIT,
    "training.window": _NEXT_FIT,
    "training.cooldown": _NEXT_FIT,
    "training.fits": _NEXT_FIT,
    "strategy.name": _NEXT_FIT,
    "strategy.members": _NEXT_FIT,
    "strategy.alpha": _NEXT_FIT,
    "strategy.max_rows": _NEXT_FIT,
}

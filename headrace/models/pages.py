"""How models are told: lists, facts and differences, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from headrace.models.checks import Check
from headrace.models.reading import Models
from schemas.artefact import Manifest
from schemas.messages import Member
from schemas.task import METRICS

JUDGED_BY = frozenset(name for names in METRICS.values() for name in names)
"""The metrics that the list shows."""


def line(member: Member, known: Models) -> dict[str, object]:
    """What `list --json` says of a member."""
    weight = known.pool.weights.get(member.version) if known.pool is not None else None
    return {
        "version": member.version,
        "role": known.role(member.version),
        "weight": weight,
        "rows": member.rows,
        "cause": member.cause.kind,
        "metrics": member.metrics,
        "digest": member.digest,
        "signed_by": member.signed_by,
        "uri": member.uri,
    }


def table(known: Models) -> RenderableType:
    """The members, one per line."""
    found = Table(
        "version", "role", "weight", "rows", "fitted for", "metrics", "signed by", box=None, header_style="bold"
    )
    for member in known.members.values():
        said = line(member, known)
        weight = "" if said["weight"] is None else f"{said['weight']:.3f}"
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in member.metrics.items() if name in JUDGED_BY)
        cells = (
            member.version,
            said["role"],
            weight,
            f"{member.rows:,}",
            member.cause.kind,
            metrics,
            member.signed_by or "",
        )
        found.add_row(*(Text(str(each)) for each in cells))
    return found if found.row_count else Text("no model is announced yet")


def facts(member: Member, manifest: Manifest, known: Models) -> dict[str, object]:
    """Everything about a member, by name."""
    said = manifest.model_dump(mode="json")
    said["vocabulary"] = {name: len(values) for name, values in manifest.vocabulary.items()}
    return {**line(member, known), "pool": known.pool and known.pool.version, **said}


def page(found: Mapping[str, object]) -> RenderableType:
    """Facts, one per line."""
    told = Table(box=None, show_header=False)
    for name, value in flat(found):
        told.add_row(Text(name, style="bold"), Text(_shown(value)))
    return told


def differences(left: Mapping[str, object], right: Mapping[str, object]) -> list[dict[str, object]]:
    """What is not the same in two models, by name."""
    one, other = dict(flat(left)), dict(flat(right))
    names = [*one, *(name for name in other if name not in one)]
    return [
        {"what": name, "left": one.get(name), "right": other.get(name)}
        for name in names
        if one.get(name) != other.get(name)
    ]


def compared(found: Iterable[Mapping[str, object]], left: int, right: int) -> RenderableType:
    """Differences, one per line."""
    told = Table("", f"version {left}", f"version {right}", box=None, header_style="bold")
    for each in found:
        told.add_row(Text(str(each["what"]), style="bold"), *(Text(_shown(each[side])) for side in ("left", "right")))
    return told if told.row_count else Text("they are the same in everything")


def flat(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Nested facts with dotted names."""
    for name, value in found.items():
        if isinstance(value, dict) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def checked(check: Check) -> RenderableType:
    """What a check found, on one line."""
    mark = Text("holds   ", style="green") if check.holds else Text("BROKEN  ", style="bold red")
    return Text.assemble(mark, Text(f"{check.what:<16}", style="bold"), check.text)


def headed(member: Member) -> RenderableType:
    """Which model the checks that follow are about, on one line."""
    return Text(f"version {member.version}, in {member.uri}", style="bold")


def genuine(members: Sequence[Member], *, refit: bool) -> str:
    """The verdict on models of which everything holds."""
    one = len(members) == 1
    which = f"version {members[0].version} is" if one else f"all {len(members)} versions are"
    again = f", and {'was' if one else 'were'} made again from {'its' if one else 'their'} rows" if refit else ""
    return f"{which} genuine{again}"

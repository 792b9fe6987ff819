"""Cells grouped over seeds: the replicates of one sampler on one posterior under one setting."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]

# What sets cells apart besides posterior, sampler and seed; so does a sampler's own configuration. OUTCOMES
# are known only once a run got going. The backend is no choice where a sampler is approximate (minibatches
# need the lowered program): there it is a matter of the sampler, too.
SHARED_SETTINGS = ("budget", "chains", "backend", "precision", "platform", "bridgestan")
OUTCOMES = ("layout", "target")


@dataclass(frozen=True)
class Group:
    """Cells that differ in nothing but the seed, in the order of their seeds."""

    posterior: str
    label: str
    sampler: str
    setting: Mapping[str, Any]
    cells: tuple[Record, ...]


def group_cells(records: Sequence[Record]) -> tuple[list[Group], list[str]]:
    """Cells that differ in nothing but the seed, and notes on those that had to be left out.

    Settings that vary (two budgets, two precisions, …) are never averaged together: they make groups of their
    own, told apart by a suffix of the label.
    """
    known: dict[str, set[str]] = {}
    for record in records:
        if (outcome := _outcome(record)) is not None:
            known.setdefault(_key(record), set()).add(json.dumps(outcome))

    grouped: dict[str, tuple[dict[str, Any], list[Record]]] = {}
    for record in records:
        key, outcome = _key(record), _outcome(record)
        if outcome is None:  # a failed run did not get as far: it belongs with the others where they agree
            outcomes = known.get(key, set())
            outcome = json.loads(min(outcomes)) if len(outcomes) == 1 else dict.fromkeys(OUTCOMES)
        grouped.setdefault(key + json.dumps(outcome), (_setting(record) | outcome, []))[1].append(record)

    varying = _varying(grouped.values())
    groups, notes = [], []
    for setting, cells in grouped.values():
        posterior, sampler = cells[0]["posterior"], cells[0]["sampler"]["label"]
        own, fields = _own(cells[0]), (*SHARED_SETTINGS, "config", *OUTCOMES)
        suffix = ", ".join(f"{f} {setting[f]}" for f in fields if (f, f in own) in varying)
        label = f"{sampler} ({suffix})" if suffix else sampler
        newest = {cell["seed"]: cell for cell in sorted(cells, key=lambda cell: str(cell.get("created")))}
        if len(newest) < len(cells):
            notes.append(
                f"{posterior}, {label}: several cells share a seed; only the newest of each is used."
            )
        groups.append(
            Group(posterior, label, sampler, setting, tuple(newest[seed] for seed in sorted(newest)))
        )
    return groups, notes


def _setting(record: Record) -> dict[str, Any]:
    shared = {field: record.get(field) for field in SHARED_SETTINGS} | {"backend": _backend(record)}
    return shared | {"config": _fingerprint(record["sampler"].get("config"))}


def _backend(record: Record) -> str:
    """``bridgestan`` or ``jax``, without the details that only a run that got going knows."""
    return (record.get("backend") or "bridgestan").partition(" ")[0]  # once the only one, and left out


def _outcome(record: Record) -> dict[str, Any] | None:
    if record.get("layout") is None or record.get("digests") is None:
        return None
    return {"layout": record["layout"], "target": _fingerprint(record["digests"])}


def _key(record: Record) -> str:
    return json.dumps([record["posterior"], record["sampler"]["label"], _setting(record)])


def _fingerprint(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]


def _own(record: Record) -> tuple[str, ...]:
    """Settings that are a matter of the sampler, and set its cells apart from each other only."""
    own = ("config", *OUTCOMES)
    return ("backend", *own) if record.get("approximate") else own


def _varying(grouped: Iterable[tuple[Mapping[str, Any], Sequence[Record]]]) -> set[tuple[str, bool]]:
    """Settings with several values: within a posterior (field, False) or within a label (field, True)."""
    seen: dict[tuple[str, bool, str, str], set[Any]] = {}
    for setting, cells in grouped:
        posterior, sampler, own = cells[0]["posterior"], cells[0]["sampler"]["label"], _own(cells[0])
        for field, value in setting.items():
            scope = (field, field in own, posterior, sampler if field in own else "")
            seen.setdefault(scope, set()).add(value)
    return {scope[:2] for scope, values in seen.items() if len(values) > 1}

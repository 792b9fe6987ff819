"""The files of a reproduction: its table in Markdown, everything in JSON, and its figure."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .framework import Outcome, Reproduction, Row, count_verdicts, measured_text, row_to_dict
from .laboratory import Laboratory

SCALE = 2.0
"""Pixels per unit of the PNG."""
HEADINGS = ("claim", "setting", "claimed", "rule", "measured (95 % interval)", "verdict")


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table, columns as in `HEADINGS`."""
    claim = row.claim
    unit = f" {claim.unit}" if claim.unit else ""
    return (
        claim.statement,
        claim.setting,
        f"{claim.figure}{unit} [{claim.source}]",
        claim.rule.text,
        measured_text(row) + (f"; {row.note}" if row.note else ""),
        row.verdict,
    )


def markdown(reproduction: Reproduction, plan: Any, outcome: Outcome) -> str:
    """The table with its sources, its notes and its size."""
    lines = [f"# {reproduction.title}", "", *(f"- {source}" for source in reproduction.sources), ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|" + " --- |" * len(HEADINGS)]
    lines += ["| " + " | ".join(map(_escaped, cells(row))) + " |" for row in outcome.rows]
    lines += ["", verdict_line(outcome), ""]
    lines += [f"- {note}" for note in outcome.notes]
    settings = ", ".join(f"{name} {value}" for name, value in dataclasses.asdict(plan).items())
    return "\n".join([*lines, "", f"Size of this run: {settings}.", ""])


def verdict_line(outcome: Outcome) -> str:
    """How many rows came out how."""
    counts = count_verdicts(outcome.rows)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def publish(
    reproduction: Reproduction, plan: Any, outcome: Outcome, laboratory: Laboratory
) -> dict[str, Path]:
    """Write ``table.md``, ``results.json``, ``figure.svg`` and ``figure.png`` where the measurements are."""
    import vl_convert  # brings a browser engine: only where it is used

    spec = outcome.figure.to_dict()
    everything = {
        "reproduction": reproduction.name,
        "title": reproduction.title,
        "sources": reproduction.sources,
        "plan": dataclasses.asdict(plan),
        "versions": {"essper": version("essper"), "jax": version("jax"), "python": platform.python_version()},
        "verdicts": count_verdicts(outcome.rows),
        "rows": [row_to_dict(row) for row in outcome.rows],
        "notes": outcome.notes,
        "measurements": list(laboratory.record.values()),
    }
    contents: dict[str, bytes] = {
        "table.md": markdown(reproduction, plan, outcome).encode(),
        "results.json": (
            json.dumps(everything, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        ).encode(),
        "figure.svg": vl_convert.vegalite_to_svg(spec).encode(),
        "figure.png": vl_convert.vegalite_to_png(spec, scale=SCALE),
    }
    folder = laboratory.directory
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _replaced(folder / name, content) for name, content in contents.items()}


def _escaped(text: str) -> str:
    """A table's cell: bars would end it, and line breaks its row."""
    return text.replace("|", "\\|").replace("\n", " ")


def _replaced(path: Path, content: bytes) -> Path:
    """Put a file in place in one step."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(name, 0o644)  # temporary files are private; results are to be read
    os.replace(name, path)
    return path

"""Write a report, all of it or nothing."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..comparison import compare, comparison_to_dict
from .data import render_csv, render_json
from .page import render_html
from .plain import render_latex, render_markdown

Renderer = Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], str]

_RENDERERS: dict[str, Renderer] = {
    "html": render_html,
    "md": render_markdown,
    "csv": render_csv,
    "json": render_json,
    "tex": render_latex,
}
FORMATS = tuple(_RENDERERS)


def write_report(
    records: Sequence[Mapping[str, Any]],
    directory: str | os.PathLike[str],
    formats: Sequence[str] = FORMATS,
    baseline: str | None = None,
) -> dict[str, Path]:
    """Write ``report.html``, ``report.md``, … of a list of records into a directory, made where missing.

    Returns
    -------
    dict
        The path of each format's file. Files are replaced whole, after all of them have been rendered.

    Raises
    ------
    ValueError
        When there are no records, when no record has the baseline, or when a format is unknown.
    """
    if unknown := [name for name in formats if name not in _RENDERERS]:
        raise ValueError(f"Unknown report format {', '.join(unknown)}. Choose from: {', '.join(FORMATS)}.")
    comparison = comparison_to_dict(compare(records, baseline))
    texts = {name: _RENDERERS[name](comparison, records) for name in formats}
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    return {name: _replace(folder / f"report.{name}", text) for name, text in texts.items()}


def _replace(path: Path, text: str) -> Path:
    """Put the file in place in one step: a reader sees the old file or the new one, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        os.chmod(name, 0o644)  # temporary files are private; a report is to be read
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path

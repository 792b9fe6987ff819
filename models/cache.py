"""Where compiled things are kept between processes."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """``$ESSPER_CACHE``, else ``essper`` in ``$XDG_CACHE_HOME`` or ``~/.cache``; made if missing.

    Raises
    ------
    OSError
        If the folder cannot be made.
    """
    own = os.environ.get("ESSPER_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(own) if own else Path(base) / "essper"
    folder.mkdir(parents=True, exist_ok=True)
    return folder

"""The project's own posteriors, in posteriordb's layout: always there, below every other layer."""

from pathlib import Path

DATABASE = Path(__file__).resolve().parent / "posterior_database"
"""Programs written anew for this project, under the names of posteriordb's models so that they serve
its data and reference draws; the eight schools; and data simulated by ``simulate.py``."""

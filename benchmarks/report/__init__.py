"""Reports of a comparison: HTML, Markdown, CSV, JSON, LaTeX and the terminal, all with the same numbers."""

from .console import console_table as console_table
from .write import FORMATS as FORMATS
from .write import write_report as write_report

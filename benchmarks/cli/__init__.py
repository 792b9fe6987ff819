"""The command line: ``essper COMMAND``."""

from .app import main as main

"""What a user did wrong, in one line on stderr and an exit code, in place of a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

OK = 0
FAILED = 1
"""The job ran, and something did not pass its gate or check."""
WRONG_INPUT = 2
INTERRUPTED = 130
"""What shells say of a program that Ctrl-C ended."""

TRACEBACK_VARIABLE = "ESSPER_TRACEBACK"


class InputError(ValueError):
    """An option or argument that cannot be used; the message says what to give instead."""


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn errors in the user's input into one line on stderr and exit code 2.

    Anything else is a bug of ours and keeps its traceback; so do these errors where the environment
    variable ``ESSPER_TRACEBACK`` is set. Ctrl-C is one line and exit code 130.
    """
    try:
        yield
    except KeyboardInterrupt:
        _say("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:  # `essper list | head`: nobody is left to be told
        raise
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) or not is_user_error(error):
            raise
        _say(_usage(error) or one_line(str(error)) or type(error).__name__)
        raise typer.Exit(WRONG_INPUT) from error


def is_user_error(error: Exception) -> bool:
    """Whether an error is about what the user gave, so that its message is all there is to say."""
    if isinstance(error, ValueError | OSError) or _usage(error):
        return True  # StanProgramError, StanDataError, SpecError and InputError are ValueErrors
    # An error of a module that was never imported cannot be one of its classes; importing them all
    # here would start JAX for a misspelled option.
    return any(
        isinstance(error, getattr(sys.modules[module], name))
        for module, name in (
            (f"{_PACKAGE}.posteriordb_adapter.errors", "DatabaseError"),
            (f"{_PACKAGE}.benchmarks.store", "StoreError"),
            (f"{_PACKAGE}.models.ffi.build", "HandlerBuildError"),
        )
        if module in sys.modules
    )


_PACKAGE = __name__.partition(".")[0]


def one_line(message: str) -> str:
    """A message without its line breaks and without the excerpts of source code that Stan draws."""
    kept, excerpt = [], False
    for line in message.splitlines():
        if line.strip() and not line.strip().strip("-"):  # Stan frames its excerpts with dashes
            excerpt = not excerpt
        elif not excerpt:
            kept.append(line.strip())
    parts = [part if part[-1] in ".:;,!?" else f"{part};" for part in filter(None, kept)]
    return " ".join(parts).removesuffix(";")


def _usage(error: Exception) -> str:
    """The line for an error of typer's own (an unknown option, a missing argument); ``""`` for others."""
    message = getattr(error, "format_message", None)
    if message is None or type(error).__name__ == "NoArgsIsHelpError":  # has printed the help already
        return ""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "essper"
    return f"{one_line(message())} (see '{command} --help')"


def _say(text: str) -> None:
    print(f"essper: {text}", file=sys.stderr)

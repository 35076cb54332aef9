"""How commands speak: results on standard output, everything else on standard error, a class of error an exit code."""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import typer

from models.errors import DealcastError

CRASH, ALERT = 2, 4


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Parameters
    ----------
    text : str
        For people.
    data : object
        For machines: anything JSON can hold, or a text that is JSON already.
    exit_code : int
    notes : tuple of str
        Said on standard error in either case.
    """

    text: str
    data: Any
    exit_code: int = 0
    notes: tuple[str, ...] = ()


def as_notes(warnings: Iterable[str]) -> tuple[str, ...]:
    """Warnings as they are said on standard error."""
    return tuple(f"note: {warning}" for warning in warnings)


def examples(*lines: str) -> str:
    """Lines shown as they are at the end of a command's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def answer_with(as_json: bool, run: Callable[[], Outcome]) -> None:
    """Run a command, print its outcome or its error, and leave with the right exit code."""
    try:
        outcome = run()
    except DealcastError as error:
        raise typer.Exit(_say_error(error, as_json, error.exit_code)) from None
    except typer.Exit:
        raise
    except Exception as error:
        import traceback

        traceback.print_exc(file=sys.stderr)
        raise typer.Exit(_say_error(error, as_json, CRASH)) from None
    for note in outcome.notes:
        typer.echo(note, err=True)
    typer.echo(_as_json(outcome.data) if as_json else outcome.text)
    raise typer.Exit(outcome.exit_code)


def _say_error(error: Exception, as_json: bool, exit_code: int) -> int:
    """Print an error where it belongs; returns the exit code."""
    kind = type(error).__name__
    typer.echo(f"{kind}: {error}", err=True)
    if as_json:
        typer.echo(_as_json({"error": {"type": kind, "message": str(error), "exit_code": exit_code}}))
    return exit_code


def _as_json(data: Any) -> str:
    return (
        data.rstrip("\n") if isinstance(data, str) else json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    )

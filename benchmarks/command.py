"""What the commands of the benchmarks share: their flags, tasks side by side, and keeping tables for the results page."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from itertools import starmap
from pathlib import Path
from typing import Any

import pandas as pd

from forecasting.proof.workers import origin_workers

SAVED = Path(__file__).parents[1] / "docs" / "results"
"""Where tables are kept: the results page is made from them."""


def command_line(doc: str | None, *, toy: str, kept: str = "") -> ArgumentParser:
    """Begin a command line with what the toy size is, and what ``--save`` keeps if it keeps anything."""
    parser = ArgumentParser(description=doc, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help=toy)
    if kept:
        parser.add_argument("--save", action="store_true", help=f"keep {kept} for the results page")
        parser.add_argument("--folder", type=Path, default=SAVED, help=f"where --save keeps {kept}")
    return parser


def run_all[Found](
    measure: Callable[..., Found], tasks: Sequence[tuple[Any, ...]], *, processes: int
) -> Iterator[Found]:
    """Measure task by task, so many at a time; gives what was found in the order of the tasks."""
    with origin_workers(len(tasks), processes=processes) as executor:
        yield from starmap(measure, tasks) if executor is None else executor.map(measure, *zip(*tasks, strict=True))


def keep(table: pd.DataFrame, path: Path, *, digits: int = 4) -> None:
    """Write a table without its index, numbers to so many digits; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format=f"%.{digits}g")

"""Files that belong together appear together."""

import os
from collections.abc import Mapping
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from models.errors import SettingsError


def write_together(contents: Mapping[str, bytes], folder: Path) -> dict[str, Path]:
    """Write files that belong together: all of them complete before the first takes its place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        waiting = Path(mkdtemp(prefix=".writing-", dir=folder))
    except OSError as error:
        raise SettingsError(
            f"cannot write to the output folder {folder}: {error.strerror}; choose another one"
        ) from None
    try:
        for name, content in contents.items():
            (waiting / name).write_bytes(content)
        for name in contents:
            _put(waiting / name, folder / name)
    finally:
        rmtree(waiting, ignore_errors=True)
    return {name: folder / name for name in contents}


def _put(made: Path, place: Path) -> None:
    try:
        os.replace(made, place)
    except OSError as error:
        raise SettingsError(f"cannot write {place}: {error.strerror}; choose another place") from None

"""Files that belong together appear together."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from shutil import copy2, rmtree
from tempfile import mkdtemp

from models.errors import SettingsError


def write_together(contents: Mapping[str, bytes], folder: Path) -> dict[str, Path]:
    """Write files that belong together: all of them take their places, or none does."""
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
        _put(contents, waiting, folder)
    finally:
        rmtree(waiting, ignore_errors=True)
    return {name: folder / name for name in contents}


def _put(names: Iterable[str], waiting: Path, folder: Path) -> None:
    """Move files to their places; where one cannot be, or the run is stopped, all are what they were."""
    replaced: list[tuple[Path, Path | None]] = []
    try:
        for name in names:
            place, kept = folder / name, waiting / f"{name}.kept"
            earlier = kept if os.path.lexists(place) else None
            if earlier is not None:
                copy2(place, earlier, follow_symlinks=False)
            replaced.append((place, earlier))
            os.replace(waiting / name, place)
    except BaseException as error:
        for done, before in reversed(replaced):
            done.unlink(missing_ok=True) if before is None else os.replace(before, done)
        if isinstance(error, OSError):
            raise SettingsError(f"cannot write {place}: {error.strerror}; choose another place") from None
        raise

"""Imports go one way: ``forecasting`` knows ``models``, never the reverse, and nothing imports the command line."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODELS = sorted((ROOT / "models").rglob("*.py"))
FORECASTING = sorted((ROOT / "forecasting").rglob("*.py"))
FACE = {"__init__", "cli", "commands", "plots", "output", "jobs"}
"""Parts of ``forecasting`` that show results; nothing below them may need them at import."""


def part_of(path: Path) -> str:
    """Top-level module or folder of ``forecasting`` that a file belongs to."""
    return path.relative_to(ROOT / "forecasting").with_suffix("").parts[0]


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names of the modules a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} uses a relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_models_know_nothing_of_forecasting(path: Path) -> None:
    outside = {
        name
        for name in imported(path)
        if name.split(".")[0] in {"forecasting", "benchmarks", "typer", "rich", "duckdb"}
    }
    assert not outside


@pytest.mark.parametrize(
    "path", [path for path in FORECASTING if part_of(path) not in FACE], ids=lambda path: path.stem
)
def test_only_the_face_imports_the_face(path: Path) -> None:
    at_import = {name for name in imported(path, top_level_only=True) if name.startswith("forecasting.")}
    assert not {name for name in at_import if name.split(".")[1] in FACE}


def test_both_packages_are_ours() -> None:
    import forecasting
    import models

    assert Path(models.__file__).parent == ROOT / "models"
    assert Path(forecasting.__file__).parent == ROOT / "forecasting"


def test_the_library_never_reads_the_clock_nor_the_global_generator() -> None:
    banned = {
        "date.today",
        "datetime.now",
        "datetime.utcnow",
        "Timestamp.now",
        "Timestamp.today",
        "np.random.seed",
        "np.random.rand",
    }
    for path in MODELS + FORECASTING:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                used = ast.unparse(node)
                assert not any(used.endswith(name) for name in banned), f"{path.name} uses {used}"

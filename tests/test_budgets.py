"""Size budgets, so that nobody argues about them: short functions, files one can read, few parameters."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for top in ("models", "forecasting", "benchmarks") for p in (ROOT / top).rglob("*.py"))
MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
MAX_PARAMETERS = 9


def functions(path: Path) -> list[ast.FunctionDef]:
    """All functions and methods of a file."""
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)]


def code_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = ast.get_docstring(function)
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_size(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= MAX_FILE_LINES
    too_long = [f"{f.name}: {code_lines(f)} lines" for f in functions(path) if code_lines(f) > MAX_FUNCTION_LINES]
    assert not too_long


def is_kernel(function: ast.FunctionDef) -> bool:
    """Compiled kernels take plain arrays, one by one: records cannot cross into them."""
    return any("jit" in ast.unparse(decorator) for decorator in function.decorator_list)


def is_command(function: ast.FunctionDef) -> bool:
    """Each option of the command line is a parameter of its function: there is no other way to say it."""
    return any("app.command" in ast.unparse(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_parameters(path: Path) -> None:
    for function in functions(path):
        arguments = function.args
        count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
        assert is_kernel(function) or is_command(function) or count <= MAX_PARAMETERS, (
            f"{function.name} takes {count} parameters"
        )
        assert arguments.kwarg is None, (
            f"{function.name} passes **{arguments.kwarg.arg} through" if arguments.kwarg else ""
        )

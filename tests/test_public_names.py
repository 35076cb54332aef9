"""What the packages export is listed, sorted, importable and documented."""

import importlib
import inspect
import subprocess
import sys

import pytest

PACKAGES = ["models", "forecasting"]


@pytest.mark.parametrize("package", PACKAGES)
def test_all_is_sorted_and_every_name_resolves(package: str) -> None:
    module = importlib.import_module(package)
    assert list(module.__all__) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_function_and_record_is_documented(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isfunction(thing) or inspect.isclass(thing):
            assert inspect.getdoc(thing), f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(importlib.import_module(package), "nonsense")  # noqa: B009


def test_importing_the_packages_is_light() -> None:
    heavy = "pymc pytensor arviz numba matplotlib pandas duckdb scipy"
    code = f"import sys, models, forecasting; print([m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

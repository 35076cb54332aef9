"""Every error this project raises on purpose.

    DealcastError
    ├── InputError(ValueError)           the data cannot be used as they are
    │   ├── MissingColumnError           a table lacks a column the contract asks for
    │   ├── UnknownStageError            the stage history names a stage the settings do not know
    │   └── EmptyInputError              no rows, no deal, no open deal or no won deal where one is needed
    ├── SettingsError(ValueError)        a job file, an argument or a stage graph contradicts itself
    ├── DiagnosticsError(RuntimeError)   the fit ran and its diagnostics failed: nothing was published
    └── MissingPackageError(ImportError) an optional package is not installed

Each message says what was expected, what came and what to do next. The command line turns a class into an exit code
through ``exit_code``.
"""

from typing import ClassVar


class DealcastError(Exception):
    """Base of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1


class InputError(DealcastError, ValueError):
    """The data cannot be used as they are."""


class MissingColumnError(InputError):
    """A table lacks a column the contract asks for."""


class UnknownStageError(InputError):
    """The stage history names a stage the settings do not know."""


class EmptyInputError(InputError):
    """There are no rows, no deal, no open deal or no won deal where one is needed."""


class SettingsError(DealcastError, ValueError):
    """A job file, an argument or a stage graph contradicts itself."""


class DiagnosticsError(DealcastError, RuntimeError):
    """The fit ran, its diagnostics failed, and nothing was published."""

    exit_code: ClassVar[int] = 3


class MissingPackageError(DealcastError, ImportError):
    """An optional package is not installed."""

    def __init__(self, package: str, *, extra: str, feature: str) -> None:
        super().__init__(f"{feature} needs the package {package!r}: install it with  pip install 'dealcast[{extra}]'")

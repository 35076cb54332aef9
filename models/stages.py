"""The stages of a pipeline: open ones in order, then the kinds of won and lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from models.errors import SettingsError, UnknownStageError


@dataclass(frozen=True)
class StageGraph:
    """Stages a deal can be in; the code of a stage is its place in ``stages``.

    Which moves exist is not declared: every move seen in the history is possible, back moves and skips too.

    Parameters
    ----------
    open : sequence of str
        Open stages in selling order.
    won, lost : sequence of str
        Terminal stages, at least one of each.

    Examples
    --------
    >>> graph = StageGraph(open=["Lead", "Proposal"], won=["Won"], lost=["Lost"])
    >>> graph.stages
    ('Lead', 'Proposal', 'Won', 'Lost')
    >>> graph.code("Won"), graph.is_open(1), graph.won_codes
    (2, True, (2,))
    """

    open: Sequence[str]
    won: Sequence[str]
    lost: Sequence[str]

    def __post_init__(self) -> None:
        for name in ("open", "won", "lost"):
            given = getattr(self, name)
            if isinstance(given, str) or not all(isinstance(stage, str) and stage.strip() for stage in given):
                raise SettingsError(f"stages.{name} must be a list of stage names, got {given!r}")
            object.__setattr__(self, name, tuple(given))
            if not getattr(self, name):
                raise SettingsError(f"stages.{name} is empty: name at least one stage")
        repeated = sorted({stage for stage in self.stages if self.stages.count(stage) > 1})
        if repeated:
            raise SettingsError(f"each stage may be listed once, these come twice: {', '.join(repeated)}")

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """All stages: open in order, won, lost."""
        return (*self.open, *self.won, *self.lost)

    @cached_property
    def codes(self) -> dict[str, int]:
        """Stage name to code."""
        return {stage: code for code, stage in enumerate(self.stages)}

    @property
    def n_open(self) -> int:
        """Number of open stages; codes below it are open."""
        return len(self.open)

    @property
    def won_codes(self) -> tuple[int, ...]:
        """Codes of the won stages."""
        return tuple(range(self.n_open, self.n_open + len(self.won)))

    @property
    def lost_codes(self) -> tuple[int, ...]:
        """Codes of the lost stages."""
        return tuple(range(self.n_open + len(self.won), len(self.stages)))

    def code(self, stage: str) -> int:
        """Code of a stage name.

        Raises
        ------
        UnknownStageError
            The name is not one of ``stages``.
        """
        try:
            return self.codes[stage]
        except KeyError:
            raise UnknownStageError(
                f"unknown stage {stage!r}: expected one of {', '.join(self.stages)}; "
                "add it to open, won or lost in the stage settings"
            ) from None

    def is_open(self, code: int) -> bool:
        """Whether the code belongs to an open stage."""
        return 0 <= code < self.n_open

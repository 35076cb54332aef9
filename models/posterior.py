"""Everything believed at one as-of date, in one record: how deals move, what they are worth, how many will come.

Draw i is draw i in all parts, the calendar among them where one was asked for. A posterior is saved as a folder of
``.npz`` arrays and one JSON file: no pickle, so a file from elsewhere can be read without trusting it.
"""

import json
import zlib
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, get_args
from zipfile import BadZipFile

import numpy as np

from models.amounts import AmountPosterior
from models.arrivals.model import ArrivalPosterior
from models.calendar.days import DEFAULT_CALENDAR, PERIOD_END, CalendarOptions
from models.calendar.model import CalendarPosterior
from models.errors import InputError, SettingsError
from models.levels.posterior import LevelPosterior
from models.stage_model.options import Inference, checked_seed
from models.stage_model.posterior import Diagnostics, StagePosterior, load_stage_posterior

SCHEMA_VERSION = 4
META_FILE, STAGE_FILE, AMOUNTS_FILE, ARRIVALS_FILE = "posterior.json", "stages.npz", "amounts.npz", "arrivals.npz"
CALENDAR_FILE = "calendar.npz"
LEVELS_FILE = "levels.npz"


_DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile, zlib.error)
"""What reading files raises that were cut short, mixed up or written by something else."""


@dataclass(frozen=True)
class ModelSpec:
    """What was asked of the models.

    Parameters
    ----------
    segment : tuple of str
        Columns whose values form the segments, partially pooled.
    covariates : tuple of str
        Further columns that change how deals move; ``log_amount`` stands for classes of the amount.
    durations : str
        Family of the times to transition for all stages, or ``auto``.
    inference : str
        ``nuts`` or ``fast``.
    draws : int
        Posterior draws.
    seed : int
    window_days : int or None
        Only what began within so many days before the as-of date is learned from; None takes all of the past.
    calendar : tuple of str
        Which properties of a date change how many deals are won and lost on it: any of ``weekday``, ``holiday`` and
        ``period_end``; none leaves all days alike.
    holidays : str or None
        Country or subdivision whose holidays count, such as ``"NL"`` or ``"US-CA"``.
    fiscal_year_start : int
        Month in which quarters begin, for their ends in the calendar.
    """

    segment: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ("log_amount",)
    durations: str = "auto"
    inference: Inference = "nuts"
    draws: int = 4000
    seed: int = 0
    window_days: int | None = None
    calendar: tuple[str, ...] = DEFAULT_CALENDAR
    holidays: str | None = None
    fiscal_year_start: int = 1

    def __post_init__(self) -> None:
        _ = self.calendar_options  # complains of what it cannot be
        if self.inference not in get_args(Inference):
            raise SettingsError(f"expected inference 'nuts' or 'fast', got {self.inference!r}")
        object.__setattr__(self, "seed", checked_seed(self.seed))

    @property
    def calendar_options(self) -> CalendarOptions:
        """The calendar asked for, checked."""
        start = self.fiscal_year_start if PERIOD_END in self.calendar else 1
        return CalendarOptions(self.calendar, self.holidays, start)


@dataclass(frozen=True)
class Posterior:
    """What is believed at the as-of date.

    Parameters
    ----------
    as_of : date
        Nothing recorded later was used.
    spec : ModelSpec
    stage : StagePosterior
        Where deals go next, and when.
    amounts : AmountPosterior
        Amount at the win given what is known of it.
    arrivals : ArrivalPosterior
        Deals not created yet.
    inputs_sha256 : str
        Hash of the input files, to tell whether a saved posterior still fits the data.
    calendar : CalendarPosterior or None
        How much each date counts; None when all days are alike.
    levels : LevelPosterior or None
        How much faster or slower than usual deals move now; None in a posterior saved before it was learned.
    """

    as_of: date
    spec: ModelSpec
    stage: StagePosterior
    amounts: AmountPosterior
    arrivals: ArrivalPosterior
    inputs_sha256: str
    calendar: CalendarPosterior | None = None
    levels: LevelPosterior | None = None

    def __post_init__(self) -> None:
        parts = (self.stage, self.amounts, self.arrivals, self.calendar, self.levels)
        counts = {part.n_draws for part in parts if part is not None}
        if len(counts) > 1:
            raise SettingsError(f"all parts of a posterior must have equally many draws, got {sorted(counts)}")

    @property
    def diagnostics(self) -> Diagnostics:
        """The worst of the parts that were sampled: stages and levels."""
        parts = [self.stage.diagnostics] + ([] if self.levels is None else [self.levels.diagnostics])
        return Diagnostics.worst_of(parts)


def save_posterior(posterior: Posterior, folder: str | Path) -> Path:
    """Write a posterior as a folder of arrays and one JSON file.

    Parameters
    ----------
    posterior : Posterior
    folder : path
        Made when missing; files of an earlier posterior in it are replaced.

    Returns
    -------
    Path
        The folder.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"cannot write a posterior to {folder}: {error.strerror}; choose another folder") from None
    (folder / META_FILE).unlink(missing_ok=True)  # written last: what is stopped half way holds no posterior
    posterior.stage.save(folder / STAGE_FILE)
    amount_arrays, amount_meta = posterior.amounts.to_arrays()
    arrival_arrays, arrival_meta = posterior.arrivals.to_arrays()
    np.savez_compressed(folder / AMOUNTS_FILE, allow_pickle=False, **amount_arrays)
    np.savez_compressed(folder / ARRIVALS_FILE, allow_pickle=False, **arrival_arrays)
    level_meta = None
    if posterior.levels is not None:
        level_arrays, level_meta = posterior.levels.to_arrays()
        np.savez_compressed(folder / LEVELS_FILE, allow_pickle=False, **level_arrays)
    meta = {
        "schema_version": SCHEMA_VERSION,
        "as_of": posterior.as_of.isoformat(),
        "inputs_sha256": posterior.inputs_sha256,
        "spec": asdict(posterior.spec),
        "amounts": amount_meta,
        "arrivals": arrival_meta,
        "calendar": None,
        "levels": level_meta,
    }
    if posterior.calendar is not None:
        calendar_arrays, meta["calendar"] = posterior.calendar.to_arrays()
        np.savez_compressed(folder / CALENDAR_FILE, allow_pickle=False, **calendar_arrays)
    (folder / META_FILE).write_text(json.dumps(meta, indent=2), encoding="utf-8")
    return folder


def load_posterior(folder: str | Path) -> Posterior:
    """Read what :func:`save_posterior` wrote.

    Raises
    ------
    InputError
        The folder holds no posterior, one written by another version, or a damaged one.
    """
    folder = Path(folder)
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"no saved posterior in {folder}: expected {META_FILE} there ({error}); run the fit again"
        ) from None
    version = meta.get("schema_version") if isinstance(meta, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"the posterior in {folder} has schema version {version}, this release reads {SCHEMA_VERSION}; run the fit again"
        )
    try:
        return _loaded(folder, meta)
    except _DAMAGE as error:
        raise InputError(f"the posterior in {folder} is damaged ({error}); run the fit again") from None


def _loaded(folder: Path, meta: dict[str, Any]) -> Posterior:
    amounts = AmountPosterior.from_arrays(_arrays(folder / AMOUNTS_FILE), meta["amounts"])
    arrivals = ArrivalPosterior.from_arrays(_arrays(folder / ARRIVALS_FILE), meta["arrivals"])
    levels = None
    if meta.get("levels") is not None:
        levels = LevelPosterior.from_arrays(_arrays(folder / LEVELS_FILE), meta["levels"])
    return Posterior(
        as_of=date.fromisoformat(meta["as_of"]),
        spec=_spec(meta["spec"]),
        stage=load_stage_posterior(folder / STAGE_FILE),
        amounts=amounts,
        arrivals=arrivals,
        inputs_sha256=meta["inputs_sha256"],
        calendar=_calendar(folder, meta.get("calendar")),
        levels=levels,
    )


def _spec(saved: dict[str, Any]) -> ModelSpec:
    """Read settings from JSON; those of a release without a calendar asked for none."""
    tuples = {name: tuple(saved.get(name, ())) for name in ("segment", "covariates", "calendar")}
    return ModelSpec(**saved | tuples)


def _calendar(folder: Path, meta: dict[str, Any] | None) -> CalendarPosterior | None:
    if meta is None:
        return None
    return CalendarPosterior.from_arrays(_arrays(folder / CALENDAR_FILE), meta)


def _arrays(path: Path) -> dict[str, Any]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:  # closed even where it is damaged
        return dict(arrays)

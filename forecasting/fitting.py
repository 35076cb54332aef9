"""Fit all that a forecast needs: how deals move, and how fast now, what they are worth, how many will come."""

from collections.abc import Callable, Sequence
from datetime import date

import pandas as pd

from forecasting.config import DEFAULT_COVARIATES
from forecasting.data.deal_factors import AMOUNT
from forecasting.data.deals import Deals
from forecasting.data.snapshot import Snapshot, cut, stage_history, within
from models.amounts import fit_amounts
from models.arrivals.model import fit_arrivals
from models.calendar.expected import dated_exits
from models.calendar.model import CalendarPosterior, fit_calendar
from models.errors import EmptyInputError
from models.levels.fit import fit_levels
from models.posterior import ModelSpec, Posterior
from models.stage_model.fit import fit_stages
from models.stage_model.options import Inference
from models.stage_model.posterior import StagePosterior

CLOSED_WITHOUT_WIN, DAYS_WITHOUT_WIN = 100, 365
"""Closed deals, or days, after which a history without a win is taken for a wrong setting, not for a young company."""
Progress = Callable[[str, int, int], None]
"""Called with the name of the stage that is done, how many are done, and how many there are."""


def fit(
    deals: Deals,
    *,
    as_of: date | str,
    segment: Sequence[str] = (),
    covariates: Sequence[str] = DEFAULT_COVARIATES,
    durations: str = "auto",
    inference: Inference = "nuts",
    draws: int = 4000,
    seed: int,
    progress: Progress | None = None,
) -> Posterior:
    """Fit the models to what was known at the end of the as-of date.

    Parameters
    ----------
    deals : Deals
        From :func:`forecasting.read_deals`.
    as_of : date or ISO text
        Nothing recorded later is used.
    segment : sequence of str
        Columns whose values form segments; partially pooled.
    covariates : sequence of str
        Further columns that change how deals move. ``log_amount`` stands for classes of the amount known at the time.
    durations : str
        Family of the times to transition, or ``auto``: chosen per stage by leave-one-out prediction.
    inference : {"nuts", "fast"}
        NUTS for a published run; a Laplace approximation of the same posterior for many refits.
    draws : int
        Posterior draws.
    seed : int
    progress : callable, optional

    Returns
    -------
    Posterior

    Raises
    ------
    EmptyInputError
        Nothing happened up to the as-of date, no deal has an amount, or none was won though dozens were closed.
    SettingsError
        A segment, covariate or family does not exist.

    Examples
    --------
    >>> from forecasting.data.sample import demo_history
    >>> from forecasting.data.deals import deals_from_frames
    >>> demo = demo_history(seed=1, n_deals=300)
    >>> deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone="Europe/Amsterdam")
    >>> posterior = fit(deals, as_of=demo.as_of, inference="fast", draws=200, seed=1)
    >>> posterior.stage.n_draws, posterior.amounts.n_draws, posterior.arrivals.n_draws
    (200, 200, 200)
    """
    spec = ModelSpec(tuple(segment), tuple(covariates), durations, inference, draws, seed)
    return fit_spec(deals, as_of=as_of, spec=spec, progress=progress)


def fit_spec(deals: Deals, *, as_of: date | str, spec: ModelSpec, progress: Progress | None = None) -> Posterior:
    """Fit with all that can be asked of the models in one record, calendar and window included; see :func:`fit`.

    Parameters
    ----------
    deals : Deals
    as_of : date or ISO text
    spec : ModelSpec
    progress : callable, optional

    Returns
    -------
    Posterior

    Raises
    ------
    EmptyInputError, SettingsError
        As :func:`fit`; or the calendar names what there is not.
    """
    snapshot = cut(deals, as_of=as_of, segment=spec.segment, covariates=spec.covariates)
    if len(snapshot.stays):  # a history without any deal has an error of its own
        check_won(snapshot)
    return fit_snapshot(snapshot, spec=spec, inputs_sha256=deals.inputs_sha256, progress=progress)


def check_won(snapshot: Snapshot) -> None:
    """Raise an EmptyInputError where no deal was won with an amount, though by now one should have been."""
    if snapshot.won["amount"].notna().any():
        return
    days = (pd.Timestamp(snapshot.as_of) - snapshot.stays["entered_on"].min()).days
    if snapshot.closed.n >= CLOSED_WITHOUT_WIN or days > DAYS_WITHOUT_WIN:
        raise EmptyInputError(
            f"no deal was won with an amount by {snapshot.as_of}, though {snapshot.closed.n} were closed or a year has gone "
            "by: check stages.won in the job file, and whether won deals have amounts"
        )


def fit_snapshot(
    snapshot: Snapshot,
    *,
    spec: ModelSpec,
    inputs_sha256: str = "",
    levels: bool = True,
    progress: Progress | None = None,
) -> Posterior:
    """Fit the models to deals already cut at a date, see :func:`fit`; the levels of the moment only if asked for.

    Before the first win, which a past date of a backtest may precede, amounts are borrowed from deals of any fate.
    """
    if spec.window_days is not None:
        snapshot = within(snapshot, spec.window_days)
    stage = fit_stages(
        stage_history(snapshot),
        durations=spec.durations,
        inference=spec.inference,
        draws=spec.draws,
        seed=spec.seed,
        progress=progress,
    )
    draws, arrived = stage.n_draws, _with_classes(snapshot)  # chains are equally long: maybe a few more than asked for
    amounts = fit_amounts(
        snapshot.stays[["deal_id", "stage", "amount"]],
        snapshot.won,
        arrived,
        n_stages=snapshot.graph.n_open,
        draws=draws,
        seed=spec.seed,
    )
    arrivals = fit_arrivals(arrived, amounts, as_of=snapshot.as_of, cells=snapshot.cells, draws=draws, seed=spec.seed)
    now = None
    if levels:
        now = fit_levels(snapshot.learned_stays, stage, cells=snapshot.cells, as_of=snapshot.as_of, seed=spec.seed)
    calendar = _calendar(snapshot, stage, spec)
    return Posterior(snapshot.as_of, spec, stage, amounts, arrivals, inputs_sha256, calendar, now)


def _with_classes(snapshot: Snapshot) -> pd.DataFrame:
    """Arrivals with the class of the amount, where deals are told apart by it."""
    names = [factor.name for factor in snapshot.factors]
    if AMOUNT not in names:
        return snapshot.arrivals
    code = snapshot.cells[:, names.index(AMOUNT)]
    return snapshot.arrivals.assign(amount_class=code[snapshot.arrivals["cell"].to_numpy()])


def _calendar(snapshot: Snapshot, stage: StagePosterior, spec: ModelSpec) -> CalendarPosterior | None:
    if not spec.calendar:
        return None
    exits = dated_exits(snapshot.learned_stays, stage, snapshot.cells, snapshot.graph)
    return fit_calendar(exits, options=spec.calendar_options, draws=stage.n_draws, seed=spec.seed)

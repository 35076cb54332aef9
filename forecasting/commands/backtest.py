"""``dealcast backtest``."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from forecasting.commands.progress import shown_progress
from forecasting.commands.terminal import Outcome
from forecasting.config import read_job
from forecasting.output.words import day, money
from forecasting.proof.backtest_result import BacktestResult
from forecasting.proof.backtesting import BacktestOptions, backtest, origin_dates
from models.errors import SettingsError


@dataclass(frozen=True)
class Span:
    """Which past dates: either listed, or from ``first`` to ``last`` at steps."""

    first: str | None
    last: str | None
    every: str
    origins: str | None


def run_backtest(path: Path, *, span: Span, horizon: str, nuts: bool, as_json: bool) -> Outcome:
    """Forecast at past dates and score the forecasts."""
    job = read_job(path)
    model, asked = job.config.model, job.config.forecast
    options = BacktestOptions(
        segment=model.segment,
        covariates=model.covariates,
        durations=model.durations,
        inference="nuts" if nuts else "fast",
        draws=asked.draws,
        new_business=asked.new_business,
        calendar=model.calendar,
        holidays=model.holidays,
        fiscal_year_start=asked.fiscal_year_start,
    )
    with shown_progress(wanted=not as_json) as progress:

        def told(origin: date, done: int, total: int) -> None:
            progress(f"forecast of {day(origin)}", done, total)

        result = backtest(
            job.deals,
            origins=_origins(span),
            horizon=horizon,
            options=options,
            calibrate=asked.calibrate,
            progress=told,
            seed=model.seed,
        )
    return Outcome(_text(result, job.deals.currency), result.to_dict())


def _origins(span: Span) -> list[date] | list[str]:
    if span.origins is not None:
        return [origin.strip() for origin in span.origins.split(",")]
    if span.first is None or span.last is None:
        raise SettingsError("which past dates? give --from and --to, or --origins DATE,DATE,...")
    return list(origin_dates(span.first, span.last, every=span.every))


def _text(result: BacktestResult, currency: str | None) -> str:
    found = result.summary()
    lines = [f"{'as of':<13}{'actual':>10}{'median':>10}{'p10':>10}{'p90':>10}  80% range"]
    prefix, actual = ("", "actual") if result.new_business else ("open_", "actual_open")
    for row in result.table.to_dict("records"):
        low, high, came = row[f"{prefix}p10"], row[f"{prefix}p90"], row[actual]
        numbers = "".join(f"{money(value):>10}" for value in (came, row[f"{prefix}p50"], low, high))
        verdict = "hit" if low <= came <= high else "too high" if came < low else "too low"
        lines.append(f"{day(row['as_of']):<13}{numbers}  {verdict}")
    what = "all revenue" if result.new_business else "revenue of open deals"
    lines += ["", f"{found['n']} forecasts of {what}{f' in {currency}' if currency else ''}, {result.horizon} ahead:"]
    for level, hits in found["coverage"].items():
        lines.append(
            f"  {level}% range: {hits['hits']} of {hits['n']} hit; by chance alone an honest one hits "
            f"{hits['expected_low']} to {hits['expected_high']}"
        )
    lines.append(
        f"  CRPS {money(found['crps'])}, error of the median {found['median_ape']:.0%} of the actual on average"
    )
    lines += [f"  {skill:+.0%} better than {name}" for name, skill in found["skill"].items()]
    return "\n".join(lines)

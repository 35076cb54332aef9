"""The selling calendar: kinds of days against counting by hand, planted weights found again, odd weeks not believed."""

from datetime import date, timedelta

import holidays
import numpy as np
import pandas as pd
import pytest
from planted_stays import EXITS, GRAPH, base_hazards
from scipy.optimize import minimize
from scipy.stats import nbinom, norm

from models.calendar.counts import LEVEL_SD, DatedCounts, fit_effects
from models.calendar.days import NO_CLASS, CalendarOptions, day_classes, holiday_dates, selling_days_to_go
from models.calendar.expected import KINDS, DatedExits, dated_exits
from models.calendar.model import CalendarPosterior, calendar_table, fit_calendar, pace
from models.errors import SettingsError
from models.hazards import PlantedHazards
from models.history import STILL_OPEN

FIRST = np.datetime64("2024-01-01")  # a Monday
WEEKDAY_WEIGHT = np.array([1.5, 1.0, 1.2, 1.3, 1.6, 0.3, 0.1])


def dates(n: int) -> np.ndarray:
    return FIRST + np.arange(n).astype("timedelta64[D]")


def counted(weight: np.ndarray, *, mean: float, seed: int, noise: float = 0.1) -> np.ndarray:
    """Negative binomial counts by date around ``mean`` times a weight, on a level that wanders week by week."""
    rng = np.random.default_rng(seed)
    level = np.exp(0.1 * rng.standard_normal(len(weight) // 7 + 1))[np.arange(len(weight)) // 7]
    luck = rng.gamma(1 / noise, noise, len(weight))
    return rng.poisson(mean * weight * level * luck).astype(float)


def exits_with(won: np.ndarray, lost: np.ndarray, *, mean: float = 6.0) -> DatedExits:
    on = np.full(len(won), 3.0)
    return DatedExits(FIRST, np.column_stack([won, lost, on]), np.full((len(won), len(KINDS)), mean))


def drawn_weights(calendar: CalendarPosterior, kind: str, days: int = 7) -> np.ndarray:
    """Weights of the first days from a Monday on, shape (draw, day)."""
    return pace(calendar, as_of=date(2023, 12, 31), days=days, draws=calendar.n_draws, kind=kind)


# ------------------------------------------------------------------ kinds of days


@pytest.mark.parametrize(("code", "fiscal_year_start"), [(None, 1), ("NL", 1), ("US-CA", 2)])
def test_kinds_of_days_are_those_counted_by_hand(code: str | None, fiscal_year_start: int) -> None:
    parts = ("weekday", "period_end") if code is None else ("weekday", "holiday", "period_end")
    options = CalendarOptions(parts, code, fiscal_year_start)
    off = set()
    if code is not None:
        country, _, part = code.partition("-")
        off = set(holidays.country_holidays(country, subdiv=part or None, years=range(2024, 2027)))
    days = dates(800)
    for number, row in enumerate(day_classes(options, days)):
        found = {options.classes[place] for place in row if place != NO_CLASS}
        assert found == by_hand(days[number].astype(date), off, fiscal_year_start, code is not None)


def by_hand(day: date, off: set[date], fiscal_year_start: int, told: bool) -> set[tuple[str, str]]:
    found = {("weekday", day.strftime("%A"))}
    if told and day in off and day.weekday() < 5:
        found.add(("holiday", "holiday"))
    left, ahead = 0, day
    while ahead.month == day.month:
        left += ahead.weekday() < 5 and ahead not in off
        ahead += timedelta(days=1)
    name = "last selling day" if left <= 1 else f"{'2 to 3' if left <= 3 else '4 to 7'} selling days to go"
    if left <= 7:
        found.add(("month end", name))
        if (day.month - fiscal_year_start + 1) % 3 == 0:
            found.add(("quarter end", name))
    return found


def test_holidays_of_a_subdivision_are_more_than_those_of_its_country() -> None:
    country, part = (set(holiday_dates(code, 2026, 2026).tolist()) for code in ("US", "US-CA"))
    assert date(2026, 3, 31) in part - country  # César Chávez Day
    off = holiday_dates("NL", 2025, 2025)
    assert selling_days_to_go(np.array(["2025-12-24"], dtype="datetime64[D]"), off)[0] == 4  # both Christmas days off


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ((("weekdays",), None), "calendar must name each of weekday, holiday, period_end.*got weekdays"),
        ((("weekday", "weekday"), None), "at most once"),
        ((("holiday",), None), "set holidays to a code such as 'NL'"),
        ((("holiday",), "XX"), "country or subdivision code.*got 'XX'"),
        ((("holiday",), "NL-CA"), "country or subdivision code.*got 'NL-CA'"),
    ],
)
def test_a_calendar_that_cannot_be_is_refused(options: tuple[tuple[str, ...], str | None], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        CalendarOptions(*options)


# ------------------------------------------------------------------ expected exits


def test_expected_exits_are_the_daily_chances_added_up_by_hand() -> None:
    rng = np.random.default_rng(1)
    effect = np.exp(0.3 * rng.standard_normal((1, 3, 2, 2)))
    base = base_hazards(60)[None] * np.array([0.8, 1.2])[:, None, None, None]  # two draws around the true one
    source = PlantedHazards(np.array([[1, 3], [2, 3]], dtype=np.int16), base, np.repeat(effect, 2, axis=0))
    n = 50
    stays = pd.DataFrame(
        {
            "cell": rng.integers(0, 3, n),
            "stage": rng.integers(0, 2, n),
            "days": rng.integers(0, 40, n),
            "entered_on": FIRST + rng.integers(0, 30, n).astype("timedelta64[D]"),
        }
    )
    stays["next"] = [STILL_OPEN if rng.random() < 0.3 else EXITS[stage][rng.integers(2)] for stage in stays["stage"]]
    stays["days_unseen"] = np.minimum(rng.integers(0, 9, n) * (rng.random(n) < 0.5), stays["days"])
    exits = dated_exits(stays, source, np.arange(3, dtype=np.int32)[:, None], GRAPH)
    expected, seen = np.zeros((100, 3)), np.zeros((100, 3))
    kinds = {1: "on", 2: "won", 3: "lost"}
    watched = stays["entered_on"] + pd.to_timedelta(stays["days_unseen"], unit="D")
    start = watched.min().to_datetime64().astype("datetime64[D]")
    for stay in stays.itertuples():
        day = int((stay.entered_on.to_datetime64().astype("datetime64[D]") - start).astype(int))
        for age in range(stay.days_unseen, stay.days + 1):
            hazard = base_hazards(60)[stay.stage, :, age] * effect[0, stay.cell, stay.stage]
            for slot, target in enumerate(EXITS[stay.stage]):
                chance = (1 - np.exp(-hazard.sum())) * hazard[slot] / hazard.sum()
                expected[day + age, KINDS.index(kinds[target])] += chance
        if stay.next != STILL_OPEN:
            seen[day + stay.days, KINDS.index(kinds[stay.next])] += 1
    assert exits.first == start
    np.testing.assert_allclose(exits.expected, expected[: len(exits.expected)], rtol=1e-12)
    np.testing.assert_array_equal(exits.seen, seen[: len(exits.seen)])
    assert not expected[len(exits.expected) :].any()


def test_the_week_around_a_date_is_a_whole_week_at_the_ends_too() -> None:
    weekly = exits_with(np.zeros(30), np.zeros(30))
    expected = np.tile(np.arange(30.0)[:, None], 3)
    smooth = DatedExits(FIRST, weekly.seen, expected).weekly_expected()[:, 0]
    assert smooth.tolist() == [3.0] * 3 + list(np.arange(3.0, 27.0)) + [26.0] * 3
    pattern = np.tile(WEEKDAY_WEIGHT, 5)[:, None] * np.ones(3)
    np.testing.assert_allclose(DatedExits(FIRST, pattern, pattern).weekly_expected(), WEEKDAY_WEIGHT.mean())


# ------------------------------------------------------------------ the fit


def test_laplace_agrees_with_weighing_many_draws() -> None:
    """Evidence, and mean and sd of an effect, against importance sampling of all unknowns by an independent density."""
    rng = np.random.default_rng(2)
    n = 42
    busy = (np.arange(n) % 7 < 3).astype(np.int64)
    seen, expected = rng.poisson(np.where(busy, 9.0, 3.0)).astype(float), np.full(n, 5.0)
    counts = DatedCounts(
        seen=seen, expected=expected, column=busy[:, None], stretch=np.arange(n) // 7, factor=np.zeros(2, dtype=np.int64),
        sort=np.zeros(6, dtype=np.int64), prior=np.array([[0.0, 1.0]]), sort_prior=np.array([[0.0, 1.0]]),
    )  # fmt: skip
    spread, luck_sd, noise = 0.6, 0.15, 0.08
    told = fit_effects(counts, np.log([spread, luck_sd, noise]))
    mode, precision = told.mode, told.precision
    sd = np.array([spread, spread, LEVEL_SD, *[luck_sd] * 6])

    def log_density(x: np.ndarray) -> np.ndarray:
        log_mean = np.log(expected) + x[:, busy] + x[:, [2]] + x[:, 3 + np.arange(n) // 7]
        chance = 1 / (1 + noise * np.exp(log_mean))
        return nbinom.logpmf(seen, 1 / noise, chance).sum(axis=1) + norm.logpdf(x, scale=sd).sum(axis=1)

    found = minimize(lambda x: -log_density(x[None])[0], np.zeros(9), method="BFGS", options={"gtol": 1e-6})
    root = np.linalg.cholesky(found.hess_inv * 1.3)
    z = rng.standard_normal((40_000, 9))
    points = found.x + z @ root.T
    log_weight = log_density(points) - (norm.logpdf(z).sum(axis=1) - np.log(np.diag(root)).sum())
    weight = np.exp(log_weight - log_weight.max())
    assert told.log_evidence == pytest.approx(log_weight.max() + np.log(weight.mean()), abs=0.05)
    # the level trades off against the effects; their difference is what the data tell
    difference = points[:, 1] - points[:, 0]
    mean = np.average(difference, weights=weight)
    covariance = np.linalg.inv(precision)
    true_sd = np.sqrt(np.average((difference - mean) ** 2, weights=weight))
    assert mode[1] - mode[0] == pytest.approx(mean, abs=0.1 * true_sd)
    contrast = np.array([-1.0, 1.0, 0.0])
    assert np.sqrt(contrast @ covariance @ contrast) == pytest.approx(true_sd, rel=0.05)


def test_planted_weights_are_found_for_won_and_for_lost_apart() -> None:
    """90 % ranges of all weekdays over ten histories hold the truth about that often."""
    lost_weight = np.array([0.6, 0.8, 1.0, 1.4, 2.0, 0.7, 0.5])
    held = []
    for seed in range(10):
        weights = [np.resize(weight / weight.mean(), 371) for weight in (WEEKDAY_WEIGHT, lost_weight)]
        exits = exits_with(*(counted(weight, mean=6.0, seed=2 * seed + k) for k, weight in enumerate(weights)))
        calendar = fit_calendar(exits, options=CalendarOptions(("weekday",)), draws=400, seed=seed)
        for kind, truth in zip(("won", "lost"), weights, strict=True):
            low, middle, high = np.quantile(drawn_weights(calendar, kind), [0.05, 0.5, 0.95], axis=0)
            held += list((low <= truth[:7]) & (truth[:7] <= high))
            np.testing.assert_allclose(np.log(middle), np.log(truth[:7]), atol=0.6)
    assert 0.8 <= np.mean(held) <= 0.97


def test_without_a_calendar_in_the_past_weights_stay_near_one() -> None:
    held, middle = [], []
    options = CalendarOptions(("weekday", "holiday", "period_end"), "NL")
    for seed in range(8):
        won, lost = (counted(np.ones(500), mean=6.0, seed=seed + shift) for shift in (0, 100))
        calendar = fit_calendar(exits_with(won, lost), options=options, draws=300, seed=seed)
        table = calendar_table(calendar)
        table = table[table["kind"] != "on"]
        held += list((table["p05"] <= 1) & (table["p95"] >= 1))
        middle += list(table["p50"])
    assert np.mean(held) > 0.9
    assert np.abs(np.log(middle)).mean() < 0.05


def test_few_exits_fall_back_to_weights_of_one_and_none_gives_exactly_one() -> None:
    won = np.zeros(200)
    won[[4, 60, 131]] = 1.0
    calendar = fit_calendar(
        exits_with(won, 0 * won, mean=0.015), options=CalendarOptions(("weekday",)), draws=400, seed=1
    )
    assert np.abs(np.log(np.median(drawn_weights(calendar, "won"), axis=0))).max() < 0.2
    assert (drawn_weights(calendar, "lost") == 1.0).all()


def test_the_average_past_day_has_weight_one() -> None:
    exits = exits_with(counted(np.resize(WEEKDAY_WEIGHT, 364), mean=8.0, seed=5), np.zeros(364))
    options = CalendarOptions(("weekday", "holiday", "period_end"), "NL")
    calendar = fit_calendar(exits, options=options, draws=200, seed=5)
    assert drawn_weights(calendar, "won", days=364).mean(axis=1) == pytest.approx(1.0)


def test_a_push_at_period_ends_is_believed_after_many_of_them_and_not_after_one() -> None:
    options = CalendarOptions(("weekday", "period_end"))

    def pushed(n: int) -> pd.Series:
        near = selling_days_to_go(dates(n), np.zeros(0, dtype="datetime64[D]"))
        quarter = (dates(n).astype("datetime64[M]").astype(int) % 3) == 2
        weight = np.where(near <= 3, 2.0, 1.0) * np.where(quarter & (near <= 3), 1.5, 1.0)
        exits = exits_with(counted(weight, mean=5.0, seed=3), np.zeros(n))
        table = calendar_table(fit_calendar(exits, options=options, draws=400, seed=3))
        return table[table["kind"] == "won"].set_index(["factor", "day_class"])[["p05", "p50", "p95"]].T

    soon, late = pushed(100), pushed(1400)
    assert (soon["month end"] == 1.0).all(axis=None)
    for day_class in ("last selling day", "2 to 3 selling days to go"):
        low, _, high = late["month end", day_class]
        assert low > 1.4
        assert low < 2.0 < high
        low, _, high = late["quarter end", day_class]
        assert low < 1.5 < high
    assert late.loc["p50", ("month end", "4 to 7 selling days to go")] == pytest.approx(1.0, abs=0.15)


def test_holidays_are_quiet_when_they_were() -> None:
    off = np.isin(dates(1000), holiday_dates("NL", 2024, 2026))
    weight = np.resize(WEEKDAY_WEIGHT, 1000) * np.where(off, 0.1, 1.0)
    exits = exits_with(counted(weight, mean=8.0, seed=4), np.zeros(1000))
    options = CalendarOptions(("weekday", "holiday"), "NL")
    calendar = fit_calendar(exits, options=options, draws=400, seed=4)
    low, high = np.quantile(np.exp(calendar.log_effect[:, KINDS.index("won"), -1]), [0.005, 0.995])
    assert low < 0.1 < high < 0.4
    ahead = pace(calendar, as_of=date(2026, 12, 20), days=7, draws=400, kind="won").mean(axis=0)
    assert ahead[4] < 0.4 < ahead[3]  # Friday 25 December, Thursday 24


def test_the_table_counts_what_was_seen_and_expected() -> None:
    exits = exits_with(counted(np.resize(WEEKDAY_WEIGHT, 210), mean=5.0, seed=6), np.ones(210))
    table = calendar_table(fit_calendar(exits, options=CalendarOptions(("weekday",)), draws=100, seed=6))
    won = table[table["kind"] == "won"]
    assert won["seen"].tolist() == exits.seen[:, 0].reshape(30, 7).sum(axis=0).tolist()
    assert won["expected"].tolist() == pytest.approx([180.0] * 7)
    assert (won["p50"] * won["expected"]).sum() == pytest.approx(won["expected"].sum(), rel=0.02)
    assert won["p50"].to_numpy() * 30 * 6 == pytest.approx(
        won["seen"].to_numpy() * 180 * 7 / won["seen"].sum(), rel=0.3
    )


def test_draw_i_does_not_depend_on_how_many_are_asked_and_arrays_come_back() -> None:
    exits = exits_with(counted(np.resize(WEEKDAY_WEIGHT, 140), mean=5.0, seed=7), np.ones(140))
    calendar = fit_calendar(exits, options=CalendarOptions(("weekday", "holiday"), "DE-BY"), draws=60, seed=7)
    arrays, meta = calendar.to_arrays()
    again = CalendarPosterior.from_arrays(arrays, meta)
    assert again.options == calendar.options
    some, more = (
        pace(c, as_of=date(2024, 6, 1), days=d, draws=n, kind="won") for c, d, n in ((again, 5, 20), (calendar, 9, 60))
    )
    np.testing.assert_array_equal(some, more[:20, :5])
    with pytest.raises(SettingsError, match="kind must be one of won, lost, on"):
        pace(calendar, as_of=date(2024, 6, 1), days=3, draws=5, kind="closed")
    with pytest.raises(SettingsError, match="from 1 to 60"):
        pace(calendar, as_of=date(2024, 6, 1), days=3, draws=61, kind="won")
    with pytest.raises(SettingsError, match="kinds of exits by"):
        CalendarPosterior(CalendarOptions(), calendar.log_effect, calendar.log_level, calendar.seen, calendar.expected)

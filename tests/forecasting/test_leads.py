"""Leads needed against closed forms and brute force."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from planted_floor import (
    AS_OF,
    open_pipeline,
    planted_amounts,
    planted_arrivals,
    planted_stage,
    posterior_of,
    sales_floor,
    snapshot_of,
)
from scipy import stats

from forecasting.answers.forecasts import Forecast, forecast_snapshot, with_calibration
from forecasting.answers.leads import (
    EVENTUAL_DAYS,
    MAX_LEADS,
    USEFUL_SHARE,
    leads_by_draw,
    season_of_span,
    smallest_number,
    win_by_creation,
)
from forecasting.answers.revenue import Span, cents_in
from forecasting.proof.calibration import learn
from forecasting.proof.new_calibration import NewCalibration
from forecasting.proof.past_forecasts import NO_PAST
from models.errors import SettingsError

UNTIL = AS_OF + timedelta(days=30)
SPAN = Span(AS_OF, UNTIL)


def empty_floor(
    draws: int,
    *,
    proposal: tuple[float, float],
    pool: tuple[float, ...] = (1000.0,),
    weekly: float = 7.0,
    days: int = 30,
) -> Forecast:
    """No open deals and no new business of its own; leads start in the second stage."""
    posterior = posterior_of(
        planted_stage(draws, proposal=proposal),
        planted_amounts(draws, pool=pool),
        planted_arrivals(draws, weekly={"": weekly}, stage=1),
    )
    return forecast_snapshot(
        snapshot_of(open_pipeline([])), posterior, until=AS_OF + timedelta(days=days), seed=5, new_business=False
    )


def test_sure_wins_need_exactly_the_gap() -> None:
    """Every lead is won on the day it comes, a thousand each: five thousand and a cent take six leads."""
    floor = empty_floor(100, proposal=(1 - 1e-12, 1e-15))
    answer = floor.leads_needed(target=5000.01, by=UNTIL)
    assert (answer.n, answer.attainment_without, answer.attainment_with) == (6, 0.0, 1.0)
    assert answer.last_useful_creation_date == UNTIL


def test_same_day_fates_are_negative_binomial() -> None:
    """Won or lost on the day of entry, a quarter won: the leads until the fifth win are negative binomial."""
    floor = empty_floor(20_000, proposal=(0.25 - 1e-12, 0.75 - 1e-12))
    needed = leads_by_draw(floor, SPAN, gap=np.full(floor.draws, 500_000))
    exact = stats.nbinom(5, 0.25, loc=5)
    assert needed.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / np.sqrt(floor.draws))
    for confidence in (0.5, 0.8, 0.95):
        assert abs(smallest_number(needed, confidence=confidence) - exact.ppf(confidence)) <= 1  # type: ignore[operator]
    answer = floor.leads_needed(target=5000, by=UNTIL, confidence=0.8)
    assert answer.n is not None
    assert stats.binom.sf(4, answer.n, 0.25) == pytest.approx(0.8, abs=0.03)


def brute_force(floor: Forecast, n: int, *, runs: int, seed: int) -> np.ndarray:
    """Revenue in cents of ``n`` evenly spread leads, each played day by day through the planted floor."""
    rng = np.random.default_rng(seed)
    days = floor.horizon_days
    leave = 1 - np.exp(-floor.posterior.stage.hazards.base[0, :, :, 0].sum(axis=1))  # type: ignore[attr-defined]
    first = floor.posterior.stage.hazards.base[0, :, 0, 0] / floor.posterior.stage.hazards.base[0, :, :, 0].sum(axis=1)  # type: ignore[attr-defined]
    created = np.tile(1 + np.arange(n) * days // n, (runs, 1))
    stage = np.full((runs, n), floor.posterior.arrivals.combo_stage[0])
    for day in range(1, days + 1):
        for code in (0, 1):  # a lead may pass both stages on one day
            here = (stage == code) & (created <= day)
            moved = here & (rng.random(here.shape) < leave[code])
            stage[moved] = np.where(rng.random(int(moved.sum())) < first[code], code + 1, 3)
    pool = floor.posterior.amounts.pool
    return np.where(stage == 2, 100 * rng.choice(pool, stage.shape), 0).sum(axis=1)


@pytest.mark.parametrize("stage", [0, 1])
def test_brute_force_agrees(stage: int) -> None:
    """With the number of leads found, playing them day by day reaches the target as often as said."""
    floor = empty_floor(3000, proposal=(0.08, 0.04), pool=(500.0, 1500.0, 4000.0))
    posterior = replace(floor.posterior, arrivals=planted_arrivals(3000, weekly={"": 7.0}, stage=stage))
    floor = replace(floor, posterior=posterior)
    answer = floor.leads_needed(target=30_000, by=UNTIL, confidence=0.7)
    assert answer.n is not None
    runs = 4000
    played = np.mean(brute_force(floor, answer.n, runs=runs, seed=stage) >= 3_000_000)
    assert played == pytest.approx(answer.attainment_with, abs=4 * np.sqrt(0.25 / runs + 0.25 / floor.draws))


def test_chances_by_creation_day_have_their_closed_form() -> None:
    floor = empty_floor(2, proposal=(0.04, 0.03))
    chance = win_by_creation(floor, np.arange(2), first=1, last=30)[0, 0]
    np.testing.assert_allclose(chance, [4 / 7 * (1 - 0.93 ** (31 - day)) for day in range(1, 31)], rtol=1e-12)
    later = win_by_creation(floor, np.arange(2), first=11, last=30)[0, 0]
    early = [4 / 7 * (1 - 0.93 ** max(11 - day, 0)) for day in range(1, 31)]
    np.testing.assert_allclose(later, chance - early, rtol=1e-9)


def test_last_useful_day_is_where_the_share_is_left() -> None:
    floor = empty_floor(10, proposal=(0.0008, 0.0004), days=60)
    lags = int(np.ceil(np.log(1 - USEFUL_SHARE) / np.log(1 - 0.0012)))
    answer = floor.leads_needed(target=1000, by=floor.until)
    assert answer.last_useful_creation_date == floor.until - timedelta(days=lags - 1)
    slow = empty_floor(10, proposal=(0.00008, 0.00004))
    assert slow.leads_needed(target=1000, by=UNTIL).last_useful_creation_date is None
    assert EVENTUAL_DAYS > 60


def test_more_is_never_less() -> None:
    floor = sales_floor(300, days=45)
    total = cents_in(floor, Span(AS_OF, floor.until), "total") / 100
    targets = np.quantile(total, [0.1, 0.5, 0.9]) + np.array([0, 0, 20_000])
    by_target = [floor.leads_needed(target=target, by=floor.until, since=AS_OF).n for target in targets]
    by_confidence = [
        floor.leads_needed(target=targets[1], by=floor.until, since=AS_OF, confidence=level).n
        for level in (0.3, 0.6, 0.9)
    ]
    for numbers in (by_target, by_confidence):
        assert None not in numbers
        assert numbers == sorted(numbers)  # type: ignore[type-var]
    assert by_confidence[0] == 0


def test_the_answer_is_the_smallest() -> None:
    floor = sales_floor(300, days=45)
    span = Span(AS_OF, floor.until)
    gap = 9_000_000 - cents_in(floor, span, "total")
    needed = leads_by_draw(floor, span, gap=gap)
    n = smallest_number(needed, confidence=0.8)
    assert n is not None
    assert np.mean(needed <= n) >= 0.8 > np.mean(needed <= n - 1)
    answer = floor.leads_needed(target=90_000, by=floor.until, since=AS_OF)
    assert (answer.n, answer.attainment_with) == (n, np.mean(needed <= n))
    assert answer.attainment_without == np.mean(gap <= 0)


def test_leads_hang_on_the_draw_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = sales_floor(200, days=45)
    span, gap = Span(AS_OF, floor.until), np.full(200, 4_000_000)
    whole = leads_by_draw(floor, span, gap=gap)
    monkeypatch.setattr("forecasting.answers.leads.BYTES_IN_WORK", 50_000)  # blocks of a few draws
    np.testing.assert_array_equal(leads_by_draw(floor, span, gap=gap), whole)


@pytest.mark.parametrize("target", [1e6, 1e15], ids=["no lead wins", "beyond any plan"])
def test_no_number_suffices(target: float) -> None:
    proposal = (1e-15, 0.5) if target == 1e6 else (0.2, 0.2)
    answer = empty_floor(60, proposal=proposal).leads_needed(target=target, by=UNTIL)
    assert answer.n is None
    assert answer.attainment_with < 0.8


def test_no_arrivals_ever_is_an_answer() -> None:
    floor = empty_floor(20, proposal=(0.1, 0.1))
    posterior = replace(floor.posterior, arrivals=planted_arrivals(20, weekly={}))
    answer = replace(floor, posterior=posterior).leads_needed(target=10, by=UNTIL)
    assert (answer.n, answer.last_useful_creation_date) == (None, None)
    assert MAX_LEADS > 0


def test_what_begins_as_won_is_no_lead() -> None:
    """Half of what arrives is won at once: the answer is that of the other half alone."""
    plain = empty_floor(200, proposal=(0.1, 0.1))
    kinds = plain.posterior.arrivals
    both = replace(
        kinds,
        combo_cell=np.zeros(2, dtype=np.int64), combo_stage=np.array([1, 2]), combo_group=np.zeros(2, dtype=np.int64),
        combo_pool=np.zeros(2, dtype=np.int64), mix=np.full((200, 2), 0.5),
    )  # fmt: skip
    mixed = replace(plain, posterior=replace(plain.posterior, arrivals=both))
    first, second = (floor.leads_needed(target=8e3, by=UNTIL) for floor in (plain, mixed))
    assert first.n is not None
    assert second == first
    only = replace(both, combo_stage=np.array([2, 2]))
    nothing = replace(plain, posterior=replace(plain.posterior, arrivals=only)).leads_needed(target=8e3, by=UNTIL)
    assert (nothing.n, nothing.last_useful_creation_date) == (None, None)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 80])
def test_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        empty_floor(2, proposal=(0.1, 0.1)).leads_needed(target=10, by=UNTIL, confidence=confidence)


def test_a_lead_counts_in_the_season_of_the_span_asked_for() -> None:
    floor = sales_floor(draws=2000, weekly=40.0)
    half = floor.horizon_days // 2
    season = np.repeat([0.5, 1.5], [half, floor.horizon_days - half])
    plain = learn(NO_PAST, horizon_days=60, age_days=700)
    of_new = NewCalibration(plain)
    usual, seasonal = (
        with_calibration(floor, replace(plain, season=each), seed=2, new=of_new) for each in (np.ones(0), season)
    )
    came = floor.new_cents.sum(axis=(0, 2))
    whole = float(came @ season / came.sum())
    assert season_of_span(usual, first=1, last=half) == pytest.approx(1.0)
    for first, last, factor in ((1, floor.horizon_days, whole), (1, half, 0.5), (half + 1, floor.horizon_days, 1.5)):
        found = season_of_span(seasonal, first=first, last=last) * whole  # what new_factor holds already
        assert found == pytest.approx(factor, rel=1e-3)
    gap = np.full(floor.draws, 10_000_000)
    late = Span(AS_OF + timedelta(days=half + 1), floor.until)
    needed = [np.median(leads_by_draw(each, late, gap=gap)) for each in (usual, seasonal)]
    assert needed[0] / needed[1] == pytest.approx(1.5, rel=0.15)

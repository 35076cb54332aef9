"""Made-up companies: how their deals move, what their CRM knows of it, and what nobody could forecast better.

Deals begin in the first stage, move day by day by the hazards of their stage, and are won after the last one. The oracle
knows all parameters and the present state, and plays the rest many times.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from forecasting.data.deals import Deals, deals_from_frames
from models.stages import StageGraph

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST = date(2022, 1, 1)
SPEED_SD, PLANNED_DAYS, PLAN_SD = 0.8, 80.0, 0.3
"""Where closing dates are expected: log-sd of the speed of deals, days expected of a usual one, log-sd of that guess."""
LONGEST = 400
"""Days in a stage after which hazards no longer change."""
TAKEN_BACK_AFTER = 7
"""Days after which a win is taken back, where some are."""
ORACLE_RUNS = 300
LOG_MEDIAN = 9.0
"""Of log-normal amounts."""


@dataclass(frozen=True)
class Exit:
    """A way out of a stage: a daily hazard of ``level``; with a median, ``level`` times that of a log-normal stay."""

    level: float
    median: float | None = None
    log_sd: float = 1.0


@dataclass(frozen=True)
class World:
    """How the deals of a company behave, and when it is forecast.

    Parameters
    ----------
    days : int
        Length of the history, the last horizon included.
    first_origin : int
        Day after which origins may lie.
    horizon : int
        Days ahead.
    origins, every : int
        At most so many origins, the last ones, so many months apart.
    weeks : tuple of int
        Weeks after the first day that origins lie in the place of those.
    copies : int
        Companies made up for each one asked for.
    with_new : bool
        Whether revenue of deals created later is forecast too.
    deals_per_day : float
    created_in : str
        Key of ``CREATED``.
    tail : float or None
        Index of Pareto amounts; None for log-normal ones.
    amount_sd : float
        Log-sd of the amounts, where they are log-normal.
    drag : float
        Hazards ahead of a deal of ``x`` times the median amount are ``x`` to the power of minus so much of what they are.
    ahead, down : tuple of Exit
        Of every open stage: to the next one, which is won after the last, and to lost.
    win_factor : str
        Key of ``WIN_FACTORS``.
    lost_after : int or None
        Days in a stage after which a deal is lost.
    drop_day : int or None
        Day from which the hazard of a win is ``drop`` times what it was.
    drop : float
    put_in_day : int or None
        Day from which on there is the last open stage: before, deals are won in its place.
    calendar : tuple of str
        Parts of the calendar on which it is forecast too.
    dated : bool
        Whether deals differ in speed, and sellers know it: a closing date is expected from the first day on.
    taken_back : float
        Share of the wins that are taken back a week later: the deal is in the last open stage again.
    raised : float
        Factor on the amount at the win; where it is not one, the history tells amounts.
    at_once : float
        Share of the deals that are entered as won.
    """

    days: int = 1095
    first_origin: int = 540
    horizon: int = 30
    origins: int = 12
    every: int = 1
    weeks: tuple[int, ...] = ()
    copies: int = 1
    with_new: bool = False
    deals_per_day: float = 1.5
    created_in: str = "all year"
    tail: float | None = None
    amount_sd: float = 0.7
    drag: float = 0.0
    ahead: tuple[Exit, ...] = (Exit(0.035), Exit(0.03), Exit(0.025))
    down: tuple[Exit, ...] = (Exit(0.03), Exit(0.015), Exit(0.01))
    win_factor: str = "always"
    lost_after: int | None = None
    drop_day: int | None = None
    drop: float = 1.0
    put_in_day: int | None = None
    calendar: tuple[str, ...] = ()
    dated: bool = False
    taken_back: float = 0.0
    raised: float = 1.0
    at_once: float = 0.0

    @property
    def won(self) -> int:
        """Code of the won stage; open ones are below it, the lost one follows."""
        return len(self.ahead)


@dataclass(frozen=True)
class Company:
    """Deals that begin in stage ``first`` on day ``created``, and their moves in order of time: which, where to, on what day.

    ``speed`` is a factor on all hazards of a deal, ``expected`` the day on which it is expected to close.
    """

    created: Ints
    first: Ints
    amount: Floats
    speed: Floats
    expected: Ints
    deal: Ints
    target: Ints
    day: Ints


def year_end(day: date) -> float:
    """Most wins come in the last two weeks of the year."""
    return 8.0 if day.month == 12 and day.day >= 17 else 0.5


def january(day: date) -> float:
    """Wins come in January only."""
    return 6.0 if day.month == 1 else 0.0


def early_december(day: date) -> float:
    """Nearly all wins come in the first ten days of December, a few in the first half of the year."""
    if day.month == 12 and day.day <= 10:
        return 40.0
    return 0.3 if day.month <= 6 else 0.0


def slow_summer(day: date) -> float:
    """Wins are five times as likely in the last two months of a year as in summer."""
    return 2.0 if day.month >= 11 else 0.4 if day.month in (7, 8) else 0.9


def last_working_day(day: date) -> float:
    """Wins come on the last day of a month that is no Saturday or Sunday."""
    following = day + timedelta(days=1)
    while following.weekday() >= 5:
        following += timedelta(days=1)
    return 50.0 if day.weekday() < 5 and following.month != day.month else 0.0


def busy_month_end(day: date) -> float:
    """Wins are six times as likely on the last three days of a month that are no Saturday or Sunday, and none on these."""
    to_go = np.busday_count(day, (day.replace(day=1) + timedelta(days=32)).replace(day=1))
    return 0.0 if day.weekday() >= 5 else 4.2 if to_go <= 3 else 0.7


def spring(day: date) -> float:
    """Deals are created from April to the middle of May."""
    return 1.0 if day.month == 4 or (day.month == 5 and day.day <= 15) else 0.0


def january_start(day: date) -> float:
    """Deals are created in the first twenty days of the year."""
    return 1.0 if day.month == 1 and day.day <= 20 else 0.0


WIN_FACTORS: dict[str, Callable[[date], float]] = {
    "always": lambda day: 1.0,
    "year end": year_end,
    "january": january,
    "early december": early_december,
    "slow summer": slow_summer,
    "last working day": last_working_day,
    "busy month end": busy_month_end,
}
"""Factor of a day on the hazard of wins."""
CREATED: dict[str, Callable[[date], float]] = {
    "all year": lambda day: 1.0,
    "spring": spring,
    "january start": january_start,
}
"""Factor of a day on the number of new deals."""


def day_date(day: int) -> date:
    """Date of a day number."""
    return FIRST + timedelta(days=day)


def hazards(exits: tuple[Exit, ...]) -> Floats:
    """Hazard by stage and days spent in it, shape (stage, LONGEST + 1)."""
    days = np.arange(LONGEST + 2)
    found = np.empty((len(exits), LONGEST + 1))
    for row, way in zip(found, exits, strict=True):
        row[:] = way.level
        if way.median is not None:
            survival = stats.lognorm.sf(days, s=way.log_sd, scale=way.median)
            row *= np.clip(-np.diff(np.log(np.maximum(survival, 1e-12))), 0.0, 2.0)
    return found


def play(
    world: World, stage: Ints, entered: Ints, deals: tuple[Floats, Floats], days: range, rng: np.random.Generator
) -> Iterator[tuple[int, Ints, Ints]]:
    """Move deals day by day; yields day, deals that move and where to, changing ``stage`` and ``entered``.

    A deal moves at most once a day, and not on the day it is created. ``deals`` holds the amount and the speed of each.
    """
    amount, speed = deals
    ease = (amount / np.exp(LOG_MEDIAN)) ** -world.drag
    ahead_by_age, down_by_age = hazards(world.ahead), hazards(world.down)
    factor = WIN_FACTORS[world.win_factor]
    for day in days:
        rows = np.flatnonzero((stage < world.won) & (entered < day))
        now, age = stage[rows], day - entered[rows]
        ahead, down = (table[now, np.minimum(age - 1, LONGEST)] for table in (ahead_by_age, down_by_age))
        dropped = world.drop if world.drop_day is not None and day >= world.drop_day else 1.0
        ahead *= ease[rows]
        ahead[now == world.won - 1] *= factor(day_date(day)) * dropped
        total = ahead + down
        moves = rng.random(len(rows)) < -np.expm1(-total * speed[rows])
        forward = moves & (rng.random(len(rows)) * total < ahead)
        if world.lost_after is not None:
            moves |= age >= world.lost_after
        target = np.where(forward, now + 1, world.won + 1)[moves]
        if world.put_in_day is not None and day < world.put_in_day:
            target[target == world.won - 1] = world.won
        rows = rows[moves]
        if world.taken_back > 0.0:
            back = np.flatnonzero((stage == world.won) & (entered == day - TAKEN_BACK_AFTER))
            back = back[rng.random(len(back)) < world.taken_back]
            rows, target = np.append(rows, back), np.append(target, np.full(len(back), world.won - 1))
        stage[rows], entered[rows] = target, day
        yield day, rows, target


def make_company(world: World, rng: np.random.Generator) -> Company:
    """Make up the deals of a company and play them to the end of the history."""
    arrivals = rng.poisson(created_per_day(world, range(world.days)))
    arrivals[-1] = max(arrivals[-1], 1)  # something is written on the last day, so that the last horizon has closed
    created = np.repeat(np.arange(world.days), arrivals)
    n = len(created)
    amount, speed, expected = amounts_of(world, n, rng), np.ones(n), np.zeros(n, dtype=np.int64)
    if world.dated:
        speed = rng.lognormal(0.0, SPEED_SD, n)
        expected = created + (PLANNED_DAYS / speed * rng.lognormal(0.0, PLAN_SD, n)).astype(np.int64)
    first, entered = first_stages(world, n, rng), created.copy()
    stage = first.copy()
    days, deal, target = zip(*play(world, stage, entered, (amount, speed), range(world.days), rng), strict=True)
    return Company(
        created=created,
        first=first,
        amount=amount,
        speed=speed,
        expected=expected,
        deal=np.concatenate(deal),
        target=np.concatenate(target),
        day=np.repeat(days, [len(rows) for rows in deal]),
    )


def part_of(company: Company, deals: NDArray[np.bool_], moves: NDArray[np.bool_]) -> Company:
    """Keep some deals, shape (deal,), and of their moves some, shape (move,)."""
    moves = moves & deals[company.deal]
    return Company(
        created=company.created[deals],
        first=company.first[deals],
        amount=company.amount[deals],
        speed=company.speed[deals],
        expected=company.expected[deals],
        deal=(np.cumsum(deals) - 1)[company.deal[moves]],
        target=company.target[moves],
        day=company.day[moves],
    )


def created_per_day(world: World, days: range) -> Floats:
    """Mean number of deals created on each day."""
    return np.array([world.deals_per_day * CREATED[world.created_in](day_date(day)) for day in days])


def first_stages(world: World, n: int, rng: np.random.Generator) -> Ints:
    """Stages in which so many deals begin."""
    at_once = rng.random(n) < world.at_once if world.at_once > 0.0 else np.zeros(n, dtype=bool)
    return np.where(at_once, world.won, 0)


def amounts_of(world: World, n: int, rng: np.random.Generator) -> Floats:
    """Amounts of so many deals."""
    amount = (
        rng.lognormal(LOG_MEDIAN, world.amount_sd, n)
        if world.tail is None
        else 10_000.0 * rng.pareto(world.tail, n) + 1_000.0
    )
    return amount.round(2)


def deals_of(world: World, company: Company, *, first: tuple[Ints, Ints] | None = None) -> Deals:
    """Lay the company's history out in the two tables that a user would bring.

    ``first`` is stage and day of the first entry of each deal, by default where and when it began.
    """
    opened = tuple(f"Stage {number + 1}" for number in range(world.won))
    graph = StageGraph(open=opened, won=("Won",), lost=("Lost",))
    ids = np.array([f"D{number:05d}" for number in range(len(company.created))])
    dates = np.array([str(day_date(day)) for day in range(world.days)])
    table = pd.DataFrame({"deal_id": ids, "created_at": dates[company.created], "amount": company.amount})
    if world.dated:
        table["expected_close"] = [str(day_date(int(day))) for day in company.expected]
    stage, day = first or (company.first, company.created)
    codes = np.concatenate([stage, company.target])
    history = pd.DataFrame(
        {
            "deal_id": np.concatenate([ids, ids[company.deal]]),
            "stage": np.array(graph.stages)[codes],
            "entered_at": dates[np.concatenate([day, company.day])],
        }
    )
    if world.raised != 1.0:
        told = company.amount[np.concatenate([np.arange(len(ids)), company.deal])]
        history["amount"] = np.where(codes == world.won, world.raised * told, told)
        table["amount"] *= np.where(
            table["deal_id"].isin(history.loc[codes == world.won, "deal_id"]), world.raised, 1.0
        )
    return deals_from_frames(table, history, stages=graph)


def oracle(world: World, company: Company, origin: int, rng: np.random.Generator) -> Floats:
    """Revenue in many plays of the future that know all parameters; of deals created later only if asked for."""
    stage, entered = company.first.copy(), company.created.copy()
    past = company.day <= origin
    stage[company.deal[past]] = company.target[past]  # in order: the last move stays
    entered[company.deal[past]] = company.day[past]
    waiting = np.flatnonzero((stage < world.won) & (company.created <= origin))
    state, since = np.tile(stage[waiting], ORACLE_RUNS), np.tile(entered[waiting], ORACLE_RUNS)
    run, amount = np.repeat(np.arange(ORACLE_RUNS), len(waiting)), np.tile(company.amount[waiting], ORACLE_RUNS)
    days, speed = range(origin + 1, origin + world.horizon + 1), np.tile(company.speed[waiting], ORACLE_RUNS)
    if world.with_new:
        number = rng.poisson(created_per_day(world, days), (ORACLE_RUNS, len(days)))
        run_of_new, day_of_new = np.indices(number.shape).reshape(2, -1).repeat(number.ravel(), axis=1)
        state = np.concatenate([state, first_stages(world, len(run_of_new), rng)])
        since, run = np.concatenate([since, origin + 1 + day_of_new]), np.concatenate([run, run_of_new])
        amount = np.concatenate([amount, amounts_of(world, len(run_of_new), rng)])
        speed = np.concatenate([speed, np.ones(len(run_of_new))])
    for _ in play(world, state, since, (amount, speed), days, rng):
        pass
    return np.bincount(run, weights=world.raised * amount * (state == world.won), minlength=ORACLE_RUNS)

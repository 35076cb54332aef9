"""A made-up company whose history looks like a CRM export, and whose truth is known.

Deals move by the rules of :class:`DemoTruth`: where next by region, how long by stage, kind of exit and amount. On top
comes what real exports have: growth and seasons of new deals, closed weekends, forgotten deals, skips and back moves,
deals that come back after a "no decision", amounts that are missing at first and change on the way, some faulty rows.
"""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from forecasting.periods import add_months, period_start
from models.errors import SettingsError
from models.stages import StageGraph

GRAPH = StageGraph(
    open=("Lead", "Qualified", "Meeting", "Proposal", "Negotiation"),
    won=("Won",),
    lost=("Lost to competitor", "No decision"),
)
REGIONS = ("Central", "North", "South")
OWNERS = {
    "Central": ("Anna Berg", "Joris Smit", "Mei Tan"),
    "North": ("Erik Lund", "Freya Holm", "Omar Aziz"),
    "South": ("Carla Ruiz", "Luca Neri", "Nia Costa"),
}
SOURCES = ("Inbound", "Outbound", "Partner", "Event")
_SOURCE_SHARE, _SOURCE_SIZE = (0.42, 0.28, 0.18, 0.12), (0.0, -0.15, 0.45, 0.1)
_REGION_SHARE, _REGION_LOSS = (0.4, 0.35, 0.25), (1.0, 0.8, 1.3)
_ENTRY_SHARE = (0.84, 0.11, 0.05)
# fmt: off
_NEXT = np.array([
    # Lead  Qual. Meet. Prop. Negot. Won   Compet. No dec.
    [0.00, 0.66, 0.08, 0.00, 0.00, 0.00, 0.02, 0.24],
    [0.02, 0.00, 0.66, 0.08, 0.00, 0.00, 0.06, 0.18],
    [0.00, 0.04, 0.00, 0.66, 0.05, 0.00, 0.09, 0.16],
    [0.00, 0.00, 0.06, 0.00, 0.60, 0.06, 0.14, 0.14],
    [0.00, 0.00, 0.00, 0.08, 0.00, 0.64, 0.16, 0.12],
])
# fmt: on
_FORWARD_DAYS = np.array([[0.9, 8.0], [1.0, 11.0], [1.2, 14.0], [1.3, 19.0], [1.4, 21.0]])
_LOST_DAYS = np.array([[1.0, 28.0], [1.1, 36.0], [1.1, 40.0], [1.2, 50.0], [1.2, 45.0]])
_FORGOTTEN, _FORGOTTEN_TIMES = 0.03, 10.0
_SAME_DAY = 0.10
_COMES_BACK = 0.02
_BIG_DEALS_SLOWER = 0.12
_MEDIAN_AMOUNT, _AMOUNT_LOG_SD = 18_000.0, 0.9
_AMOUNT_MISSING, _AMOUNT_TOLD, _AMOUNT_CHANGES = 0.10, 0.45, 0.16
_GROWTH_PER_YEAR = 0.18
_MONTH_WEIGHT = (0.95, 1.0, 1.1, 1.05, 1.0, 1.0, 0.8, 0.7, 1.15, 1.15, 1.1, 0.75)
_WEEKDAY_WEIGHT = (1.2, 1.2, 1.1, 1.0, 0.8, 0.0, 0.0)
_FUTURE_DAYS = 366
_MAX_MOVES = 60


@dataclass(frozen=True)
class DemoTruth:
    """What the made-up history was made with, and how it went on.

    Parameters
    ----------
    win_probability : DataFrame
        ``stage``, ``region``, ``win_probability``: chance that a deal entering the stage is won before it is lost.
    next_probability : ndarray of float64, shape (region, open stage, stage)
        Where deals go next.
    forward_days, lost_days : ndarray of float64, shape (open stage, 2)
        Weibull shape and scale (days) of the time to a move within the pipeline or a win, and to a loss, of a deal of
        median amount; before forgotten deals, same-day moves and weekends.
    future_won : DataFrame
        ``deal_id``, ``won_on``, ``amount``, ``source`` (``new`` when created after the as-of date, else ``open``): all
        wins of the year after it.
    """

    win_probability: pd.DataFrame
    next_probability: NDArray[np.float64]
    forward_days: NDArray[np.float64]
    lost_days: NDArray[np.float64]
    future_won: pd.DataFrame

    def revenue(self, until: date, *, source: str | None = None) -> float:
        """Revenue that came true after the as-of date, up to ``until``; of one source or both."""
        rows = self.future_won[self.future_won["won_on"] <= pd.Timestamp(until)]
        return float(rows.loc[rows["source"] == source, "amount"].sum() if source else rows["amount"].sum())


@dataclass(frozen=True)
class DemoHistory:
    """The two input tables as a CRM would export them at the end of ``as_of``, and the truth behind them.

    ``deals`` has the columns ``deal_id``, ``created_at``, ``amount``, ``region``, ``owner``, ``account``,
    ``source``, all text; ``stage_history`` has ``deal_id``, ``stage``, ``entered_at`` (UTC), ``amount``.
    """

    deals: pd.DataFrame
    stage_history: pd.DataFrame
    truth: DemoTruth
    graph: StageGraph
    as_of: date


def demo_history(
    *, seed: int, n_deals: int = 3000, months: int = 30, as_of: date = date(2026, 9, 30), faulty_rows: bool = True
) -> DemoHistory:
    """Make up a history.

    Parameters
    ----------
    seed : int
    n_deals : int
        Deals created up to ``as_of``.
    months : int
        Length of the history.
    as_of : date
        Last day of the history.
    faulty_rows : bool
        Add some duplicates, impossible dates and amounts, and rows without a partner.

    Examples
    --------
    >>> demo = demo_history(seed=1, n_deals=200, months=6, faulty_rows=False)
    >>> len(demo.deals), sorted(demo.deals["region"].unique())
    (200, ['Central', 'North', 'South'])
    """
    if n_deals < 10 or months < 1:
        raise SettingsError(
            f"a made-up history needs at least 10 deals and a month, got {n_deals} deals, {months} months"
        )
    rng = np.random.default_rng(np.random.SeedSequence([seed, 77]))
    start = add_months(as_of + timedelta(days=1), -months)
    last = (as_of - start).days
    deals = _new_deals(rng, start, last, n_deals)
    entries = _moves(rng, deals, start, last + _FUTURE_DAYS)
    future = _future(deals, entries, start, last)
    truth = DemoTruth(_win_table(), _next_by_region(), _FORWARD_DAYS, _LOST_DAYS, future)
    tables = _exported(rng, deals, entries, start, last)
    if faulty_rows:
        tables = _with_faults(rng, *tables)
    return DemoHistory(*tables, truth=truth, graph=GRAPH, as_of=as_of)


def write_demo(folder: str | Path, *, seed: int, as_of: date = date(2026, 9, 30)) -> DemoHistory:
    """Write ``deals.csv``, ``stage_history.csv`` and ``dealcast.toml``.

    The job asks for the quarter that holds the day after ``as_of`` and aims ``GROWTH_WANTED`` above the quarter before.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    demo = demo_history(seed=seed, as_of=as_of)
    demo.deals.to_csv(target / "deals.csv", index=False)
    demo.stage_history.to_csv(target / "stage_history.csv", index=False)
    since = period_start(as_of + timedelta(days=1), period="quarter")
    by = add_months(since, 3) - timedelta(days=1)
    template = (Path(__file__).parents[1] / "templates" / "demo_job.toml").read_text(encoding="utf-8")
    lost = json.dumps(list(GRAPH.lost))
    job = template.format(seed=seed, until=by, since=since, by=by, amount=_target(demo, since), lost=lost)
    (target / "dealcast.toml").write_text(job, encoding="utf-8")
    return demo


def _target(demo: DemoHistory, since: date) -> str:
    """Revenue of the three months before ``since`` and the growth wanted, in round figures."""
    from forecasting.data.deals import deals_from_frames
    from forecasting.data.snapshot import cut

    deals = deals_from_frames(demo.deals, demo.stage_history, stages=demo.graph, timezone=_TIMEZONE)
    won = cut(deals, as_of=demo.as_of).won
    counts = won["won_on"].between(pd.Timestamp(add_months(since, -3)), pd.Timestamp(since - timedelta(days=1)))
    amount = won.loc[counts, "amount"].sum() * (1 + GROWTH_WANTED)
    return f"{round(amount / 50_000) * 50_000:_}"


def _next_by_region() -> NDArray[np.float64]:
    scaled = np.repeat(_NEXT[None], len(REGIONS), axis=0)
    scaled[:, :, list(GRAPH.lost_codes)] *= np.array(_REGION_LOSS)[:, None, None]
    return np.asarray(scaled / scaled.sum(axis=2, keepdims=True))


def _win_table() -> pd.DataFrame:
    """P(won before lost) from w = Q w + q: Q moves among open stages, q moves to won."""
    rows = []
    for region, moves in zip(REGIONS, _next_by_region(), strict=True):
        stay, win = moves[:, : GRAPH.n_open], moves[:, list(GRAPH.won_codes)].sum(axis=1)
        chances = np.linalg.solve(np.eye(GRAPH.n_open) - stay, win)
        rows += [(stage, region, float(chance)) for stage, chance in zip(GRAPH.open, chances, strict=True)]
    return pd.DataFrame(rows, columns=["stage", "region", "win_probability"])


def _new_deals(rng: np.random.Generator, start: date, last: int, n_deals: int) -> pd.DataFrame:
    """Creation day and properties of past deals (``n_deals`` of them) and of those of the year after."""
    calendar = pd.date_range(start, periods=last + 1 + _FUTURE_DAYS)
    rate = (1 + _GROWTH_PER_YEAR) ** (np.arange(len(calendar)) / 365.25)
    rate *= (
        np.array(_MONTH_WEIGHT)[calendar.month.to_numpy() - 1] * np.array(_WEEKDAY_WEIGHT)[calendar.weekday.to_numpy()]
    )
    rate *= rng.gamma(12.0, 1 / 12.0, len(calendar) // 7 + 1)[np.arange(len(calendar)) // 7]
    past = rng.choice(last + 1, n_deals, p=rate[: last + 1] / rate[: last + 1].sum())
    later = rng.poisson(rate[last + 1 :] * n_deals / rate[: last + 1].sum())
    day = np.sort(np.concatenate([past, np.repeat(np.arange(last + 1, len(calendar)), later)]))
    n = len(day)
    region, source = rng.choice(len(REGIONS), n, p=_REGION_SHARE), rng.choice(len(SOURCES), n, p=_SOURCE_SHARE)
    amount = _MEDIAN_AMOUNT * np.exp(_AMOUNT_LOG_SD * rng.standard_normal(n) + np.array(_SOURCE_SIZE)[source])
    return pd.DataFrame(
        {
            "day": day,
            "region": region,
            "source": source,
            "owner": rng.integers(0, 3, n),
            "account": rng.integers(1, n // 2 + 2, n),
            "entry": rng.choice(3, n, p=_ENTRY_SHARE),
            "amount": np.round(amount, -2).clip(500),
            "told": rng.random(n) >= _AMOUNT_MISSING,
        }
    )


def _moves(rng: np.random.Generator, deals: pd.DataFrame, start: date, end: int) -> pd.DataFrame:
    """Make ``deal``, ``order``, ``day``, ``stage``, ``amount`` (NaN while not told), all deals one move at a time."""
    moving = np.arange(len(deals))
    day, stage = deals["day"].to_numpy().copy(), deals["entry"].to_numpy().copy()
    amount, told = deals["amount"].to_numpy().copy(), deals["told"].to_numpy().copy()
    size, region = deals["amount"].to_numpy(), deals["region"].to_numpy()
    found = []
    for order in range(_MAX_MOVES):
        shown = np.where(told[moving], amount[moving], np.nan)
        found.append(
            pd.DataFrame({"deal": moving, "order": order, "day": day[moving], "stage": stage[moving], "amount": shown})
        )
        closed = stage[moving] >= GRAPH.n_open
        back = (stage[moving] == GRAPH.code("No decision")) & (rng.random(len(moving)) < _COMES_BACK)
        moving = moving[~closed | back]
        if len(moving) == 0:
            break
        following, days = _next_moves(rng, stage[moving], region[moving], size[moving])
        day[moving] = _on_weekday(day[moving] + days, start)
        stage[moving] = following
        moving = moving[day[moving] <= end]
        told[moving] |= (rng.random(len(moving)) < _AMOUNT_TOLD) | (stage[moving] == GRAPH.won_codes[0])
        changes = (rng.random(len(moving)) < _AMOUNT_CHANGES) & (stage[moving] >= GRAPH.code("Proposal"))
        factor = np.where(changes, np.exp(rng.normal(-0.06, 0.22, len(moving))), 1.0)
        amount[moving] = np.where(changes, np.round(amount[moving] * factor, -2).clip(500), amount[moving])
    return pd.concat(found).sort_values(["deal", "order"], ignore_index=True)


def _next_moves(
    rng: np.random.Generator, stage: NDArray[np.int64], region: NDArray[np.int64], size: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Next stage and whole days until then."""
    n, returns = len(stage), stage >= GRAPH.n_open
    here = np.where(returns, 0, stage)
    reached = np.cumsum(_next_by_region()[region, here], axis=1)
    following = np.minimum((rng.random(n)[:, None] > reached).sum(axis=1), len(GRAPH.stages) - 1)
    lost = np.isin(following, GRAPH.lost_codes)
    shape, scale = np.where(lost[:, None], _LOST_DAYS[here], _FORWARD_DAYS[here]).T
    days = scale * (size / _MEDIAN_AMOUNT) ** _BIG_DEALS_SLOWER * rng.weibull(1.0, n) ** (1 / shape)
    days *= np.where(rng.random(n) < _FORGOTTEN, _FORGOTTEN_TIMES, 1.0)
    days[(rng.random(n) < _SAME_DAY) & ~lost] = 0
    following[returns] = GRAPH.code("Meeting")
    days[returns] = rng.integers(20, 90, int(returns.sum()))
    return following, days.astype(np.int64)


def _on_weekday(day: NDArray[np.int64], start: date) -> NDArray[np.int64]:
    """Move weekends to the Monday after."""
    weekday = (day + start.weekday()) % 7
    return np.asarray(day + np.where(weekday >= 5, 7 - weekday, 0))


def _ids(deal: pd.Series) -> NDArray[np.object_]:
    return np.array([f"D-{number:05d}" for number in deal.to_numpy() + 1], dtype=object)


def _future(deals: pd.DataFrame, entries: pd.DataFrame, start: date, last: int) -> pd.DataFrame:
    final = entries.drop_duplicates("deal", keep="last")
    wins = final[(final["stage"] == GRAPH.won_codes[0]) & (final["day"] > last)]
    return pd.DataFrame(
        {
            "deal_id": _ids(wins["deal"]),
            "won_on": pd.Timestamp(start) + pd.to_timedelta(wins["day"].to_numpy(), unit="D"),
            "amount": wins["amount"].to_numpy(),
            "source": np.where(deals["day"].to_numpy()[wins["deal"].to_numpy()] > last, "new", "open"),
        }
    )


def _exported(
    rng: np.random.Generator, deals: pd.DataFrame, entries: pd.DataFrame, start: date, last: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write the two tables as they stand at the end of the last day, the rows of the history shuffled."""
    past = entries[entries["day"] <= last]
    now = past.groupby("deal")["amount"].last().reindex(range(len(deals)))
    created = deals[deals["day"] <= last]
    first = pd.Timestamp(start)
    regions = [REGIONS[code] for code in created["region"]]
    table = pd.DataFrame(
        {
            "deal_id": _ids(created.index.to_series()),
            "created_at": (first + pd.to_timedelta(created["day"].to_numpy(), unit="D")).strftime("%Y-%m-%d"),
            "amount": _amount_text(now.to_numpy()[created.index]),
            "region": regions,
            "owner": [OWNERS[region][k] for region, k in zip(regions, created["owner"], strict=True)],
            "account": [f"Account {number}" for number in created["account"]],
            "source": [SOURCES[code] for code in created["source"]],
        }
    )
    # working hours, a little later with every move, so that the moves of one day keep their order
    minute = rng.integers(7 * 60, 11 * 60, len(deals))[past["deal"]] + 6 * past["order"].to_numpy()
    moment = first + pd.to_timedelta(past["day"].to_numpy() * 24 * 60 + minute, unit="min")
    history = pd.DataFrame(
        {
            "deal_id": _ids(past["deal"]),
            "stage": np.array(GRAPH.stages, dtype=object)[past["stage"].to_numpy()],
            "entered_at": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "amount": _amount_text(past["amount"].to_numpy()),
        }
    )
    return table, history.iloc[rng.permutation(len(history))].reset_index(drop=True)


def _amount_text(amount: NDArray[np.float64]) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.0f}" for value in amount]


def _with_faults(
    rng: np.random.Generator, deals: pd.DataFrame, history: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add rows that a reader has to refuse; no sound deal is touched."""
    faulty = deals.iloc[rng.choice(len(deals), 9, replace=False)].reset_index(drop=True)
    faulty["deal_id"] = [f"X-{number:05d}" for number in range(1, 10)]
    faulty.loc[0:1, "amount"] = "-4500"
    faulty.loc[2, "amount"] = "12.500 EUR"
    faulty.loc[3:4, "created_at"] = ["31/02/2026", "unknown"]
    own = [
        (name, "Lead", f"{day}T09:00:00Z", "") for name, day in faulty[["deal_id", "created_at"]].iloc[:7].to_numpy()
    ]
    day_before = pd.to_datetime(faulty.loc[5:6, "created_at"]) - timedelta(days=20)
    own += [
        (name, "Lost to competitor", f"{day.date()}T15:00:00Z", "")
        for name, day in zip(faulty.loc[5:6, "deal_id"], day_before, strict=True)
    ]
    own += [(f"Z-{number}", "Proposal", "2026-05-12T10:00:00Z", "9000") for number in (101, 102, 103)]
    own.append((str(deals["deal_id"].iloc[0]), "Meeting", "last Tuesday", ""))
    again = history.iloc[rng.choice(len(history), 5, replace=False)]
    changed = deals.iloc[[len(deals) // 2]].assign(amount="1", created_at=str(deals["created_at"].max()))
    more = pd.DataFrame(own, columns=list(history.columns))
    return (
        pd.concat([deals, faulty, deals.iloc[rng.choice(len(deals), 3, replace=False)], changed], ignore_index=True),
        pd.concat([history, more, again], ignore_index=True),
    )


_TIMEZONE = "Europe/Amsterdam"
GROWTH_WANTED = 0.2
"""The sample company grows fast: its target stands this share above the revenue of the quarter before."""

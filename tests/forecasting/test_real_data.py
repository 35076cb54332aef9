"""Real logs: nothing lost, and the order of entries is the one a plain sort gives."""

import pandas as pd
import pytest

from benchmarks.real_data import LOADERS, find_data
from forecasting.data.snapshot import cut

DATA = find_data()
pytestmark = pytest.mark.skipif(DATA is None, reason="the public logs are not there: set DEALCAST_DATA")


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_a_log_is_read_whole_and_in_order(name: str) -> None:
    load, as_of = LOADERS[name]
    assert DATA is not None
    deals = load(DATA)
    raw = pd.read_csv(DATA / name / "stage_entries.csv.gz", dtype=str, keep_default_na=False)
    assert deals.quality["deals"].rows_rejected == deals.quality["stage_history"].rows_rejected == 0
    assert len(deals.entries) == len(raw)
    raw["code"] = raw["stage"].map(deals.graph.codes)
    raw["at"] = pd.to_datetime(raw["entered_at"], utc=True)
    raw = raw.sort_values(["case_id", "at", "code"], ignore_index=True)
    assert deals.entries["deal_id"].tolist() == raw["case_id"].tolist()
    assert deals.entries["stage"].tolist() == raw["code"].tolist()
    days = raw["at"].dt.tz_convert("Europe/Amsterdam").dt.tz_localize(None).dt.normalize()
    assert (deals.entries["entered_on"].to_numpy() == days.to_numpy()).all()
    snapshot = cut(deals, as_of=as_of)
    assert len(snapshot.pipeline.deals) == (~snapshot.stays["next"].ne(-1)).sum()


def test_the_loan_log_shows_its_known_counts() -> None:
    assert DATA is not None
    deals = LOADERS["bpic2012"][0](DATA)
    last = deals.entries.groupby("deal")["stage"].last()
    assert deals.n_deals == 13_087
    assert int((last < deals.graph.n_open).sum()) == 399
    following = deals.entries.groupby("deal")["entered_on"].shift(-1)
    gone = following.notna()
    assert round(float((following[gone] == deals.entries.loc[gone, "entered_on"]).mean()), 2) == 0.63

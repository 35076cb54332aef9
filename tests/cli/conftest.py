"""A small made-up company with a job file, fitted once for all tests of the command line."""

import shutil
from pathlib import Path

import matplotlib
import pytest

from forecasting.data.sample import demo_history

matplotlib.use("Agg")
JOB = """\
[data]
deals = "deals.csv"
stage_history = "stage_history.csv"
currency = "EUR"
timezone = "Europe/Amsterdam"

[stages]
open = ["Lead", "Qualified", "Meeting", "Proposal", "Negotiation"]
won = ["Won"]
lost = ["Lost to competitor", "No decision"]

[model]
inference = "fast"
seed = 4

[forecast]
horizon = "60d"
draws = 200

[target]
amount = 2_000_000
since = 2026-10-01
by = 2026-11-29
"""


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with data and a job file, not to be written to."""
    folder = tmp_path_factory.mktemp("company")
    demo = demo_history(seed=1, n_deals=300, months=12)
    demo.deals.to_csv(folder / "deals.csv", index=False)
    demo.stage_history.to_csv(folder / "stage_history.csv", index=False)
    (folder / "dealcast.toml").write_text(JOB, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def fitted_company(company: Path) -> Path:
    """The same with a saved fit."""
    from forecasting.config import read_job
    from forecasting.jobs import fitted

    fitted(read_job(company / "dealcast.toml"), as_of="2026-09-30")
    return company


@pytest.fixture
def work(company: Path, tmp_path: Path) -> Path:
    """A copy to spoil, not fitted."""
    for name in ("deals.csv", "stage_history.csv", "dealcast.toml"):
        shutil.copy(company / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def fitted_work(fitted_company: Path, tmp_path: Path) -> Path:
    """A copy to spoil, fitted."""
    return Path(shutil.copytree(fitted_company, tmp_path / "company"))

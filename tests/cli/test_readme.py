"""What the README shows runs: its commands and options exist, its job file is valid, its Python example works."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forecasting.cli import app
from forecasting.config import read_config

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (dealcast .*?)(?:\s+#.*)?$", README, flags=re.M)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_their_options_exist(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    text = CliRunner().invoke(app, [name, "--help"]).stdout
    assert f"dealcast {name}" in text
    for option in arguments:
        assert not option.startswith("--") or option in text


def test_make_knows_the_words_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    words = re.findall(r"^    make (\w+)", README, flags=re.M)
    assert words == ["demo", "test"]
    assert all(re.search(rf"^{word}:", makefile, flags=re.M) for word in words)


def test_the_job_file_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, flags=re.S)
    (tmp_path / "deals.csv").touch()
    (tmp_path / "stage_history.csv").touch()
    (tmp_path / "dealcast.toml").write_text(block, encoding="utf-8")
    assert read_config(tmp_path / "dealcast.toml").target is not None


def python_blocks() -> list[str]:
    """Python examples of the README, in order."""
    return re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_the_python_example_runs() -> None:
    names: dict[str, object] = {}
    exec(compile(python_blocks()[0], "README.md", "exec"), names)
    assert "forecast" in names


@pytest.mark.slow
def test_the_cluster_example_runs() -> None:
    first, *_, second = python_blocks()
    assert "Client" in second
    here = "n_workers=1, threads_per_worker=1, dashboard_address=None"
    names: dict[str, object] = {}
    exec(compile(first, "README.md", "exec"), names)
    alone = names["forecast"]
    exec(compile(second.replace('"scheduler:8786"', here), "README.md", "exec"), names)
    assert (names["forecast"].open_cents == alone.open_cents).all()  # type: ignore[attr-defined]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists()

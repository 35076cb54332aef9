"""Numbers from outside that the code must reproduce: the rows ``python -m benchmarks.reference_values`` prints."""

import pytest

from benchmarks.reference_values import DATA_SECTIONS, EXACT_SECTIONS, main, multistate_folder


@pytest.mark.parametrize("section", EXACT_SECTIONS, ids=lambda section: section.__name__)
def test_exact_values(section) -> None:
    out = [row for row in section() if not row.ok]
    assert not out


@pytest.mark.parametrize("section", DATA_SECTIONS, ids=lambda section: section.__name__)
def test_published_values(section) -> None:
    folder = multistate_folder()
    if folder is None:
        pytest.skip("no data folder: set DEALCAST_DATA")
    out = [row for row in section(folder) if not row.ok]
    assert not out


def test_the_command_says_what_it_skipped(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setenv("DEALCAST_DATA", str(tmp_path))
    monkeypatch.setattr("benchmarks.reference_values.EXACT_SECTIONS", EXACT_SECTIONS[:1])
    assert main() == 0
    printed = capsys.readouterr().out
    assert "bosms3, ebmt3, aidssi: skipped, no data folder (set DEALCAST_DATA)" in printed
    assert "10 rows, 0 out of tolerance" in printed


def test_a_row_out_of_tolerance_fails_the_command(monkeypatch, tmp_path, capsys) -> None:
    from benchmarks.reference_values import Row

    monkeypatch.setenv("DEALCAST_DATA", str(tmp_path))
    monkeypatch.setattr("benchmarks.reference_values.EXACT_SECTIONS", (lambda: iter([Row("a", "b", 1.0, 2.0, 0.1)]),))
    assert main() == 1
    assert "FAIL" in capsys.readouterr().out

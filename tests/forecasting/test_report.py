"""The page stands alone, answers first, and says what the findings say."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from planted_findings import LOANS, planted_findings, planted_forecast

from forecasting.output.answer import answer
from forecasting.output.page import pictures, report, report_html
from forecasting.output.words import money
from forecasting.plots.style import undrawable
from models.stages import StageGraph


class Page(HTMLParser):
    """Collects tags that refer to something, and checks that tags close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open_tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in {"src", "href", "data", "action"}]
        if tag not in {"meta", "img", "br", "link", "input"}:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    found = planted_findings(planted_forecast())
    return report_html(found, pictures(found))


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    parsed = Page()
    parsed.feed(page)
    assert parsed.open_tags == []
    assert len(parsed.references) == 4
    assert all(reference.startswith("data:image/png;base64,") for reference in parsed.references)
    assert not re.search(r"https?://|@import|url\(|<script", page)


def test_the_answer_comes_first_then_pictures_then_tables(page: str) -> None:
    places = [page.index(text) for text in ("chance of the target", "<p>Revenue from", "<img", "<table")]
    assert places == sorted(places)


def test_the_page_says_what_the_findings_say(page: str) -> None:
    found = planted_findings(planted_forecast())
    for said in (
        money(found.total.p50), money(found.total.p10), money(found.total.p90), "1 Sep 2026", "31 Dec 2026",
        "1.004", "created_at is not a date", "weibull: as asked", "have no amount", "North", "deals to come",
    ):  # fmt: skip
        assert said in page, said


def test_names_that_no_font_can_draw_are_drawn_without_a_word_of_matplotlib() -> None:
    graph = StageGraph(open=["商談 \U000f0000", "🎉"], won=["Won"], lost=["Lost"])
    found = planted_findings(planted_forecast(graph=graph))
    assert set(pictures(found)) == {"revenue", "attainment", "stages", "deals"}  # a warning would be an error here
    assert "\U000f0000" in undrawable(graph.stages)
    assert undrawable(["Gewonnen! é", "Лид\t1\u00a0"]) == ""


def test_what_the_data_say_cannot_become_markup(page: str) -> None:
    assert "<NA>" not in page
    assert "&lt;NA&gt; &amp; 29" in page
    assert "&lt;soon&gt;" in page


def test_without_target_deals_amounts_and_currency(tmp_path: Path) -> None:
    found = planted_findings(planted_forecast(graph=LOANS, currency=None, n_open=0), target=None)
    text = report(found, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No deal is open." in text
    assert "target" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S).split("Revenue and target")[0]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("leads", "said"),
    [
        (0, "No additional leads are needed to be 80% sure."),
        (1, "it takes 1 additional lead,"),
        (1200, "it takes 1,200 additional leads,"),
        (None, "No number of additional leads makes it 80% sure"),
    ],
)
def test_leads_in_words(leads: int | None, said: str) -> None:
    assert said in " ".join(answer(planted_findings(planted_forecast(), leads=leads)))


def test_stalled_deals_in_words() -> None:
    found = planted_findings(planted_forecast())
    stalled = found.deals[found.deals["stall_percentile"] >= 0.9]
    assert f"{len(stalled)} of 30 open deals stall" in answer(found)[-1]
    assert found.stalled["deals"].sum() == len(stalled)

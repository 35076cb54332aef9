"""The answer of a forecast in plain words: what a director reads before any picture or table."""

from typing import TYPE_CHECKING

from forecasting.output.words import chance, day, listed, money, plural

if TYPE_CHECKING:
    from forecasting.answers.leads import LeadsNeeded
    from forecasting.output.findings import Findings

MAX_STAGES = 3


def answer(found: "Findings") -> list[str]:
    """Say what a forecast says, most important sentence first."""
    sentences = [_revenue(found)]
    if found.leads is not None:
        sentences += leads_answer(found.leads, found.forecast.currency)
    sentences.append(_stalled(found))
    return sentences


def _revenue(found: "Findings") -> str:
    currency, span = found.forecast.currency, found.span
    return (
        f"Revenue from {day(span.start)} to {day(span.end)}: {money(found.total.p50, currency)} in the middle, "
        f"8 in 10 chances for {money(found.total.p10)} to {money(found.total.p90)}. "
        f"Booked so far: {money(found.booked, currency)}; open deals bring {money(found.open.p10)} to "
        f"{money(found.open.p90)}, deals not created yet {money(found.new.p10)} to {money(found.new.p90)}."
    )


def leads_answer(leads: "LeadsNeeded", currency: str | None) -> list[str]:
    """Say how likely a target is and what it takes."""
    return [_target(leads, currency), _leads(leads)]


def _target(leads: "LeadsNeeded", currency: str | None) -> str:
    return (
        f"Chance to reach the target of {money(leads.target, currency)} by {day(leads.by)}: "
        f"{chance(leads.attainment_without)}."
    )


def _leads(leads: "LeadsNeeded") -> str:
    sure = chance(leads.confidence)
    if leads.n == 0:
        return f"No additional leads are needed to be {sure} sure."
    last = leads.last_useful_creation_date
    late = f"a lead created after {day(last)} hardly counts" if last else "hardly any new lead closes in time"
    if leads.n is None:
        return f"No number of additional leads makes it {sure} sure; {late}."
    return f"To be {sure} sure it takes {plural(leads.n, 'additional lead')}, spread evenly until then; {late}."


def _stalled(found: "Findings") -> str:
    if not len(found.deals):
        return "No deal is open: all coming revenue is new business."
    count = int(found.stalled["deals"].sum())
    if not count:
        return (
            f"None of the {plural(len(found.deals), 'open deal')} "
            "has been in its stage longer than nine in ten stays last."
        )
    where = [
        f"{row['stage']} ({plural(int(row['deals']), 'deal')}, {money(row['amount'], found.forecast.currency)})"
        for row in found.stalled.head(MAX_STAGES).to_dict("records")
    ]
    return (
        f"{count:,} of {plural(len(found.deals), 'open deal')} stall: they have been in their stage longer than nine "
        f"in ten stays last. Most money waits in {listed(where)}."
    )

"""The command line: every command is the library said aloud, see ``forecasting.commands``.

Only light modules are imported here, so that help answers at once; what a command needs is imported when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from forecasting.commands.terminal import Outcome, answer_with, examples

app = typer.Typer(
    name="dealcast",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

Job = Annotated[Path, typer.Argument(metavar="JOB", help="Job file, see dealcast init.")]
AsOf = Annotated[str, typer.Option("--as-of", metavar="DATE", help="Last known day; nothing later is looked at.")]
AsJson = Annotated[bool, typer.Option("--json", help="Result as JSON on standard output, all else on standard error.")]
Refit = Annotated[bool, typer.Option("--refit", help="Fit again even if a saved fit of the same data is there.")]
Processes = Annotated[
    int | None, typer.Option("--processes", metavar="NUMBER", help="Past dates at a time; default: one per core.")
]
Target = Annotated[float | None, typer.Option("--target", metavar="AMOUNT", help="Instead of the job's; 5e6 will do.")]
By = Annotated[str | None, typer.Option("--by", metavar="DATE", help="Last day that counts towards the target.")]
Since = Annotated[str | None, typer.Option("--since", metavar="DATE", help="First day that counts towards the target.")]
Confidence = Annotated[
    float | None, typer.Option("--confidence", metavar="CHANCE", help="Wanted chance to reach the target, 0 to 1.")
]


@app.callback(
    epilog=examples(
        "dealcast demo                                         sample data, the whole journey in a minute",
        "dealcast init                                         start with your own data",
        "dealcast forecast dealcast.toml --as-of 2026-09-30    the forecast, again every week",
    )
)
def root() -> None:
    """Forecast sales revenue from the deals in a pipeline, with honest probabilities.

    Exit codes: 0 fine, 1 bad input or settings, 2 crash or wrong usage, 3 the fit's diagnostics failed and nothing was
    published, 4 published and an alert condition holds.
    """


@app.command(epilog=examples("dealcast demo --folder demo"))
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where data, job file and results go.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Another seed, another company.")] = 20261123,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="Default: the sample's last day.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make sample data, forecast them and say what comes out."""

    def run() -> Outcome:
        from forecasting.commands.demo import run_demo

        return run_demo(folder, seed=seed, as_of=as_of, as_json=as_json)

    answer_with(as_json, run)


@app.command(epilog=examples("dealcast init dealcast.toml"))
def init(
    path: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("dealcast.toml"),
    as_json: AsJson = False,
) -> None:
    """Write a commented job file to start from."""

    def run() -> Outcome:
        from forecasting.commands.data import run_init

        return run_init(path)

    answer_with(as_json, run)


@app.command(epilog=examples("dealcast check dealcast.toml"))
def check(
    job: Job,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="Default: the last recorded day.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read and validate everything and report on the data; fits nothing."""

    def run() -> Outcome:
        from forecasting.commands.data import run_check

        return run_check(job, as_of=as_of)

    answer_with(as_json, run)


@app.command(epilog=examples("dealcast fit dealcast.toml --as-of 2026-09-30"))
def fit(job: Job, as_of: AsOf, refit: Refit = False, as_json: AsJson = False) -> None:
    """Learn from the past how deals move, and save it for later."""

    def run() -> Outcome:
        from forecasting.commands.runs import run_fit

        return run_fit(job, as_of=as_of, refit=refit, as_json=as_json)

    answer_with(as_json, run)


@app.command(
    epilog=examples(
        "dealcast forecast dealcast.toml --as-of 2026-09-30",
        "dealcast forecast dealcast.toml --as-of 2026-09-30 --target 5e6 --by 2026-12-31 --min-attainment 0.5",
    )
)
def forecast(
    job: Job,
    as_of: AsOf,
    target: Target = None,
    by: By = None,
    since: Since = None,
    confidence: Confidence = None,
    min_attainment: Annotated[
        float | None,
        typer.Option("--min-attainment", metavar="CHANCE", help="Exit with 4 if the target is less likely than this."),
    ] = None,
    refit: Refit = False,
    as_json: AsJson = False,
) -> None:
    """Forecast revenue: fit if needed, simulate, write the files."""

    def run() -> Outcome:
        from forecasting.commands.runs import Asked, run_forecast

        asked = Asked(target, by, since, confidence, min_attainment)
        return run_forecast(job, as_of=as_of, asked=asked, refit=refit, as_json=as_json)

    answer_with(as_json, run)


@app.command(
    "leads-needed",
    epilog=examples(
        "dealcast leads-needed dealcast.toml --as-of 2026-09-30 --target 5e6 --by 2026-12-31 --confidence 0.8"
    ),
)
def leads_needed(
    job: Job,
    as_of: AsOf,
    target: Target = None,
    by: By = None,
    since: Since = None,
    confidence: Confidence = None,
    as_json: AsJson = False,
) -> None:
    """Say how many more leads it takes to reach a target."""

    def run() -> Outcome:
        from forecasting.commands.runs import Asked, run_leads_needed

        return run_leads_needed(job, as_of=as_of, asked=Asked(target, by, since, confidence), as_json=as_json)

    answer_with(as_json, run)


@app.command(
    epilog=examples(
        "dealcast backtest dealcast.toml --from 2025-06-30 --to 2026-06-30 --every quarter --horizon 90d",
        "dealcast backtest dealcast.toml --origins 2026-03-31,2026-06-30 --horizon 28d --output proof",
        "dealcast backtest dealcast.toml --from 2025-06-30 --to 2026-06-30 --every month --steps",
    )
)
def backtest(
    job: Job,
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="First as-of date.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last as-of date.")] = None,
    every: Annotated[
        str, typer.Option("--every", help="Step: days such as 28d, or month, quarter: last days.")
    ] = "28d",
    origins: Annotated[str | None, typer.Option("--origins", metavar="DATES", help="As-of dates, by commas.")] = None,
    horizon: Annotated[str, typer.Option("--horizon", help="How far each forecast looks.")] = "28d",
    nuts: Annotated[bool, typer.Option("--nuts", help="Refit by NUTS instead of the fast road.")] = False,
    window: Annotated[
        int | None, typer.Option("--window", metavar="DAYS", help="Learn only from so many days before each date.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            "--target", metavar="AMOUNT", help="Score the chance of this; default: the last period's revenue."
        ),
    ] = None,
    commits: Annotated[
        Path | None, typer.Option("--commits", metavar="FILE", help="What managers committed to, instead of the job's.")
    ] = None,
    processes: Processes = None,
    steps: Annotated[bool, typer.Option("--steps", help="Score with and without each ingredient instead.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FOLDER", help="Also write the tables and pictures there.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Forecast past dates with what was known then, and score it."""

    def run() -> Outcome:
        from forecasting.commands.backtest import Asked, Span, run_backtest, run_steps

        span = Span(first, last, every, origins)
        asked = Asked(horizon, nuts, window, target, commits, processes)
        if steps:
            return run_steps(job, span=span, asked=asked, as_json=as_json)
        return run_backtest(job, span=span, asked=asked, output=output, as_json=as_json)

    answer_with(as_json, run)


@app.command(epilog=examples("dealcast tune dealcast.toml --as-of 2026-09-30 --consider region,source"))
def tune(
    job: Job,
    as_of: AsOf,
    consider: Annotated[
        str | None, typer.Option("--consider", metavar="COLUMNS", help="Columns to try as covariates, by commas.")
    ] = None,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Write what is better into the job file.")] = True,
    processes: Processes = None,
    as_json: AsJson = False,
) -> None:
    """Choose durations, covariates, window, levels and calendar by backtest on your own past, and say what that gains."""

    def run() -> Outcome:
        from forecasting.commands.tune import run_tune

        return run_tune(job, as_of=as_of, consider=consider, write=write, processes=processes, as_json=as_json)

    answer_with(as_json, run)


@app.command(epilog=examples("dealcast report dealcast.toml --as-of 2026-09-30 --output forecast.html"))
def report(
    job: Job,
    as_of: AsOf,
    output: Annotated[Path | None, typer.Option("--output", help="Default: report.html in the job's output.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the forecast as one self-contained HTML page."""

    def run() -> Outcome:
        from forecasting.commands.runs import run_report

        return run_report(job, as_of=as_of, output=output, as_json=as_json)

    answer_with(as_json, run)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()

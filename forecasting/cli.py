"""The command line: every command is the library said aloud, see ``forecasting.commands``.

Only light modules are imported here, so that help answers at once; what a command needs is imported when it runs.
"""

from pathlib import Path
from typing import Annotated

import typer

from forecasting.terminal import answer_with

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
Fresh = Annotated[bool, typer.Option("--refit", help="Fit again even if a saved fit of the same data is there.")]
Target = Annotated[float | None, typer.Option("--target", metavar="AMOUNT", help="Instead of the job's; 5e6 will do.")]
By = Annotated[str | None, typer.Option("--by", metavar="DATE", help="Last day that counts towards the target.")]
Since = Annotated[str | None, typer.Option("--since", metavar="DATE", help="First day that counts towards the target.")]
Confidence = Annotated[float | None, typer.Option("--confidence", help="Wanted chance to reach the target, 0 to 1.")]


@app.callback()
def root() -> None:
    """Forecast sales revenue from the deals in a pipeline, with honest probabilities.

    \b
    dealcast demo                                      sample data, the whole journey in a minute
    dealcast init && dealcast check dealcast.toml      start with your own data
    dealcast forecast dealcast.toml --as-of 2026-09-30

    Exit codes: 0 fine, 1 bad input or settings, 2 crash or wrong usage, 3 the fit's diagnostics failed and nothing was
    published, 4 published and an alert condition holds.
    """


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where data, job file and results go.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another company.")] = 20261123,
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="DATE", help="Last known day; chosen for you.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make sample data, forecast them and say what comes out.

    \b
    Example:
      dealcast demo --folder demo
    """

    def run() -> "object":
        from forecasting.commands.demo import run_demo

        return run_demo(folder, seed=seed, as_of=as_of, as_json=as_json)

    answer_with(as_json, run)

"""The door: `covr-bench`, its verbs joined. Each verb imports what is heavy when it runs."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from covr_bench.cli.carla import carla_app
from covr_bench.cli.check_env import check_env_command
from covr_bench.cli.compare import compare_command
from covr_bench.cli.doctor import doctor_command
from covr_bench.cli.eval import eval_command
from covr_bench.cli.gate import gate_command
from covr_bench.cli.import_scores import import_command
from covr_bench.cli.listing import list_command
from covr_bench.cli.options import fail
from covr_bench.cli.plot import plot_command
from covr_bench.cli.probe import probe_command
from covr_bench.cli.publish import publish_command
from covr_bench.cli.record import record_command
from covr_bench.cli.remote import pull_command, push_command
from covr_bench.cli.report import report_command
from covr_bench.cli.reproduce_paper import reproduce_command
from covr_bench.cli.run import run_command
from covr_bench.cli.show import show_command
from covr_bench.cli.stats import stats_command
from covr_bench.cli.status import cancel_command, status_command
from covr_bench.cli.table import table_command
from covr_bench.cli.track import track_command
from covr_bench.cli.vlm import vlm_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmark visual RL agents, with and without a vision-language model in the loop.",
)
VERBS: dict[str, Callable[..., None]] = {
    "run": run_command,
    "reproduce": reproduce_command,
    "status": status_command,
    "cancel": cancel_command,
    "list": list_command,
    "check-env": check_env_command,
    "doctor": doctor_command,
    "table": table_command,
    "stats": stats_command,
    "plot": plot_command,
    "compare": compare_command,
    "probe": probe_command,
    "gate": gate_command,
    "report": report_command,
    "import": import_command,
    "show": show_command,
    "eval": eval_command,
    "record": record_command,
    "track": track_command,
    "publish": publish_command,
    "push": push_command,
    "pull": pull_command,
}


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"covr-bench {version('covr-bench')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Benchmark visual RL agents, with and without a vision-language model in the loop."""


for _name, _verb in VERBS.items():
    app.command(_name)(_verb)
app.add_typer(vlm_app, name="vlm")
app.add_typer(carla_app, name="carla")


def main() -> None:
    """The entry point: errors meant for the user become one message and exit code 2."""
    from covr_bench.kit.errors import UserError
    from results.layout import StoreError, StoreWarning

    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter gets its code
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.simplefilter("always", StoreWarning)
        warnings.showwarning = _noting(warnings.showwarning)
        try:
            try:
                app()
            finally:
                if sys.stdout:  # None where it is closed
                    sys.stdout.flush()
        except (UserError, StoreError) as error:
            fail(str(error), 2)
        except BrokenPipeError:  # whoever read the output has enough of it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename:
                raise
            fail(f"cannot write: {error.strerror}. Free some space, or send the output elsewhere", 1)


def _noting(show: Callable[..., None]) -> Callable[..., None]:
    """Show notes, what the store leaves out and what figures lack, each once; other warnings as before."""
    from analysis.figures.style import MissingLetters
    from covr_bench.kit.errors import Note
    from results.layout import StoreWarning

    noted: set[str] = set()

    def showwarning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, (StoreWarning, MissingLetters, Note)):
            show(message, category, *where, **more)
        elif str(message) not in noted:
            noted.add(str(message))
            print(f"note: {message}", file=sys.stderr)

    return showwarning


if __name__ == "__main__":
    main()

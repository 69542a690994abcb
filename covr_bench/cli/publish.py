"""`covr-bench publish`: a trained policy, or a store's rows, on the hub or in a folder, with a card."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covr_bench.cli.options import Out, console, say
from covr_bench.cli.show import writing
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from covr_bench.policies.hub import Repository

What = Annotated[str, typer.Argument(metavar="RUN|STORE", help="A run's id, folder or a part of its id; or a store.")]
To = Annotated[str, typer.Option(help="hf:USER/NAME, or a folder that is empty or absent.")]
Video = Annotated[bool, typer.Option("--video/--no-video", help="Film an episode of the policy.")]


def publish_command(
    what: What,
    to: To,
    out: Out = Path("results"),
    video: Video = True,
    licence: Annotated[str, typer.Option(help="SPDX identifier for the card, such as apache-2.0.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Make a repository that only you see.")] = False,
) -> None:
    """Publish a trained policy, which `load_policy` and `eval` take by that name; or a store's rows as a data set."""
    from covr_bench.policies.hub import client, on_hub, send

    name = on_hub(to)
    if name:
        client()  # before a film is made
    if not name and Path(to).exists() and (not Path(to).is_dir() or any(Path(to).iterdir())):
        raise UserError(f"{to} is there and not empty; give a folder that is empty or absent")
    target = Path(to).resolve()
    # A move there is a rename: an empty folder may be a mount point, which no folder can take the place of.
    beside = Path(tempfile.gettempdir()) if name else target if target.exists() else target.parent
    with writing(beside), tempfile.TemporaryDirectory(dir=beside) as scratch:
        folder = Path(scratch) / "published"
        kind = _lay_out(what, out, folder, to if name else Path(to).name, video, licence)
        if name:
            send(folder, name, kind, private=private)
        else:
            if target.exists():
                for each in folder.iterdir():
                    each.replace(target / each.name)
            else:
                folder.replace(target)
    say(console(), f"published {what} as a {'policy' if kind == 'model' else 'data set'}: {to}")


def _lay_out(what: str, out: Path, folder: Path, name: str, video: bool, licence: str) -> Repository:
    from covr_bench.cli.record import example_episode
    from covr_bench.policies.load import find_run
    from covr_bench.remote import publish
    from results.layout import RUNS

    if (Path(what) / RUNS).is_dir():
        publish.store(Path(what), folder, name, licence=licence)
        return "dataset"
    run = find_run(out, what)
    film = example_episode(run) if video else b""
    publish.policy(run, folder, name, video=film, licence=licence)
    return "model"

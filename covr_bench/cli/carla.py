"""`covr-bench carla`: the embedded CARLA server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covr_bench.cli.options import path_argument

carla_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The embedded CARLA server.")


@carla_app.callback()
def carla() -> None:
    """The embedded CARLA server."""


@carla_app.command()
def serve(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="RPC port; streams use the next one if it is free. 0: any.")
    ] = 2000,
    map_: Annotated[str, typer.Option("--map", help="highway, street or suburb.")] = "highway",
    client_version: Annotated[str, typer.Option(help="Release of CARLA whose clients connect.")] = "0.9.16",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines connect.")] = "127.0.0.1",
    walker_navigation: Annotated[
        bool, typer.Option(help="Let clients keep a mesh in ~/carlaCache, which controller.ai.walker needs.")
    ] = True,
    towns: Annotated[
        bool, typer.Option("--towns", help="Load the nearest of our maps where a script asks for Town01 to Town15.")
    ] = False,
) -> None:
    """Serve a world that CARLA's own client connects to, without Unreal or a GPU, until Ctrl-C."""
    from covr_bench.kit.errors import UserError
    from suites.carla.server.serve import serve as run

    try:
        run(port, map_, client_version, host, walker_navigation=walker_navigation, towns=towns)
    except ValueError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"cannot serve on {host}:{port}: {error.strerror or error}; give another --port") from error


@carla_app.command()
def doctor(
    scripts: Annotated[list[Path], path_argument(help="Python files written for CARLA.")],
    towns: Annotated[bool, typer.Option("--towns", help="As for a server with --towns.")] = False,
) -> None:
    """Check what scripts need (maps, blueprints, methods, modules) before they run. Exit 1: something lacks."""
    from covr_bench.kit.errors import UserError
    from suites.carla.doctor import examine

    lacks = 0
    for script in scripts:
        try:
            findings = examine(script, towns)
        except (OSError, SyntaxError) as error:
            raise UserError(f"{script} cannot be read: {error}") from error
        wanting = [finding for finding in findings if finding.verdict != "ok"]
        lacks += sum(finding.verdict != "idle" for finding in wanting)
        typer.echo(f"{script}: {len(findings)} needs, {len(findings) - len(wanting)} met")
        for line, kind, name, verdict, remark in wanting:
            typer.echo(f"  line {line}: {kind} {name}: {_VERDICTS[verdict]}{'; ' if remark else ''}{remark}")
    raise typer.Exit(1 if lacks else 0)


_VERDICTS = {"towns": "needs a server with --towns", "idle": "accepted without effect", "missing": "missing"}


@carla_app.command()
def launcher(
    folder: Annotated[Path, path_argument(help="Where scripts look for CarlaUE4.sh: their $CARLA_ROOT.")],
    towns: Annotated[
        bool, typer.Option("--towns", help="Load the nearest of our maps where a script asks for Town01 to Town15.")
    ] = False,
) -> None:
    """Write a CarlaUE4.sh that starts this server, for scripts that start the server themselves."""
    from covr_bench.kit.errors import UserError
    from suites.carla.ue4 import write

    try:
        typer.echo(write(folder, towns))
    except OSError as error:
        raise UserError(str(error)) from error

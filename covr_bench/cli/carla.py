"""`covr-bench carla`: the embedded CARLA server."""

from __future__ import annotations

from typing import Annotated

import typer

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

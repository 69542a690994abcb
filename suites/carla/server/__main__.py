"""`python -m suites.carla.server [--port N] [--map highway] [--client-version 0.9.16]`: serve until interrupted.

Prints the RPC port, alone on a line, once clients can connect.
"""

from __future__ import annotations

import argparse
import logging

from suites.carla.server.protocol.versions import VERSIONS
from suites.carla.server.serve import serve


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m suites.carla.server", description="An embedded CARLA server.")
    parser.add_argument("--port", type=int, default=2000, help="RPC port; 0 chooses a free one (default: 2000)")
    parser.add_argument("--map", default="highway", help="highway, street or suburb (default: highway)")
    parser.add_argument("--client-version", default="0.9.16", choices=list(VERSIONS), help="release of the clients")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started this one")
    parser.add_argument(
        "--walker-navigation",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let clients keep a mesh in ~/carlaCache, which controller.ai.walker needs",
    )
    parser.add_argument("--towns", action="store_true", help="load the nearest of our maps for Town01 to Town15")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    try:
        serve(
            arguments.port,
            arguments.map,
            arguments.client_version,
            arguments.host,
            arguments.until_stdin_closes,
            arguments.walker_navigation,
            arguments.towns,
        )
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        parser.exit(1, f"cannot listen on {arguments.host}:{arguments.port}: {error}\n")


if __name__ == "__main__":
    main()

"""An embedded server with the arguments of CARLA's own launcher: `python -m suites.carla.ue4 -carla-rpc-port=2000`.

`write` makes a `CarlaUE4.sh` of it, for scripts that start the server below `$CARLA_ROOT` themselves.
"""

from __future__ import annotations

import logging
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from suites.carla.server.protocol.versions import VERSIONS

NAME, MODULE = "CarlaUE4.sh", "suites.carla.ue4"
PORT = re.compile(r"-{1,2}(?:carla-rpc-port|carla-port|carla-world-port|world-port)=(\d+)", re.IGNORECASE)
MAP = re.compile(r"(?:/?[\w./-]*/)?(\w+)")
FIRST_MAP = "street"  # where CARLA begins in Town10HD_Opt
_log = logging.getLogger(__name__)


class Arguments(NamedTuple):
    """What of a command line concerns this server; the rest is Unreal's. idle: what is accepted without effect."""

    port: int = 2000
    map_name: str = FIRST_MAP
    towns: bool = False
    idle: tuple[str, ...] = ()


def parse(words: list[str]) -> Arguments:
    """The arguments as `CarlaUE4.sh` takes them; what this server does not know is accepted without effect."""
    known, idle = Arguments(), []
    for word in words:
        port = PORT.fullmatch(word)
        if port:
            known = known._replace(port=int(port[1]))
        elif word == "--towns":
            known = known._replace(towns=True)
        elif not word.startswith("-") and MAP.fullmatch(word) and word != "CarlaUE4":
            known = known._replace(map_name=word.rsplit("/", 1)[-1])
        else:
            idle.append(word)
    return known._replace(idle=tuple(idle))


def write(folder: Path, towns: bool = False) -> Path:
    """Writes a `CarlaUE4.sh` that starts this server.

    Args:
        folder: where scripts look for it, their `$CARLA_ROOT`; made where it is missing.
        towns: whether it loads the nearest of our maps for CARLA's towns.

    Returns:
        The file.

    Raises:
        FileExistsError: there is a `CarlaUE4.sh` of another kind.
        OSError: it cannot be written.
    """
    path = folder / NAME
    if path.exists() and MODULE not in path.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(f"{path} exists and is not ours; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", MODULE, *(["--towns"] if towns else [])]
    lines = ("#!/bin/sh", f"export PYTHONPATH={shlex.quote(str(root))}:$PYTHONPATH", f'exec {shlex.join(command)} "$@"')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def main() -> None:
    """The command line."""
    from suites.carla.launch import installed_client
    from suites.carla.server.serve import serve

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    arguments = parse(sys.argv[1:])
    if arguments.idle:
        _log.warning("accepted without effect: %s", " ".join(arguments.idle))
    try:
        release = installed_client()
    except RuntimeError:  # the clients may be elsewhere
        release = list(VERSIONS)[-1]
    try:
        serve(arguments.port, arguments.map_name, release, towns=arguments.towns)
    except (ValueError, OSError) as error:
        sys.exit(f"CarlaUE4: {error}")


if __name__ == "__main__":
    main()

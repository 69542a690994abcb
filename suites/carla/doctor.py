"""What a script written for CARLA needs, read off its text, and what of it the embedded server offers.

Nothing is run: names that a script puts together while it runs are not seen.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from suites.carla.maps import MAPS
from suites.carla.maps.towns import NEAREST, nearest
from suites.carla.server.things.blueprints import BLUEPRINTS

BLUEPRINT = re.compile(r"(vehicle|walker|static|sensor|controller|util)\.[a-z0-9_.*? -]+", re.IGNORECASE)
TOWN = re.compile(r"(?:.*/)?(Town\d\d\w*)")
# Methods of the client that the server refuses, and those it accepts without effect.
REFUSED = {
    "enable_chrono_physics": "Chrono's physics", "restore_physx_physics": "Chrono's physics",
    "enable_carsim": "CarSim's physics", "use_carsim_road": "CarSim's physics",
    "get_component_world_transform": "components of actors", "get_component_relative_transform": "components of actors",
    "get_bone_world_transforms": "bones of vehicles", "get_bone_relative_transforms": "bones of vehicles",
    "get_vehicle_bone_world_transforms": "bones of vehicles",
    "apply_textures_to_object": "textures", "apply_color_texture_to_object": "textures",
    "apply_float_color_texture_to_object": "textures",
    "enable_for_ros": "ROS", "listen_to_gbuffer": "G-buffers",
}  # fmt: skip
IDLE = {
    "open_door": "doors do not move", "close_door": "doors do not move",
    "load_map_layer": "maps have one layer", "unload_map_layer": "maps have one layer",
    "enable_environment_objects": "what stands on the map stays", "set_bones": "walkers keep their gait",
    "blend_pose": "walkers keep their gait", "draw_string": "pictures show no debug shapes",
    "draw_point": "pictures show no debug shapes", "draw_line": "pictures show no debug shapes",
    "draw_arrow": "pictures show no debug shapes", "draw_box": "pictures show no debug shapes",
}  # fmt: skip


class Finding(NamedTuple):
    """One need. verdict: `ok`, `towns` (with `--towns`), `idle` (accepted without effect) or `missing`."""

    line: int
    kind: str
    name: str
    verdict: str
    remark: str = ""


def examine(script: Path, towns: bool = False) -> list[Finding]:
    """The needs of a script in the order of its lines, each once.

    Args:
        script: a Python file.
        towns: whether the server will run with `--towns`.

    Returns:
        What it names: blueprints, maps, methods that do less here, and modules.

    Raises:
        OSError: the file cannot be read.
        SyntaxError: it is not Python.
    """
    tree = ast.parse(script.read_text(encoding="utf-8", errors="replace"), str(script))
    found: dict[tuple[str, str], Finding] = {}
    for finding in _findings(tree, script.parent, towns):
        found.setdefault((finding.kind, finding.name), finding)
    return sorted(found.values())


def _findings(tree: ast.AST, folder: Path, towns: bool) -> Iterator[Finding]:
    spared = set(_alternatives(tree, folder))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _named(node.lineno, node.value.strip(), towns)
        elif isinstance(node, ast.Attribute) and node.attr in REFUSED:
            yield Finding(node.lineno, "method", node.attr, "missing", f"the server has no {REFUSED[node.attr]}")
        elif isinstance(node, ast.Attribute) and node.attr in IDLE:
            yield Finding(node.lineno, "method", node.attr, "idle", IDLE[node.attr])
        elif isinstance(node, (ast.Import, ast.ImportFrom)) and node not in spared:
            yield from _modules(node, folder)


def _named(line: int, text: str, towns: bool) -> Iterator[Finding]:
    if BLUEPRINT.fullmatch(text):
        name = text.lower()
        known = name in BLUEPRINTS or fnmatch.filter(BLUEPRINTS, name) or fnmatch.filter(BLUEPRINTS, name + ".*")
        yield Finding(line, "blueprint", text, "ok" if known else "missing", "" if known else _alike(name))
    town = TOWN.fullmatch(text)
    if town:
        yield _town(line, town[1], towns)


def _alike(name: str) -> str:
    kind = ".".join(name.split(".")[:2])
    near = [known for known in BLUEPRINTS if known.startswith(kind)]
    return f"there are {', '.join(near[:4])}" if near else "the library has nothing like it"


def _town(line: int, town: str, towns: bool) -> Finding:
    ours = nearest(town)
    if ours is None:
        return Finding(line, "map", town, "missing", f"there are {', '.join([*MAPS, *NEAREST])}")
    return Finding(line, "map", town, "ok" if towns else "towns", f"{ours!r} stands in for it with --towns")


def _alternatives(tree: ast.AST, folder: Path) -> Iterator[ast.AST]:
    """Imports that may fail: in a `try` with another branch that goes on, as `import Queue` for want of `queue`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Try) or not any(_minds_imports(handler) for handler in node.handlers):
            continue
        branches = [list(ast.walk(ast.Module(body, []))) for body in (node.body, *(h.body for h in node.handlers))]
        imports = [[n for n in branch if isinstance(n, (ast.Import, ast.ImportFrom))] for branch in branches]
        fails = [
            any(isinstance(n, ast.Raise) for n in branch)
            or any(f.verdict == "missing" for i in needed for f in _modules(i, folder))
            for branch, needed in zip(branches, imports, strict=True)
        ]
        if not all(fails):
            yield from (i for needed, failed in zip(imports, fails, strict=True) if failed for i in needed)


def _minds_imports(handler: ast.ExceptHandler) -> bool:
    names = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} if handler.type else {"Exception"}
    return bool(names & {"ImportError", "ModuleNotFoundError", "Exception"})


def _modules(node: ast.Import | ast.ImportFrom, folder: Path) -> Iterator[Finding]:
    if isinstance(node, ast.ImportFrom):
        names = [node.module] if node.module and not node.level else []
    else:
        names = [alias.name for alias in node.names]
    for name in {name.split(".")[0] for name in names}:
        beside = (folder / f"{name}.py").exists() or (folder / name).is_dir() or name == "agents"
        verdict = "ok" if beside or importlib.util.find_spec(name) else "missing"
        yield Finding(node.lineno, "module", name, verdict, "" if verdict == "ok" else f"pip install {name}")

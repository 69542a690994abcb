"""Pictures of the embedded CARLA server: milliseconds a frame, against MuJoCo's renderer on a scene of that size.

    python -m pytest benchmarks/bench_carla_render.py --benchmark-json=carla_render.json

Times are CPU seconds of one thread. The highway at noon with 12 vehicles. The other side is MuJoCo (EGL, which is
software where there is no GPU) drawing a plane, 12 vehicles of eight shapes each, 30 houses and 40 trees without
shadows: what the server would use if it had no renderer of its own. `extra_info["ratio"]` is MuJoCo's time over ours,
the median of A B pairs.
In `test_start` only the extra_info counts: `warm_cpu_s`, a new process from its first import to its first frame, and
`cold_cpu_s`, the same with an empty cache, where every kernel is compiled. `test_lookup` is `RoadMap.nearest_lane`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paired import Contestant, compare

# Seconds of this process, as other load on the machine hardly moves them.
pytestmark = pytest.mark.benchmark(timer=time.process_time)
VEHICLES = 12
SIZES = {84: 84, 640: 360}  # width: height
FOV = 60.0


def _frame(width: int, kind: str = "rgb", weather: dict[str, float] | None = None) -> Callable[[], Any]:
    from suites.carla.maps import load_map
    from suites.carla.maps.roads import Pose
    from suites.carla.render import Camera, Renderer, Scene, Weather

    roads = load_map("highway")
    lanes = [lane for lane in roads.lanes if lane.road_id == 1 and lane.kind == "driving"]
    scene = Scene.empty(VEHICLES, Weather(**(weather or {})))
    for k in range(VEHICLES):
        lane = lanes[k % len(lanes)]
        x, y, _ = lane.centre[40 + 9 * k]
        scene.pose[k] = (x, y, 0.75, 0, 0, lane.yaw[40])
        scene.look[k], scene.colour[k], scene.lights[k] = k % 8, (200, 20 * k, 90), 2
    x, y, _ = (float(value) for value in lanes[1].centre[28])
    camera = Camera(Pose(x, y, 1.6, 0, -3, float(lanes[1].yaw[28])), width, SIZES[width], FOV)
    return partial(getattr(Renderer(roads), kind), scene, camera)


def _mujoco_frame(width: int) -> Callable[[], Any]:
    os.environ.setdefault("MUJOCO_GL", "egl")
    import mujoco

    rng = np.random.default_rng(0)
    geoms = ['<geom type="plane" size="300 300 1" rgba=".35 .35 .36 1"/>']
    for k in range(VEHICLES):
        x, y = 12.0 + 9.0 * k, (k % 4 - 1.5) * 3.5
        geoms.append(f'<geom type="box" pos="{x} {y} .55" size="2.2 .9 .3" rgba=".8 .1 .1 1"/>')
        geoms.append(f'<geom type="box" pos="{x} {y} 1.1" size="1.1 .8 .3" rgba=".1 .1 .2 1"/>')
        for dx in (-1.3, 1.3):
            for dy in (-0.85, 0.85):
                geoms.append(f'<geom type="cylinder" pos="{x + dx} {y + dy} .32" size=".32 .1" euler="90 0 0"/>')
        for dy in (-0.6, 0.6):
            geoms.append(f'<geom type="box" pos="{x - 2.2} {y + dy} .6" size=".02 .2 .08" rgba="1 0 0 1"/>')
    for k in range(70):
        x, y = rng.uniform(5, 200), rng.choice((-1, 1)) * rng.uniform(14, 60)
        if k < 30:
            geoms.append(f'<geom type="box" pos="{x} {y} 4" size="5 4 4" rgba=".6 .5 .4 1"/>')
        else:
            geoms.append(f'<geom type="ellipsoid" pos="{x} {y} 5" size="2 2 2.5" rgba=".2 .4 .1 1"/>')
    xml = (
        f'<mujoco><visual><global offwidth="{width}" offheight="{SIZES[width]}"/></visual><worldbody>'
        f'<light directional="true" castshadow="false" dir="0 .5 -1"/><camera name="eye" pos="0 0 1.6" '
        f'xyaxes="0 -1 0 0 0 1" fovy="{FOV}"/>{"".join(geoms)}</worldbody></mujoco>'
    )
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = mujoco.Renderer(model, SIZES[width], width)

    def frame() -> Any:
        renderer.update_scene(data, "eye")
        return renderer.render()

    return frame


def _many(frame: Callable[[], Any], count: int) -> Callable[[], None]:
    def frames() -> None:
        for _ in range(count):
            frame()

    return frames


def our_84() -> Callable[[], None]:
    return _many(_frame(84), 50)


def mujoco_84() -> Callable[[], None]:
    return _many(_mujoco_frame(84), 50)


def our_640() -> Callable[[], None]:
    return _many(_frame(640), 10)


def mujoco_640() -> Callable[[], None]:
    return _many(_mujoco_frame(640), 10)


@pytest.mark.parametrize(("width", "frames"), [(84, 50), (640, 10)])
def test_frame_against_mujoco(benchmark: Any, width: int, frames: int) -> None:
    """One timed round is `frames` frames."""
    ours = Contestant(f"bench_carla_render:our_{width}", keep_heap=False)
    theirs = Contestant(f"bench_carla_render:mujoco_{width}", keep_heap=False)
    benchmark.extra_info["frames"] = frames
    compare(benchmark, ours, theirs)


WEATHERS = {
    "noon": {},
    "rain": {"cloudiness": 90.0, "precipitation": 80.0, "wetness": 90.0, "precipitation_deposits": 60.0},
    "night": {"sun_altitude_angle": -40.0},
}


@pytest.mark.parametrize("weather", list(WEATHERS))
@pytest.mark.parametrize("width", list(SIZES))
def test_rgb(benchmark: Any, width: int, weather: str) -> None:
    benchmark.pedantic(_frame(width, "rgb", WEATHERS[weather]), rounds=40, warmup_rounds=2)


@pytest.mark.parametrize("kind", ["depth", "semantic"])
@pytest.mark.parametrize("width", list(SIZES))
def test_other_pictures(benchmark: Any, width: int, kind: str) -> None:
    benchmark.pedantic(_frame(width, kind), rounds=40, warmup_rounds=2)


@pytest.mark.parametrize("name", ["highway", "street", "suburb"])
def test_load(benchmark: Any, name: str) -> None:
    from suites.carla.maps import load_map
    from suites.carla.render import Renderer

    benchmark.pedantic(lambda: Renderer(load_map(name)), rounds=3, warmup_rounds=1)


def test_lookup(benchmark: Any) -> None:
    from suites.carla.maps import load_map

    roads = load_map("suburb")
    x, y, _ = (float(value) for value in roads.lanes[5].centre[3])
    benchmark(roads.nearest_lane, x + 1.0, y)


START = """
import time; start = time.process_time()
from bench_carla_render import _frame
_frame(84)()
print(time.process_time() - start)
"""


def _start_s(cache: Path | None = None) -> float:
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path} | ({"NUMBA_CACHE_DIR": str(cache)} if cache else {})
    process = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True, env=env)
    return float(process.stdout)


def test_start(benchmark: Any, tmp_path: Path) -> None:
    benchmark.extra_info["cold_cpu_s"] = _start_s(tmp_path)
    benchmark.extra_info["warm_cpu_s"] = min(_start_s() for _ in range(3))
    benchmark.pedantic(_start_s, rounds=1)

"""CARLA's own scripts, unmodified, against the embedded server: where CARLA_PYTHONAPI names their folder.

We ship none of them. Some always connect to port 2000, so the server takes that one; where it is in use all skip.
Scripts that run until they are stopped get an interrupt, as from Ctrl-C, after some seconds.
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from covr_bench.cli.app import app
from suites.carla import ue4
from suites.carla.doctor import examine
from suites.carla.launch import ServerProcess, launch

FOLDER = os.environ.get("CARLA_PYTHONAPI", "")
needs_scripts = pytest.mark.skipif(
    not FOLDER or not importlib.util.find_spec("carla"), reason="CARLA_PYTHONAPI names no folder of CARLA's PythonAPI"
)


RECORDING = "RECORDING"  # among arguments: the file of a recording, which `start_recording` makes


class Script(NamedTuple):
    """path: below PythonAPI; seconds: after which it is stopped, 0 to wait for its end."""

    path: str
    arguments: tuple[str, ...] = ()
    seconds: float = 20.0


SCRIPTS = (
    Script("util/test_connection.py", seconds=0),
    Script("util/config.py", ("--inspect",), 0),
    Script("util/config.py", ("--map", "Town03", "--weather", "HardRainNoon", "--delta-seconds", "0.05"), 0),
    Script("util/lane_explorer.py", ("-t", "0.1"), 12),
    Script("util/raycast_sensor_testing.py", ("-lp", "1", "-rp", "1")),
    Script("examples/tutorial.py", seconds=0),
    Script("examples/vehicle_physics.py", seconds=0),
    Script("examples/lidar_to_camera.py", ("--frames", "3", "--res", "160x120"), 0),
    Script("examples/sensor_synchronization.py"),
    Script("examples/synchronous_mode.py"),
    Script("examples/client_bounding_boxes.py"),
    Script("examples/bounding_boxes.py", ("--res", "160x120")),
    Script("examples/open3d_lidar.py"),
    Script("examples/visualize_multiple_sensors.py", ("--res", "300x200")),
    Script("examples/dynamic_weather.py", seconds=8),
    Script("examples/vehicle_gallery.py", seconds=12),
    Script("examples/no_rendering_mode.py"),
    Script("examples/draw_skeleton.py"),
    Script("examples/generate_traffic.py", ("--seed", "1")),
    Script("examples/generate_traffic.py", ("--asynch", "-n", "5", "-w", "5")),
    Script("examples/manual_control.py", ("--sync", "--autopilot", "--res", "160x120"), 30),
    *(
        Script("examples/automatic_control.py", ("--sync", "--agent", agent, "--res", "160x120"), 30)
        for agent in ("Basic", "Behavior", "Constant")
    ),
    Script("examples/start_recording.py", ("-n", "6", "-t", "6", "-f", RECORDING), 0),
    Script("examples/show_recorder_file_info.py", ("-a", "-f", RECORDING), 0),
    Script("examples/show_recorder_collisions.py", ("-t", "vv", "-f", RECORDING), 0),
    Script("examples/show_recorder_actors_blocked.py", ("-t", "1", "-f", RECORDING), 0),
    Script("examples/start_replaying.py", ("-f", RECORDING), 0),
)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    try:
        started = launch("street", port=2000, towns=True)
        with started as running:
            yield running
    except RuntimeError as error:
        pytest.skip(f"no server on port 2000: {str(error)[:200]}")


ENVIRONMENTS = ("carla-roach", "deep_bisim4control", "gym-carla")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings") / "drive.log"


class Outcome(NamedTuple):
    """stopped: whether it ran until it was interrupted."""

    said: str
    code: int
    stopped: bool


@needs_scripts
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: " ".join((Path(script.path).stem, *script.arguments)))
def test_script(server: ServerProcess, script: Script, recording: Path, tmp_path: Path) -> None:
    path = Path(FOLDER).resolve() / script.path
    if not path.exists():
        pytest.skip(f"{path} is not there")
    lacking = [f.name for f in examine(path) if f.kind == "module" and f.verdict == "missing"]
    if lacking:
        pytest.skip(f"it needs {', '.join(lacking)}")
    if RECORDING in script.arguments and not recording.exists():
        run(next(s for s in SCRIPTS if "start_recording" in s.path), recording, tmp_path)
    outcome = run(script, recording, tmp_path)
    if absent := re.search(r"ModuleNotFoundError: No module named '(\w+)", outcome.said):  # of CARLA's agents, say
        pytest.skip(f"it needs {absent[1]}")
    if "matplotlib.cm' has no attribute 'get_cmap'" in outcome.said:
        pytest.skip("it needs a matplotlib before 3.9")
    if "module 'numpy' has no attribute 'int'" in outcome.said:
        pytest.skip("it needs a numpy before 1.24")
    faults = [part for part in outcome.said.split("Traceback")[1:] if "KeyboardInterrupt" not in part]
    assert not faults and "Error:" not in outcome.said.replace("KeyboardInterrupt", ""), outcome.said[-3000:]
    assert outcome.stopped or outcome.code == 0, outcome.said[-3000:]
    assert script.seconds or not outcome.stopped, f"it did not end by itself: {outcome.said[-3000:]}"
    assert server.alive and "Traceback" not in server.log(), server.log()


def run(script: Script, recording: Path, folder: Path) -> Outcome:
    """Runs a script in a folder, without a screen, until it ends or its seconds are over."""
    root = Path(FOLDER).resolve()
    python_path = os.pathsep.join([str(root / "carla"), *filter(None, [os.environ.get("PYTHONPATH")])])
    env = os.environ | {"SDL_VIDEODRIVER": "dummy", "PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}
    arguments = [str(recording) if word == RECORDING else word for word in script.arguments]
    process = subprocess.Popen(
        [sys.executable, str(root / script.path), *arguments],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    stopped = False
    try:
        said, _ = process.communicate(timeout=script.seconds or 120)
    except subprocess.TimeoutExpired:
        stopped = True
        process.send_signal(signal.SIGINT)
        try:
            said, _ = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
    return Outcome(said, process.returncode, stopped)


@needs_scripts
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment(server: ServerProcess, name: str, tmp_path: Path) -> None:
    """A clone of the repository lies in the folder, under its own name."""
    root = Path(FOLDER).resolve()
    if not (root / name).is_dir():
        pytest.skip(f"{root / name} is not there")
    program = Path(__file__).with_name("carla_environments.py")
    python_path = os.pathsep.join([str(root / "carla"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, str(program), name, str(root), str(server.port)], cwd=tmp_path, timeout=300, text=True,
        capture_output=True, check=False, env=os.environ | {"SDL_VIDEODRIVER": "dummy", "PYTHONPATH": python_path},
    )  # fmt: skip
    if absent := re.search(r"ModuleNotFoundError: No module named '(\w+)", done.stderr):
        pytest.skip(f"it needs {absent[1]}")
    assert done.returncode == 0 and "done" in done.stdout, done.stderr[-3000:]
    assert server.alive and "Traceback" not in server.log(), server.log()


# ---- the doctor and the launcher -------------------------------------------------------------------------------

NEEDY = """
    import carla
    import numpy, nowhere_to_be_found
    try:
        import queue
    except ImportError:
        import Queue as queue
    try:
        import nice_to_have
    except ImportError:
        nice_to_have = None
    try:
        import needed_after_all
    except ImportError:
        raise RuntimeError("pip install it")
    client = carla.Client("localhost", 2000)
    world = client.load_world("Town03")
    library = world.get_blueprint_library()
    car = library.find("vehicle.tesla.model3")
    bikes = library.filter("vehicle.bh.*")
    plane = library.find("vehicle.boeing.b747")
    camera = library.find("sensor.camera.dvs")
    if car.id.startswith("sensor.camera"):
        car.open_door(0)
    car.enable_chrono_physics(1, 2, "", "", "", "")
"""


def test_the_doctor_reads_what_a_script_needs(tmp_path: Path) -> None:
    script = tmp_path / "needy.py"
    script.write_text(textwrap.dedent(NEEDY), encoding="utf-8")
    verdicts = {finding.name: finding.verdict for finding in examine(script)}
    assert verdicts == {
        "carla": "ok" if importlib.util.find_spec("carla") else "missing",
        "numpy": "ok", "nowhere_to_be_found": "missing", "queue": "ok", "needed_after_all": "missing",
        "Town03": "towns",
        "vehicle.tesla.model3": "ok", "vehicle.bh.*": "ok", "vehicle.boeing.b747": "missing", "sensor.camera.dvs": "ok",
        "sensor.camera": "ok", "open_door": "idle", "enable_chrono_physics": "missing",
    }  # fmt: skip
    assert {finding.name: finding.verdict for finding in examine(script, towns=True)}["Town03"] == "ok"
    answer = CliRunner().invoke(app, ["carla", "doctor", str(script)])
    assert answer.exit_code == 1 and "line 21: blueprint vehicle.boeing.b747: missing" in answer.output
    script.write_text("x = 'vehicle.*'\n", encoding="utf-8")
    assert CliRunner().invoke(app, ["carla", "doctor", str(script)]).exit_code == 0


def test_the_launcher_takes_carlas_arguments() -> None:
    words = ["/Game/Carla/Maps/Town04", "-carla-rpc-port=2412", "-quality-level=Low", "-RenderOffScreen", "-nosound"]
    arguments = ue4.parse(words)
    assert (arguments.port, arguments.map_name, arguments.towns) == (2412, "Town04", False)
    assert arguments.idle == ("-quality-level=Low", "-RenderOffScreen", "-nosound")
    assert ue4.parse(["-carla-port=3000"]).port == ue4.parse(["--carla-rpc-port=3000"]).port == 3000
    assert ue4.parse([]) == ue4.Arguments(2000, "street")


def test_the_launcher_is_written_and_starts(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["carla", "launcher", str(tmp_path / "carla"), "--towns"])
    assert answer.exit_code == 0
    script = tmp_path / "carla" / "CarlaUE4.sh"
    run = subprocess.run(
        ["/bin/sh", str(script), "-carla-rpc-port=99999"], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 1 and "port 99999 is not between" in run.stderr
    script.write_text("#!/bin/sh\necho Unreal\n")
    again = CliRunner().invoke(app, ["carla", "launcher", str(tmp_path / "carla")])
    assert again.exit_code != 0 and "Unreal" in script.read_text()

"""A real Ray cluster of three nodes, whose parts are killed at random: nothing is lost, doubled or left behind.

tox -e cluster
COVR_BENCH_KILLS=60 COVR_BENCH_SEED=1 python -m pytest -m cluster tests/test_ray.py -s
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from undisturbed import assert_as_undisturbed

pytest.importorskip("ray", reason="needs Ray: pip install 'covr-bench[ray]'")

from ray_faults import KINDS, Driver, Nodes, kill_at_random, three_nodes, wait_while

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("ray")]
KILLS = int(os.environ.get("COVR_BENCH_KILLS", len(KINDS)))
SEED = int(os.environ.get("COVR_BENCH_SEED", "0"))
ENV_STEPS = 1000


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch, three_nodes() as started:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))  # in which no other test measures costs
        yield started


def test_kills_at_random_change_nothing(nodes: Nodes, tmp_path: Path) -> None:
    """Runs, actors, nodes and the command are killed; then all is as if nothing had happened."""
    draw = random.Random(SEED)
    kinds = [KINDS[number % len(KINDS)] for number in range(KILLS)]
    draw.shuffle(kinds)
    seed = 0
    while kinds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        driver = Driver(nodes.address, folder, [seed, seed + 1, seed + 2], ENV_STEPS)
        seed += 3
        killed = kill_at_random(driver, nodes, draw, kinds)
        kinds = kinds[len(killed) :]
        wait_while(driver.goes_on)
        print(f"killed {', '.join(killed)}; {len(kinds)} to go; {driver.starts} starts of the command")
        assert killed, driver.printed.read_text()
        wait_while(driver.has_processes)
        assert_as_undisturbed(driver.out, folder / "undisturbed", runs=3)

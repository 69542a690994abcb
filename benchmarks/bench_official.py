"""One update of each agent against the official code itself, as it stands: from its own replay's sample to its weights.

    COVR_OFFICIAL=/folder pytest benchmarks/bench_official.py -s

The folder holds the official repositories under the names drqv2, taco, rad, curl, drq, playvirtual and mlr; nothing is
fetched, and what is not there is skipped. kornia and scikit-image take part in their updates and must be installed.
What takes no part (gym, hydra, plots, loggers) is replaced by stand-ins where it is missing. Their side has glibc's
default allocator, ours what our workers use, and the convolution that `--conv-kernel auto` chooses.

Image sizes are the published ones, and so are the batches of drqv2, rad, curl and drq. taco has a quarter of its 1024,
and spr, playvirtual and mlr an eighth of their 512 transitions and 128 sequences, on both sides: whole, an update of
theirs takes about a minute. SPR's step on its own loss is commented out where the official file calls it; here it is
called at that place.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from paired import Contestant, compare

FOLDER = os.environ.get("COVR_OFFICIAL", "")
EPISODES, LENGTH = 4, 125
SAC = {"init_temperature": 0.1, "alpha_lr": 1e-4, "alpha_beta": 0.5, "critic_tau": 0.01, "encoder_tau": 0.05}
SAC |= {"hidden_dim": 1024, "data_augs": "crop"}
LATENT: dict[str, Any] = {"augmentation": ["crop", "intensity"], "latent_dim": 100, "momentum_tau": 0.05}
LATENT |= {"transition_model_type": "deterministic", "num_filters": 64, "num_aug_actions": 10, "cycle_steps": 6}
LATENT |= {"rc_loss_weight": 0.0}
WHERE = {"drqv2": "drqv2", "taco": "taco", "rad_crop": "rad", "rad_translate": "rad", "curl": "curl", "drq": "drq"}
WHERE |= {"playvirtual": "playvirtual/DMControl/src", "spr": "mlr/DMControl/src", "mlr": "mlr/DMControl/src"}
SIDE = {"drqv2": 84, "taco": 84, "rad_translate": 108, "drq": 84}  # pixels; others 100
BATCH = {"drqv2": 256, "taco": 256, "playvirtual": 64, "spr": 64, "mlr": 64}  # others 128
SEQUENCES = 16
OUR_SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"seed_steps": 0, "update_every": 8} for name in ("drqv2", "taco")},
    "rad_crop": {"augmentation": "crop"},
    "rad_translate": {"augmentation": "translate"},
    **{name: {"model_batch_size": SEQUENCES} for name in ("spr", "playvirtual", "mlr")},
}


def _frames(rng: np.random.Generator, side: int) -> Any:
    return rng.integers(0, 256, (LENGTH + 1, 3, side, side), dtype=np.uint8)


def _stacks(frames: Any) -> Any:
    return np.stack([np.concatenate([frames[max(i - k, 0)] for k in (2, 1, 0)]) for i in range(LENGTH + 1)])


def _our_update(what: str) -> Callable[[], Any]:
    from covr_bench.config import registry
    from covr_bench.kit import winograd
    from covr_bench.kit.api import Context
    from covr_bench.kit.replay import Replay

    side, rng = SIDE.get(what, 100), np.random.default_rng(0)
    replay = Replay(EPISODES * (LENGTH + 1) + 8, (9, side, side), 1, seed=0)
    for _ in range(EPISODES):
        frames = _frames(rng, side)
        replay.start(np.concatenate([frames[0]] * 3))
        for frame in frames[1:]:
            replay.add(rng.uniform(-1, 1, 1).astype(np.float32), 1.0, False, np.concatenate([frame] * 3))
    spec = registry.agent(what.split("_")[0])
    settings = {"batch_size": BATCH.get(what, 128)} | OUR_SETTINGS.get(what, {})
    settings |= {} if what in ("drqv2", "taco") else {"random_agent_steps": 0}
    kernel = winograd.choose("auto", "cpu").kernel
    agent: Any = spec.make(
        spec.Config(**settings), Context((9, side, side), 1, 8, 100_000, "cpu", 0, conv_kernel=kernel)
    )
    steps = itertools.count(50_000, 8)
    return lambda: [agent.update(replay, next(steps)) for _ in range(_updates(what))]


def _updates(what: str) -> int:
    """An even and an odd one, where only the even one moves the actor."""
    return 1 if what in ("drqv2", "taco") else 2


def _official(what: str) -> None:
    """Let its modules be imported."""
    import torch

    layers = {"trunc_normal_": torch.nn.init.trunc_normal_, "drop_path": None, "to_2tuple": None}
    _stand_in("gym", Wrapper=object)
    _stand_in("hydra", utils=SimpleNamespace(instantiate=lambda make: make()))
    _stand_in("omegaconf", OmegaConf=None)
    _stand_in("matplotlib.pyplot")
    _stand_in("timm.models.layers", **layers)
    _stand_in("torchvision.transforms._transforms_video", RandomCropVideo=lambda size: None)
    sys.path.insert(0, str(Path(FOLDER) / WHERE[what]))


def _stand_in(name: str, **content: Any) -> None:
    parents = name.split(".")
    if importlib.util.find_spec(parents[0]) is None:
        for end in range(1, len(parents) + 1):
            sys.modules[".".join(parents[:end])] = ModuleType(".".join(parents[:end]))
        vars(sys.modules[name]).update(content)


class _Silent:
    """Their logger."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values, **options: None


def _fill(replay: Any, side: int, *dones: Any) -> Any:
    """Whole stacks of s and s'. dones: none of which ends an episode."""
    rng = np.random.default_rng(0)
    for _ in range(EPISODES):
        stacks = _stacks(_frames(rng, side))
        for obs, next_obs in itertools.pairwise(stacks):
            replay.add(obs, rng.uniform(-1, 1, 1), 1.0, next_obs, *dones)
    return replay


def _both(agent: Any, replay: Any) -> Callable[[], Any]:
    """An even and an odd update at steps at which nothing is logged."""
    return lambda: [agent.update(replay, _Silent(), step) for step in (20_002, 20_003)]


def _sac_family(what: str) -> Callable[[], Any]:
    """rad and curl."""
    _official(what)
    import curl_sac
    import utils

    side = SIDE.get(what, 100)
    window = 108 if what == "rad_translate" else 84
    settings = SAC | {"data_augs": what.removeprefix("rad_")}
    if what == "curl":
        del settings["data_augs"]
    agent_class = curl_sac.CurlSacAgent if what == "curl" else curl_sac.RadSacAgent
    agent = agent_class((9, window, window), (1,), "cpu", **settings)
    extra = {"pre_image_size": 100} if what == "rad_translate" else {}
    replay = utils.ReplayBuffer((9, side, side), (1,), EPISODES * LENGTH, 128, "cpu", image_size=window, **extra)
    return _both(agent, _fill(replay, side, False))


def _drq(what: str) -> Callable[[], Any]:
    _official(what)
    import drq
    import replay_buffer

    encoder = partial(drq.Encoder, (9, 84, 84), 50)
    actor, critic = partial(drq.Actor, encoder, (1,), 1024, 2, [-10, 2]), partial(drq.Critic, encoder, (1,), 1024, 2)
    agent = drq.DRQAgent((9, 84, 84), (1,), (-1, 1), "cpu", encoder, critic, actor, 0.99, 0.1, 1e-3, 2, 0.01, 2, 128)
    return _both(
        agent, _fill(replay_buffer.ReplayBuffer((9, 84, 84), (1,), EPISODES * LENGTH, 4, "cpu"), 84, False, False)
    )


def _latent_family(what: str) -> Callable[[], Any]:
    """playvirtual, spr and mlr."""
    _official(what)
    import utils

    names = {"playvirtual": "cycdm_sac.CycDMSacAgent", "spr": "spr_sac.SPRSacAgent", "mlr": "mtm_sac.MTMSacAgent"}
    module, name = names[what].split(".")
    jumps = 15 if what == "mlr" else 6
    settings = {key: value for key, value in SAC.items() if key != "data_augs"} | LATENT | {"jumps": jumps}
    agent = getattr(importlib.import_module(module), name)((9, 84, 84), (1,), "cpu", **settings)
    replay = utils.ReplayBuffer(
        (9, 100, 100),
        (1,),
        EPISODES * LENGTH,
        BATCH[what],
        "cpu",
        auxiliary_task_batch_size=SEQUENCES,
        jumps=jumps,
    )
    _fill(replay, 100, 0.0)
    if what == "spr":
        _call_its_step(agent, replay)
    return _both(agent, replay)


def _call_its_step(agent: Any, replay: Any) -> None:
    """SPR's, after the critic's, on the sequences just sampled."""
    sampled: list[Any] = []
    sample, update_critic = replay.sample_spr, agent.update_critic
    replay.sample_spr = lambda: sampled.__setitem__(slice(None), sample()) or sampled

    def both(*arguments: Any) -> None:
        update_critic(*arguments)
        agent.update_spr(sampled[-1], *arguments[-2:])

    agent.update_critic = both


def _ddpg_family(what: str) -> Callable[[], Any]:
    """drqv2 and taco, their replay in this process instead of four others."""
    _official(what)
    import replay_buffer

    folder, rng = tempfile.TemporaryDirectory(), np.random.default_rng(0)
    for episode in range(EPISODES):
        column = np.ones((LENGTH + 1, 1), np.float32)
        arrays = {"observation": _stacks(_frames(rng, 84)), "action": column / 2, "reward": column, "discount": column}
        replay_buffer.save_episode(arrays, Path(folder.name) / f"0_{episode}_{LENGTH}.npz")
    settings: dict[str, Any] = {"obs_shape": (9, 84, 84), "action_shape": (1,), "device": "cpu", "lr": 1e-4}
    settings |= {"feature_dim": 50, "hidden_dim": 1024, "critic_target_tau": 0.01, "num_expl_steps": 2000}
    settings |= {"update_every_steps": 2, "stddev_schedule": "linear(1.0,0.1,100000)", "stddev_clip": 0.3}
    settings |= {"use_tb": True}
    if what == "taco":
        from agents.taco import TACOAgent as Agent

        settings |= {"encoder_lr": 1e-4, "reward": True, "multistep": 3, "latent_a_dim": "none", "curl": True}
    else:
        from drqv2 import DrQV2Agent as Agent
    windows = {"nstep": 3, "discount": 0.99} | ({"multistep": 3} if what == "taco" else {})
    loader = replay_buffer.make_replay_loader(Path(folder.name), 1_000_000, BATCH[what], 0, True, **windows)
    agent, batches = Agent(**settings), iter(loader)
    return lambda: (folder, agent.update(batches, 50_000))


THEIRS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "drqv2": _ddpg_family,
    "taco": _ddpg_family,
    "rad_crop": _sac_family,
    "rad_translate": _sac_family,
    "curl": _sac_family,
    "drq": _drq,
    "playvirtual": _latent_family,
    "spr": _latent_family,
    "mlr": _latent_family,
}


def _their_update(what: str) -> Callable[[], Any]:
    with contextlib.redirect_stdout(sys.stderr):  # they print what they are made of, where `paired` prints times
        return THEIRS[what](what)


def __getattr__(name: str) -> Any:
    """`our_WHAT` and `official_WHAT` for the two processes."""
    side, _, what = name.partition("_")
    if side in ("our", "official") and what in THEIRS:
        return partial(_our_update if side == "our" else _their_update, what)
    raise AttributeError(name)


@pytest.mark.parametrize("what", THEIRS)
def test_update(benchmark: Any, what: str) -> None:
    if not FOLDER:
        pytest.skip("COVR_OFFICIAL names no folder with the official repositories")
    if not (Path(FOLDER) / WHERE[what]).is_dir():
        pytest.skip(f"{FOLDER} has no {WHERE[what]}")
    for package in ("kornia", "skimage"):
        pytest.importorskip(package)
    ours, theirs = Contestant(f"bench_official:our_{what}", keep_heap=True), f"bench_official:official_{what}"
    compare(benchmark, ours, Contestant(theirs, keep_heap=False), rounds=3)

"""A trained policy as a value: it acts, plays whole episodes, and has its environment at hand."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from covr_bench.kit.errors import UserError
from covr_bench.kit.seeds import starts
from covr_bench.policies.load import find_run, loaded
from suites.contract.trial import described

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

    from covr_bench.config.run_config import RunConfig


class TrainedPolicy:
    """The newest policy of a stored run, before its own task or another of the same shapes; a context manager.

    Whoever uses it keeps their own random states and number of torch's threads: the policy's are in force only while it
    is loaded, acts and plays.

    Args:
        out: Folder of the results.
        run: The run's id, its folder, a part of the id that no other has, or `hf:USER/NAME`.
        task: `SUITE/TASK`; the run's own where empty.
        settings: Options of the task, `env.KEY=VALUE` each.
        device: A torch device.
        trust_code: Run the agent's own code that a published policy brings along.

    Attributes:
        env: The environment, `suites.base.PixelEnv`.
        config: Of the run.
        env_steps: How long the policy was trained, in environment steps.

    Raises:
        UserError: The run, its weights or its files are gone, or the policy does not fit the task.
    """

    def __init__(
        self,
        out: Path,
        run: str,
        *,
        task: str = "",
        settings: Sequence[str] = (),
        device: str = "cpu",
        trust_code: bool = False,
    ) -> None:
        self._open, self._closed = ExitStack(), False
        policy = self._open.enter_context(
            loaded(find_run(out, run), task, settings, device=device, trust_code=trust_code)
        )
        self._agent, self._aside = policy.agent, policy.aside
        self.env = policy.env
        self.config: RunConfig = policy.config
        self.env_steps = policy.env_steps

    def act(self, obs: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The policy's action, float32 `(action_dim,)` in [-1, 1], for one observation, as `env` gives them.

        Args:
            obs: uint8 `(3 * frame_stack, H, W)`, the newest frame last; of a task told in numbers float32 `(N,)`.

        Raises:
            UserError: It is of another shape or type.
        """
        space = self.env.observation_space
        if not isinstance(obs, np.ndarray) or (obs.shape, obs.dtype) != (space.shape, space.dtype):
            raise UserError(
                f"the observation is {described(obs)}; this policy takes {space.dtype} {space.shape}"
                + ("" if len(space.shape or ()) < 3 else ": one observation, its frames channel first, the newest last")
            )
        with self._aside.inside():
            return self._agent.act(np.ascontiguousarray(obs), self.env_steps, explore=False)

    def play(self, episodes: int = 1, *, seed: int | None = None) -> dict[str, list[float]]:
        """Whole episodes; per episode `return`, `length` in environment steps, and what the task measures.

        Args:
            episodes: How many.
            seed: Of the starts; those of the run's evaluations where None.

        Raises:
            UserError: No episode is asked for, a number is negative or not whole, or the policy is closed.
        """
        for name, number in (("episodes", episodes), ("seed", 0 if seed is None else seed)):
            if isinstance(number, (bool, np.bool_)) or not isinstance(number, (int, np.integer)):
                raise UserError(f"{name} is {number!r}; give a whole number")
        if episodes < 1:
            raise UserError(f"{episodes} episodes are none; ask for 1 or more")
        if seed is not None and seed < 0:
            raise UserError(f"seed is {seed}; a seed is 0 or more")
        if self._closed:
            raise UserError("this policy is closed: play within its `with` block, or load it again")
        from covr_bench.run.evaluate import evaluate

        begins = starts(self.config.seed if seed is None else int(seed), int(episodes))
        with self._aside.inside():
            return evaluate(self._agent, self.env, begins, self.env_steps)

    def close(self) -> None:
        """Close the environment."""
        self._closed = True
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"TrainedPolicy({self.config.run_id!r}, env_steps={self.env_steps})"

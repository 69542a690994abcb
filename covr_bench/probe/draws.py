"""Prepared draws: random functions whose values follow from what is asked, not from what was asked before.

A value depends on the kind of draw, its shape, how many draws of that kind and shape came before, and its place in the
array. So two programs that draw the same things in another order draw the same values; and the values are the same on
every machine, since they are integer arithmetic up to a last multiplication or a Box-Muller transform.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

Shape = tuple[int, ...]


class Draws:
    """The source of all prepared draws.

    counts: how many of each kind and shape there were, in order of the first. swapped: a kind and shape whose draws are
    given in pairs the other way round, the second before the first.
    """

    def __init__(self, swapped: tuple[str, Shape] | None = None) -> None:
        self.counts: Counter[tuple[str, Shape]] = Counter()
        self._swapped = swapped

    def uniform(self, shape: Sequence[int], kind: str = "uniform") -> npt.NDArray[np.float64]:
        """Numbers in (0, 1) of a shape."""
        shape = tuple(int(side) for side in shape)
        number = self.counts[kind, shape] ^ (self._swapped == (kind, shape))  # of a pair, the other
        key = hashlib.sha256(f"{kind}{shape}{number}".encode()).digest()
        self.counts[kind, shape] += 1
        return _uniform(int.from_bytes(key[:8], "little"), math.prod(shape)).reshape(shape)

    def normal(self, shape: Sequence[int]) -> npt.NDArray[np.float64]:
        """Standard normal numbers of a shape."""
        shape = tuple(int(side) for side in shape)
        u = self.uniform((*shape, 2), "normal")
        return np.asarray(np.sqrt(-2 * np.log(u[..., 0])) * np.cos(2 * math.pi * u[..., 1]))

    def integers(self, low: int, high: int, shape: Sequence[int]) -> npt.NDArray[np.int64]:
        """Whole numbers from low up to, not including, high."""
        return low + np.floor(self.uniform(shape, "integer") * (high - low)).astype(np.int64)

    def permutation(self, n: int) -> npt.NDArray[np.int64]:
        """The numbers 0 to n - 1 in another order."""
        return np.argsort(self.uniform((n,), "permutation"), kind="stable")


def _uniform(key: int, n: int) -> npt.NDArray[np.float64]:
    """n numbers in (0, 1) by SplitMix64 (Steele, Lea, Flood 2014), from a counter that starts at a key."""
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    numbers: npt.NDArray[np.float64] = ((z >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return numbers


class PreparedGenerator:
    """What stands for a `numpy.random.Generator`: the methods that agents and our replay draw with."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self.bit_generator = np.random.PCG64(0)  # its state goes into checkpoints

    def random(self, size: Any = None, **_: Any) -> Any:
        return _sized(self._draws.uniform(_shape(size)), size)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        return _sized(low + (np.asarray(high) - low) * self._draws.uniform(_shape(size)), size)

    def standard_normal(self, size: Any = None, **_: Any) -> Any:
        return _sized(self._draws.normal(_shape(size)), size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        return _sized(loc + np.asarray(scale) * self._draws.normal(_shape(size)), size)

    def integers(self, low: int, high: int | None = None, size: Any = None, **options: Any) -> Any:
        low, high = (0, low) if high is None else (low, high)
        high += bool(options.get("endpoint"))
        return _sized(self._draws.integers(low, high, _shape(size)), size)

    def permutation(self, x: Any) -> Any:
        items = np.arange(x) if np.ndim(x) == 0 else np.asarray(x)
        return items[self._draws.permutation(len(items))]

    def shuffle(self, x: Any) -> None:
        x[:] = self.permutation(x)

    def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None, **_: Any) -> Any:
        items = np.arange(a) if np.ndim(a) == 0 else np.asarray(a)
        if not replace and p is None:
            return items[self._draws.permutation(len(items))[: math.prod(_shape(size))]].reshape(_shape(size))
        edges = np.cumsum(np.full(len(items), 1 / len(items)) if p is None else np.asarray(p, np.float64))
        at = np.searchsorted(edges / edges[-1], self._draws.uniform(_shape(size)), side="right")
        return _sized(items[np.minimum(at, len(items) - 1)], size)


def _shape(size: Any) -> Shape:
    if size is None:
        return ()
    return (int(size),) if np.ndim(size) == 0 else tuple(int(side) for side in size)


def _sized(values: npt.NDArray[Any], size: Any) -> Any:
    return values[()] if size is None else values


@contextmanager
def prepared_draws(swapped: tuple[str, Shape] | None = None) -> Iterator[Draws]:
    """Within it, torch's and numpy's random functions give prepared draws.

    C++ code of torch that draws by itself (dropout, multinomial) keeps torch's generator, which the probe seeds.

    Args:
        swapped: A kind and shape whose draws come in pairs the other way round.

    Yields:
        The source, with its counts.
    """
    draws = Draws(swapped)
    with ExitStack() as stack:
        for owner, name, stand_in in _stand_ins(draws):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield draws


def _stand_ins(draws: Draws) -> list[tuple[Any, str, Callable[..., Any]]]:
    """Owner, name and replacement of every random function."""

    def tensor(values: npt.NDArray[Any], like: torch.Tensor | None = None, **options: Any) -> torch.Tensor:
        default = torch.int64 if values.dtype == np.int64 else torch.get_default_dtype()
        dtype = options.get("dtype") or (default if like is None else like.dtype)
        device = options.get("device") or ("cpu" if like is None else like.device)
        return torch.from_numpy(np.asarray(values)).to(device=device, dtype=dtype)

    def filled(target: torch.Tensor, values: npt.NDArray[Any]) -> torch.Tensor:
        with torch.no_grad():
            return target.copy_(torch.from_numpy(np.asarray(values)))

    def randint(low: int, high: Any = None, size: Any = None, **options: Any) -> torch.Tensor:
        low, high, size = (0, low, high) if size is None else (low, high, size)
        return tensor(draws.integers(int(low), int(high), tuple(size)), **options)

    def randint_like(x: torch.Tensor, low: int, high: int | None = None, **options: Any) -> torch.Tensor:
        low, high = (0, low) if high is None else (low, high)
        return tensor(draws.integers(int(low), int(high), x.shape), x, **options)

    def normal(mean: Any = 0.0, std: Any = 1.0, size: Any = None, **options: Any) -> torch.Tensor:
        if size is not None:
            noise = tensor(draws.normal(tuple(size)), **options)
        else:
            like = mean if isinstance(mean, torch.Tensor) else std
            noise = tensor(draws.normal(like.shape), like)
        return noise.mul(std).add(mean)

    def sizes(arguments: tuple[Any, ...], options: dict[str, Any]) -> Shape:
        given = options.pop("size", arguments)
        return tuple(given[0]) if len(given) == 1 and not isinstance(given[0], int) else tuple(given)

    return [
        (torch, "rand", lambda *size, **o: tensor(draws.uniform(sizes(size, o)), **o)),
        (torch, "randn", lambda *size, **o: tensor(draws.normal(sizes(size, o)), **o)),
        (torch, "rand_like", lambda x, **o: tensor(draws.uniform(x.shape), x, **o)),
        (torch, "randn_like", lambda x, **o: tensor(draws.normal(x.shape), x, **o)),
        (torch, "randint", randint),
        (torch, "randint_like", randint_like),
        (torch, "randperm", lambda n, **o: tensor(draws.permutation(n), **o)),
        (torch, "normal", normal),
        (torch, "bernoulli", lambda p, **_: tensor((draws.uniform(p.shape) < p.numpy(force=True)) * 1.0, p)),
        (torch.Tensor, "uniform_", lambda x, a=0.0, b=1.0, **_: filled(x, a + (b - a) * draws.uniform(x.shape))),
        (torch.Tensor, "normal_", lambda x, m=0.0, s=1.0, **o: filled(x, _moved(draws.normal(x.shape), m, s, o))),
        (torch.Tensor, "bernoulli_", lambda x, p=0.5, **_: filled(x, (draws.uniform(x.shape) < p) * 1.0)),
        (np.random, "default_rng", lambda seed=None: PreparedGenerator(draws)),
    ]


def _moved(values: npt.NDArray[np.float64], mean: float, std: float, options: dict[str, Any]) -> npt.NDArray[Any]:
    return np.asarray(options.get("mean", mean) + options.get("std", std) * values)

"""Pre-training of the tiny model on seeing and on the answer's form, never on what a task's good actions are.

see     the vision part learns to read off where things are in the image: regression of the visible state.
answer  the whole model learns to write numbers that depend on what it sees. A question names a rule; rule k answers
        with numbers that are a fixed affine function of the visible state, drawn from the seed (the first rules just
        report the state). The task's own prompt names no rule, and is answered by a random one each time: the model
        then knows the form and the range of an answer, and has no opinion about actions. It begins with one rule of
        one task: a model that has not yet found out that the image says anything learns nothing from many at once.

    python -m covr.vlm.pretrain cartpole.npz reacher.npz --out tiny_weights

`examples/pretrain_tiny_vlm.py` draws the frames of the DMControl tasks from random states.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from covr.vlm import tiny
from covr.vlm.finetune import answer_logits, weighted_loss
from covr.vlm.hf import HFPrior
from covr.vlm.images import patches
from covr.vlm.prompts import Prompt, task_prompt
from covr.vlm.tree import values_of
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

HELD_OUT = 0.05
STILL = 1e-3  # a state that varies less than this (in units of the image's half width) cannot be seen to


@dataclass(frozen=True)
class Domain:
    """Frames of one task with what can be seen in them.

    frames: uint8 `(N, H, W, 3)`, of random states, wider than an agent reaches. states: float32 `(N, S)`, visible
    quantities such as positions in the image.
    """

    name: str
    instruction: str
    action_dim: int
    frames: npt.NDArray[np.uint8]
    states: npt.NDArray[np.float32]

    def save(self, path: Path) -> None:
        np.savez(path, **asdict(self))

    @classmethod
    def load(cls, path: Path) -> Domain:
        """Raises UserError for a file that `save` did not write."""
        try:
            with np.load(path) as file:
                name, instruction = str(file["name"]), str(file["instruction"])
                return cls(name, instruction, int(file["action_dim"]), file["frames"], file["states"])
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{path} holds no frames for pre-training: {error}") from error

    def standardised(self) -> Domain:
        """States with mean 0 and standard deviation 1/2 each, so that most lie within [-1, 1]; constants left out."""
        spread = self.states.std(0, dtype=np.float64)
        kept = spread > STILL
        if not kept.any():
            raise UserError(f"no state of {self.name} varies: there is nothing to learn to see")
        states = (self.states[:, kept] - self.states[:, kept].mean(0)) / (2 * spread[kept])
        return Domain(self.name, self.instruction, self.action_dim, self.frames, states.astype(np.float32))


@dataclass(frozen=True)
class Recipe:
    """Steps are shared by all domains in turn. shift: pixels. jitter: relative change of each colour's gain."""

    size: str = "xs"
    seed: int = 0
    see_steps: int = 4_000
    see_batch: int = 64
    see_lr: float = 2e-3
    answer_first: int = 200  # steps on the first task's first rule alone
    answer_steps: int = 4_000
    answer_batch: int = 32
    answer_lr: float = 1e-3
    rules: int = 2
    unruled: float = 0.1  # share of the questions that name no rule
    shift: int = 2
    jitter: float = 0.1


def pretrain(
    folder: Path, domains: Sequence[Domain], recipe: Recipe, log: Callable[[str], None] = print
) -> dict[str, Any]:
    """Build the model in `folder`, train it there, and write its weights and card; returns what the card states."""
    if not domains:
        raise UserError("pre-training needs frames of at least one task")
    started = time.perf_counter()
    ready = [domain.standardised() for domain in domains]
    prior = HFPrior(str(tiny.build(folder, recipe.seed, recipe.size)), dtype="float32")
    model = prior.checkpoint.model
    model.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        seen = see(prior, ready, recipe, log)
        answered = answer(prior, ready, recipe, log)
    model.save_pretrained(folder)
    made = {"recipe": asdict(recipe), "domains": [d.name for d in ready], "frames": sum(len(d.frames) for d in ready)}
    made |= {"see_error": seen, "answer_error": answered}
    parameters = model.num_parameters()
    card = {"size": recipe.size, "seed": recipe.seed, "parameters": parameters, **asdict(tiny.SIZES[recipe.size])}
    tiny.write_card(folder, card | {"pretraining": made})
    log(f"{time.perf_counter() - started:.0f} s")
    return made


def see(prior: HFPrior, domains: Sequence[Domain], recipe: Recipe, log: Callable[[str], None]) -> dict[str, float]:
    """Train the vision part; returns each domain's held-out error, over that of the mean state."""
    rng = np.random.default_rng(recipe.seed)
    vision = prior.checkpoint.model.model.visual
    tokens = [prior.image_embeds(domain.frames[:1]).flatten(1).shape[1] for domain in domains]
    heads = [torch.nn.Linear(n, d.states.shape[1]) for n, d in zip(tokens, domains, strict=True)]
    trained = [*vision.parameters(), *(p for head in heads for p in head.parameters())]
    optimizer, schedule = _optimizer(trained, recipe.see_lr, recipe.see_steps)

    def error(i: int, rows: Any, augment: bool) -> torch.Tensor:
        frames = domains[i].frames[rows]
        embeds = image_embeds(prior, augmented(frames, rng, recipe) if augment else frames)
        return F.mse_loss(heads[i](embeds.flatten(1)), torch.from_numpy(domains[i].states[rows]))

    for step in range(recipe.see_steps):
        i = step % len(domains)
        loss = error(i, rng.integers(0, _train_size(domains[i]), recipe.see_batch), True)
        _descend(loss, optimizer, schedule, trained)
        if (step + 1) % max(recipe.see_steps // 10, 1) == 0:
            log(f"see {step + 1}/{recipe.see_steps} {domains[i].name}: loss {4 * loss.item():.3f}")
    result = {}
    with torch.no_grad():
        for i, domain in enumerate(domains):
            rows = np.arange(_train_size(domain), len(domain.frames))[:512]
            result[domain.name] = round(4 * float(error(i, rows, False)), 4)  # the states' variance is 1/4
    return result


def answer(prior: HFPrior, domains: Sequence[Domain], recipe: Recipe, log: Callable[[str], None]) -> dict[str, float]:
    """Train the whole model to answer; returns each domain's held-out error over its rules, over that of the mean."""
    rng = np.random.default_rng(recipe.seed + 1)
    maps = [rule_maps(domain, recipe) for domain in domains]
    model = prior.checkpoint.model
    trained = list(model.parameters())
    optimizer, schedule = _optimizer(trained, recipe.answer_lr, recipe.answer_steps)
    end = prior.checkpoint.tokenizer.convert_tokens_to_ids("<|im_end|>")
    steady = replace(recipe, shift=0)  # the numbers say where things are: a shifted image would make them wrong
    for step in range(recipe.answer_steps):
        i = 0 if step < recipe.answer_first else step % len(domains)
        domain, rules = domains[i], maps[i]
        rows = rng.integers(0, _train_size(domain), recipe.answer_batch)
        asked = -1 if rng.uniform() < recipe.unruled else int(rng.integers(len(rules)))  # -1: the task's own prompt
        asked = 0 if step < recipe.answer_first else asked
        drawn = np.full(len(rows), asked) if asked >= 0 else rng.integers(0, len(rules), len(rows))
        actions = apply_rules(rules, drawn, domain.states[rows])
        reader = prior.reader(domain.frames[:1], rule_prompt(domain, asked))
        reader.prefix = None
        ids = reader.template.answer_ids(actions)
        labels = torch.from_numpy(np.concatenate([ids, np.full((len(ids), 1), end)], 1))
        embeds = image_embeds(prior, augmented(domain.frames[rows], rng, steady))
        logits = answer_logits(reader, embeds, labels)
        loss = weighted_loss(logits, labels, torch.ones(len(rows)), 0.0, labels.numel())
        _descend(loss, optimizer, schedule, trained)
        if (step + 1) % max(recipe.answer_steps // 10, 1) == 0:
            log(f"answer {step + 1}/{recipe.answer_steps} {domain.name}: loss {loss.item():.3f}")
    prior.forget()
    return {domain.name: _answer_error(prior, domain, rules) for domain, rules in zip(domains, maps, strict=True)}


def rule_maps(domain: Domain, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Affine maps from state to action, float32 `(rules, 1 + S, A)`, offset first. The first report the state."""
    rng = np.random.default_rng((recipe.seed, *domain.name.encode()))
    states, actions = domain.states.shape[1], domain.action_dim
    maps = rng.normal(0, 1.2 / np.sqrt(states), (recipe.rules, 1 + states, actions))
    maps[:, 0] = rng.normal(0, 0.2, (recipe.rules, actions))
    for rule in range(min(recipe.rules // 2, -(-states // actions))):
        maps[rule] = 0
        for a in range(actions):
            maps[rule, 1 + (rule * actions + a) % states, a] = 1
    return maps.astype(np.float32)


def apply_rules(
    maps: npt.NDArray[np.float32], rules: npt.NDArray[np.int64], states: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """The numbers rule `rules[n]` answers of state n, within [-1, 1], float32 `(N, A)`."""
    chosen = maps[rules]
    numbers = chosen[:, 0] + np.einsum("ns,nsa->na", states, chosen[:, 1:])
    return np.asarray(np.clip(numbers, -1, 1), np.float32)


def rule_prompt(domain: Domain, rule: int) -> Prompt:
    """The task's own prompt for -1, else one that names the rule."""
    own = task_prompt(domain.instruction, domain.action_dim)
    return own if rule < 0 else Prompt(own.system, f"Rule {rule}.\n{own.user}", own.action_dim)


def augmented(frames: npt.NDArray[np.uint8], rng: np.random.Generator, recipe: Recipe) -> npt.NDArray[np.uint8]:
    """Each frame shifted by up to `shift` pixels, edges repeated, and its colours scaled."""
    count, height, width = frames.shape[:3]
    dy, dx = rng.integers(-recipe.shift, recipe.shift + 1, (2, count, 1))
    rows = np.clip(np.arange(height) + dy, 0, height - 1)[:, :, None]
    columns = np.clip(np.arange(width) + dx, 0, width - 1)[:, None]
    gain = rng.uniform(1 - recipe.jitter, 1 + recipe.jitter, (count, 1, 1, 3)).astype(np.float32)
    moved = frames[np.arange(count)[:, None, None], rows, columns] * gain
    return np.asarray(np.minimum(moved, 255), np.uint8)


def image_embeds(prior: HFPrior, frames: npt.NDArray[np.uint8]) -> torch.Tensor:
    """As the prior's own, with gradients."""
    values, grid = patches(frames, prior.checkpoint.image_processor)
    return torch.stack(list(prior.checkpoint.model.model.get_image_features(values, grid).pooler_output))


def _answer_error(prior: HFPrior, domain: Domain, maps: npt.NDArray[np.float32]) -> float:
    rows = np.arange(_train_size(domain), len(domain.frames))[:128]
    embeds = prior.image_embeds(domain.frames[rows])
    errors, spread = 0.0, 0.0
    for rule in range(len(maps)):
        wanted = apply_rules(maps, np.full(len(rows), rule), domain.states[rows])
        reader = prior.reader(domain.frames[:1], rule_prompt(domain, rule))
        given = values_of(reader.forced(embeds).choices).numpy()
        errors += float(((given - wanted) ** 2).sum())
        spread += float(((wanted - wanted.mean(0)) ** 2).sum())
    return round(errors / spread, 4) if spread else float("nan")


def _train_size(domain: Domain) -> int:
    return len(domain.frames) - max(int(HELD_OUT * len(domain.frames)), 1)


def _optimizer(parameters: list[Any], lr: float, steps: int) -> tuple[Any, Any]:
    """AdamW with a short warm-up and a cosine to zero."""
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
    warm = max(steps // 20, 1)

    def factor(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + float(np.cos(np.pi * step / max(steps, 1)))))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _descend(loss: torch.Tensor, optimizer: Any, schedule: Any, parameters: list[Any]) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train the tiny VLM on frames with their visible states.")
    parser.add_argument("frames", nargs="+", type=Path, help=".npz files written by Domain.save")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the checkpoint to")
    for name, value in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    domains = [Domain.load(path) for path in options.pop("frames")]
    print(json.dumps(pretrain(options.pop("out"), domains, Recipe(**options)), indent=1))


if __name__ == "__main__":
    main()

"""A VLM that knows: the stand-in after lessons in what is good to do on `catch` and on the highway `carla/hw`.

It has learnt the game. Of the highway it has learnt little more than the mean action, since one picture does not tell
how fast the car is; its card has the errors.

With it can be tried offline what becomes of a VLM's knowledge: whether it reaches the agent, and whether fine-tuning
adds to it or erases it. `examples/teach_tiny_vlm.py` draws the frames, asks each task's scripted player what it would
do there, and tunes the stand-in on both tasks in turn. What is shipped is an adapter in bfloat16, which is added to the
stand-in's weights for good: an agent's own rounds start from there.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from covr.vlm import lora
from covr.vlm.base import DecodeMode, FinetuneSettings, VisionLanguagePrior, VLMOptions, VLMSpec
from covr.vlm.finetune import answer_logits, weighted_loss
from covr.vlm.measures import relative_error
from covr.vlm.prompts import task_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from covr.vlm.hf import HFPrior
    from covr.vlm.prompts import Prompt

DECODE: DecodeMode = "expect"  # its mean errs less than its likeliest digits where a frame does not tell all
SHIPPED = Path(__file__).parent / "knowing_adapter"
HELD_OUT = 0.03  # of the frames


@dataclass(frozen=True)
class Lesson:
    """Frames of a task with what its scripted player would do there, episode by episode.

    The last ones are held out, so they are of other episodes than those that are taught.

    frames: uint8 `(N, H, W, 3)`. actions: float32 `(N, A)` in [-1, 1].
    """

    name: str
    instruction: str
    frames: npt.NDArray[np.uint8]
    actions: npt.NDArray[np.float32]

    @property
    def prompt(self) -> Prompt:
        return task_prompt(self.instruction, self.actions.shape[1])

    @property
    def taught(self) -> int:
        """How many are learnt from; the others tell how well."""
        return len(self.frames) - max(int(HELD_OUT * len(self.frames)), 1)


@dataclass(frozen=True)
class Recipe:
    """Steps are shared by the lessons in turn."""

    seed: int = 0
    rank: int = 32
    alpha: float = 64.0
    steps: int = 3_000  # two samples a frame: with ten it learns them by heart
    batch: int = 32
    lr: float = 1e-3


def teach(folder: Path, lessons: Sequence[Lesson], recipe: Recipe, log: Callable[[str], None] = print) -> HFPrior:
    """Tune the stand-in and write its adapter and card into `folder`; returns it as it was tuned, in float32."""
    from covr.vlm.hf import HFPrior

    prior = HFPrior("tiny", settings=FinetuneSettings(rank=recipe.rank, alpha=recipe.alpha), seed=recipe.seed)
    embeds = [_embeds(prior, lesson) for lesson in lessons]
    trained = prior.trainable()
    optimizer = torch.optim.AdamW(trained, lr=recipe.lr)
    falling = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=recipe.steps, pct_start=0.05)
    rng = np.random.default_rng(recipe.seed)
    for step in range(recipe.steps):
        i = step % len(lessons)
        rows = rng.integers(0, lessons[i].taught, recipe.batch)
        loss = _loss(prior, lessons[i], embeds[i][rows], rows)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        falling.step()
        if (step + 1) % max(recipe.steps // 10, 1) == 0:
            log(f"{step + 1}/{recipe.steps} {lessons[i].name}: loss {loss.item():.3f}")
    prior.forget()
    prior.decode = DECODE
    errors = {lesson.name: round(error(prior, lesson), 4) for lesson in lessons}
    frames = {lesson.name: len(lesson.frames) for lesson in lessons}
    write(prior, folder, {"recipe": asdict(recipe), "frames": frames, "heldout_error": errors})
    return prior


def error(prior: VisionLanguagePrior, lesson: Lesson) -> float:
    """Squared error of its answers to the held-out frames, over that of always answering the lesson's mean."""
    held = np.arange(lesson.taught, len(lesson.frames))
    answers = prior.propose(lesson.frames[held], lesson.prompt).actions
    mean = lesson.actions[: lesson.taught].mean(0)
    return relative_error(answers, lesson.actions[held], mean, np.ones(len(held)))


def write(prior: HFPrior, folder: Path, made: dict[str, Any]) -> None:
    """The adapter in bfloat16, and its card. made: how it came about, JSON values."""
    from safetensors.torch import load_file, save_file

    prior.save_adapter(folder)
    (folder / "covr_rounds.json").unlink()
    weights = folder / "adapter_model.safetensors"
    save_file({name: value.bfloat16() for name, value in load_file(weights).items()}, weights, {"format": "pt"})
    config = folder / "adapter_config.json"
    kept = json.loads(config.read_text()) | {"base_model_name_or_path": None}  # else a path on this machine
    config.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    (folder / "README.md").write_text(
        "---\nlicense: apache-2.0\npipeline_tag: image-text-to-text\n---\n"
        "# A tiny stand-in after lessons\n\n"
        "A LoRA adapter for covr-bench's tiny stand-in for a vision-language model, tuned on frames of "
        f"{' and '.join(made['frames'])}, labelled by the tasks' scripted players (`covr.vlm.tiny_knowing.teach`): "
        f"{json.dumps(made, sort_keys=True)}. Errors are squared, on held-out frames, of the mean answer (`expect`), "
        "over those of always answering the mean action. **Rows made with it say what a knowing VLM does to the loop, "
        "not what a real one knows.** "
        "On every other task its answers mean nothing.\n"
    )


def _embeds(prior: HFPrior, lesson: Lesson) -> torch.Tensor:
    size = prior.batch_size
    return torch.cat([prior.image_embeds(lesson.frames[i : i + size]) for i in range(0, len(lesson.frames), size)])


def _loss(prior: HFPrior, lesson: Lesson, embeds: torch.Tensor, rows: npt.NDArray[np.int64]) -> torch.Tensor:
    reader = prior.reader(lesson.frames[:1], lesson.prompt)
    reader.prefix = None  # computed with the weights before this step
    end = prior.checkpoint.tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = reader.template.answer_ids(lesson.actions[rows])
    labels = torch.from_numpy(np.concatenate([ids, np.full((len(ids), 1), end)], 1))
    return weighted_loss(answer_logits(reader, embeds, labels), labels, torch.ones(len(rows)), 0.0, labels.numel())


def _shipped(options: VLMOptions) -> VisionLanguagePrior:
    from covr.vlm.hf import HFPrior

    prior = HFPrior(
        "tiny",
        decode=options.decode or DECODE,
        device=options.device,
        dtype=options.dtype,
        settings=options.settings,
        seed=options.seed,
    )
    prior.checkpoint.model = lora.load_adapter(prior.checkpoint.model, SHIPPED).merge_and_unload()
    prior.checkpoint.model.requires_grad_(False)
    prior.checkpoint.name = VLM.name
    return prior


VLM = VLMSpec(
    "tiny-knowing", _shipped, stand_in=True, doc="The same after lessons: it knows what is good on catch and carla/hw."
)

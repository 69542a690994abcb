"""Eq. 6 against hand-computed numbers, the fast path against the plain one, and adapters that anyone can load."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from vlm_models import bars, prior, prompt, random_folder, speaking_folder

from covr.vlm import finetune, lora
from covr.vlm.base import FinetuneReport, FinetuneSettings, Samples
from covr.vlm.finetune import weighted_loss
from covr.vlm.hf import HFPrior
from covr.vlm.measures import relative_error
from covr_bench.kit.errors import UserError

SMALL = FinetuneSettings(rank=4, alpha=16, lr=5e-3, epochs=1, batch_size=8, micro_batch=8)


def samples(count: int = 8, weights: Any = 1.0) -> Samples:
    images, places = bars(count)
    return Samples(images, places, np.broadcast_to(np.float32(weights), count).astype(np.float32))


def plain_loss(vlm: HFPrior, batch: Samples, label_smoothing: float) -> torch.Tensor:
    """Eq. 6 from the whole sequence through transformers' own forward, token by token."""
    reader = vlm.reader(batch.images, prompt())
    answers = [[*row, vlm.checkpoint.tokenizer.eos_token_id] for row in reader.template.answer_ids(batch.actions)]
    labels = torch.tensor(np.array(answers))
    ids = torch.cat([reader.layout.ids.expand(len(labels), -1), labels], 1)
    pixel_values, grid = vlm.pixels(batch.images)
    model = vlm.checkpoint.model
    logits = model(
        input_ids=ids,
        pixel_values=pixel_values,
        image_grid_thw=grid,
        mm_token_type_ids=(ids == model.config.image_token_id).int(),
    ).logits[:, len(reader.layout.ids) - 1 : -1]
    log_p = logits.log_softmax(-1)
    chosen = log_p.gather(-1, labels[..., None])[..., 0]
    token_loss = -(1 - label_smoothing) * chosen - label_smoothing * log_p.mean(-1)
    return (torch.from_numpy(batch.weights) * token_loss.sum(1)).sum() / labels.numel()


def gradients(vlm: HFPrior) -> dict[str, torch.Tensor]:
    model = vlm.checkpoint.model
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def attached(settings: FinetuneSettings = SMALL) -> HFPrior:
    """With an adapter that already changes something: a fresh one has no gradient in its first half."""
    vlm = prior(settings=settings)
    vlm.adapter = lora.attach(vlm.checkpoint.model, settings, 0)
    with torch.no_grad():
        for name, parameter in vlm.checkpoint.model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    return vlm


def test_loss_of_a_hand_computed_example() -> None:
    # p = (1/2, 1/4, 1/4): -log p = (0.693, 1.386, 1.386)
    log_p = torch.tensor([0.5, 0.25, 0.25]).log()
    logits = log_p.expand(2, 3, 3)
    labels = torch.tensor([[0, 1, -100], [0, -100, -100]])
    weights = torch.tensor([1.0, 0.5])
    # N_v = 3: (1 * (0.693 + 1.386) + 0.5 * 0.693) / 3
    expected = (1.0 * (0.693147 + 1.386294) + 0.5 * 0.693147) / 3
    assert float(weighted_loss(logits, labels, weights, 0.0, 3)) == pytest.approx(expected, abs=1e-5)
    # smoothing 0.1: every label's loss becomes 0.9 * its own + 0.1 * the mean over the vocabulary, 1.155245
    smooth = (0.9 * (0.693147 + 1.386294) + 0.2 * 1.155245 + 0.5 * (0.9 * 0.693147 + 0.1 * 1.155245)) / 3
    assert float(weighted_loss(logits, labels, weights, 0.1, 3)) == pytest.approx(smooth, abs=1e-5)


def test_parts_of_a_batch_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 4, 9, generator=generator), torch.randint(0, 9, (6, 4), generator=generator)
    labels[2, 1:] = -100
    weights = torch.rand(6, generator=generator)
    whole = weighted_loss(logits, labels, weights, 0.1, 21)
    parts = sum(weighted_loss(logits[i : i + 2], labels[i : i + 2], weights[i : i + 2], 0.1, 21) for i in (0, 2, 4))
    assert float(whole) == pytest.approx(float(parts), rel=1e-6)


@pytest.mark.parametrize(("micro_batch", "weights"), [(8, 1.0), (3, [0, 0.2, 1, 0, 0.7, 0.1, 0, 0.4])])
def test_shared_prefix_gives_the_plain_loss_and_gradients(micro_batch: int, weights: Any) -> None:
    vlm, batch = attached(), samples(8, weights)
    plain = plain_loss(vlm, batch, 0.1)
    plain.backward()  # type: ignore[no-untyped-call]
    expected = gradients(vlm)
    reader = vlm.reader(batch.images, prompt())
    labels = torch.from_numpy(finetune._labels(vlm, reader, batch))
    parts = finetune.Parts(micro_batch)
    loss = finetune._gradients(
        reader, vlm.image_embeds(batch.images), labels, torch.from_numpy(batch.weights), np.arange(8), SMALL, parts
    )
    got = gradients(vlm)
    assert loss == pytest.approx(plain.item(), rel=1e-5)
    assert got.keys() == expected.keys() and got
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        assert torch.allclose(got[name], gradient, atol=1e-5 * scale, rtol=0), name


def test_the_head_is_not_copied_for_every_sample() -> None:
    vlm, batch = attached(), samples(8)
    reader = vlm.reader(batch.images, prompt())
    labels = torch.from_numpy(finetune._labels(vlm, reader, batch))
    embeds, head = vlm.image_embeds(batch.images), vlm.checkpoint.model.lm_head.weight
    with Products() as products:
        finetune.answer_logits(reader, embeds, labels).sum().backward()  # type: ignore[no-untyped-call]
    with_head = [s for s in products.shapes if sorted(s[-2:]) == sorted(head.shape)]
    assert with_head and not [s for s in with_head if len(s) > 2]


class Products(TorchDispatchMode):
    """Shapes of all matrices that were multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm, torch.ops.aten.addmm):
            self.shapes += [tuple(a.shape) for a in args]
        return function(*args, **(kwargs or {}))


def test_only_the_language_model_is_adapted() -> None:
    vlm = attached()
    trained = [n for n, p in vlm.checkpoint.model.named_parameters() if p.requires_grad]
    assert trained and all("lora_" in n and "language_model.layers" in n for n in trained)
    assert len(trained) == 2 * 7 * 3  # two matrices each, seven projections, three layers


def test_rank_is_cut_to_the_narrowest_matrix_and_alpha_with_it() -> None:
    vlm = attached(FinetuneSettings(rank=128, alpha=16))
    config = vlm.adapter.peft_config["default"]
    assert config.r == lora.narrowest(vlm.checkpoint.model) == 64
    assert config.lora_alpha / config.r == 16 / 128


def test_a_round_lowers_the_loss_and_repeats_exactly() -> None:
    def run() -> tuple[HFPrior, Any]:
        vlm = prior(speaking_folder(), settings=dataclasses.replace(SMALL, epochs=6))
        return vlm, vlm.finetune(samples(32), prompt())

    (first, report), (second, again) = run(), run()
    assert report.loss < report.first_loss
    assert report.samples == 26 and report.steps == 6 * 4 and not report.batch_halved
    assert np.isfinite([report.heldout_error, report.error_before]).all()
    assert dataclasses.replace(report, seconds=0) == dataclasses.replace(again, seconds=0)
    images, _ = bars(8)
    assert first.propose(images, prompt()).texts == second.propose(images, prompt()).texts
    assert first.describe()["rounds"] == 1


def test_epochs_are_added_until_there_are_enough_steps() -> None:
    vlm = prior(settings=dataclasses.replace(SMALL, epochs=1, batch_size=4, min_steps=5))
    assert vlm.finetune(samples(10), prompt()).steps == 6  # 8 samples are two steps an epoch


def test_the_loss_is_of_the_last_epoch_however_many_there_were(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    monkeypatch.setattr(finetune, "_gradients", lambda *given: next(losses))
    vlm = prior(settings=dataclasses.replace(SMALL, epochs=1, batch_size=4, min_steps=5))
    report = vlm.finetune(samples(10), prompt())
    assert (report.first_loss, report.loss) == (6.0, 1.5)


def test_error_of_always_answering_the_mean_is_1_and_samples_count_by_weight() -> None:
    actions, mean = np.array([[0.2], [0.4]], np.float32), np.array([0.3], np.float32)
    alike, second = np.ones(2, np.float32), np.array([0, 1], np.float32)
    assert relative_error(np.stack([mean, mean]), actions, mean, alike) == pytest.approx(1)
    answers = np.array([[0.0], [0.4]], np.float32)  # wrong where the weight is 0
    assert relative_error(answers, actions, mean, alike) == pytest.approx(2)  # 0.04 / 0.02
    assert relative_error(answers, actions, mean, second) == 0
    for nothing in ((answers[:0], actions[:0], mean, alike[:0]), (answers, actions, mean, alike * 0)):
        assert np.isnan(relative_error(*nothing))
    assert np.isnan(relative_error(answers, actions * 0 + mean, mean, alike))


@pytest.mark.deep
def test_held_out_samples_that_were_not_to_be_learnt_do_not_count_in_the_weighted_error() -> None:
    """Two rules by the picture; only samples of one have weight."""
    settings = dataclasses.replace(SMALL, heldout=0.5, epochs=20)
    chosen = samples(64)
    chosen.weights[:] = chosen.actions[:, 0] > 0
    report = prior(speaking_folder(), settings=settings).finetune(chosen, prompt())
    assert report.heldout_error_weighted != report.heldout_error
    alike = prior(speaking_folder(), settings=settings).finetune(samples(64), prompt())
    assert alike.heldout_error_weighted == pytest.approx(alike.heldout_error)


def test_with_nothing_held_out_there_is_no_error() -> None:
    report = prior(settings=dataclasses.replace(SMALL, heldout=0)).finetune(samples(8), prompt())
    assert np.isnan([report.heldout_error, report.heldout_error_weighted, report.error_before]).all()


@pytest.mark.parametrize("heavy", range(5))
def test_what_teaches_is_not_all_held_out(heavy: int) -> None:
    report = prior(settings=SMALL).finetune(samples(5, np.eye(5)[heavy]), prompt())
    assert report.loss > 0 and np.isfinite(report.heldout_error)


def test_to_load_an_adapter_draws_no_random_number(tmp_path: Path) -> None:
    """A round that is undone must leave its agent the numbers it would have had."""
    attached().save_adapter(tmp_path)
    vlm = prior()
    before = torch.get_rng_state()
    vlm.load_adapter(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_of_weight_0_are_counted_but_teach_nothing() -> None:
    vlm = prior(settings=dataclasses.replace(SMALL, heldout=0))
    report = vlm.finetune(samples(8, 0.0), prompt())
    assert report.loss == 0 and report.samples == 8
    assert all(not p.any() for n, p in vlm.checkpoint.model.named_parameters() if "lora_B" in n)


def test_out_of_memory_halves_the_batch_once_and_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = finetune.answer_logits, []

    def hungry(limit: int) -> None:
        def answer_logits(reader: Any, embeds: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            sizes.append(len(embeds))
            if len(embeds) > limit:
                raise torch.OutOfMemoryError("out of memory")
            return real(reader, embeds, labels)

        monkeypatch.setattr(finetune, "answer_logits", answer_logits)

    settings = dataclasses.replace(SMALL, heldout=0)
    whole, halved = prior(settings=settings), prior(settings=settings)
    expected = whole.finetune(samples(16), prompt())
    hungry(4)
    report = halved.finetune(samples(16), prompt())
    assert sizes == [8, 4, 4, 4, 4] and report.batch_halved and not expected.batch_halved
    assert report.loss == pytest.approx(expected.loss, rel=1e-4)
    hungry(1)
    with pytest.raises(UserError, match=r"4 samples.*micro_batch"):
        prior(settings=settings).finetune(samples(16), prompt())


def test_another_runtime_error_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(finetune, "answer_logits", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        prior(settings=SMALL).finetune(samples(), prompt())


def test_adapter_folder_is_standard_and_plain_peft_loads_it(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    vlm = prior(settings=SMALL)
    images, _ = bars(6)
    before = vlm.propose(images, prompt())
    vlm.finetune(samples(), prompt())
    tuned = vlm.propose(images, prompt())
    vlm.save_adapter(tmp_path)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in tmp_path.iterdir()}
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4

    again = prior()
    again.load_adapter(tmp_path)
    reloaded = again.propose(images, prompt())
    assert reloaded.texts == tuned.texts and np.array_equal(reloaded.actions, tuned.actions)

    base = AutoModelForImageTextToText.from_pretrained(random_folder(), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(tmp_path))
    layout = vlm.reader(images, prompt()).layout
    pixel_values, grid = vlm.pixels(images[:1])
    inputs: dict[str, Any] = {
        "input_ids": layout.ids[None],
        "mm_token_type_ids": (layout.ids[None] == base.config.image_token_id).int(),
        "pixel_values": pixel_values,
        "image_grid_thw": grid,
    }
    with torch.no_grad():
        on = model(**inputs).logits
        with model.disable_adapter():
            off = model(**inputs).logits
        vlm.unmerge()
        ours = vlm.checkpoint.model(**inputs).logits
    assert (on - off).abs().max() > 1e-3
    assert torch.allclose(on, ours, atol=1e-5)
    assert before.valid_mass is not None and tuned.valid_mass is not None
    assert not np.array_equal(before.valid_mass, tuned.valid_mass)


def test_merging_changes_no_answer_and_unmerging_restores_every_bit() -> None:
    vlm = attached()
    images, _ = bars(4)
    weights = {n: p.clone() for n, p in vlm.checkpoint.model.named_parameters()}
    reader = vlm.reader(images, prompt())
    unmerged = reader.forced(vlm.image_embeds(images))
    merged = vlm.propose(images, prompt())
    assert merged.valid_mass == pytest.approx(unmerged.valid_mass.numpy(), rel=1e-3)
    assert any(not torch.equal(p, weights[n]) for n, p in vlm.checkpoint.model.named_parameters())
    vlm.unmerge()
    assert all(torch.equal(p, weights[n]) for n, p in vlm.checkpoint.model.named_parameters())


def test_rounds_after_a_restart_equal_those_of_an_unbroken_run(tmp_path: Path) -> None:
    unbroken, batch, images = prior(settings=SMALL), samples(16), bars(4)[0]
    unbroken.finetune(batch, prompt())
    unbroken.save_adapter(tmp_path)
    expected = unbroken.finetune(batch, prompt())

    resumed = prior(settings=SMALL)
    resumed.load_adapter(tmp_path)
    report = resumed.finetune(batch, prompt())
    assert dataclasses.replace(report, seconds=0) == dataclasses.replace(expected, seconds=0)
    assert np.array_equal(resumed.propose(images, prompt()).valid_mass, unbroken.propose(images, prompt()).valid_mass)
    assert resumed.rounds == 2
    unbroken.load_adapter(tmp_path)  # in place of the adapter it has
    resumed.load_adapter(tmp_path)
    assert np.array_equal(resumed.propose(images, prompt()).valid_mass, unbroken.propose(images, prompt()).valid_mass)


def test_wrong_adapters_and_samples_are_refused(tmp_path: Path) -> None:
    vlm = prior(settings=SMALL)
    with pytest.raises(UserError, match="no adapter"):
        vlm.save_adapter(tmp_path)
    with pytest.raises(UserError, match="no peft adapter"):
        vlm.load_adapter(tmp_path)
    attached().save_adapter(tmp_path)
    from safetensors.torch import load_file, save_file

    weights = load_file(tmp_path / "adapter_model.safetensors")
    renamed = {name.replace("language_model", "text_model"): weight for name, weight in weights.items()}
    save_file(renamed, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="another model"):
        prior().load_adapter(tmp_path)
    images, places = bars(4)
    with pytest.raises(UserError, match="within"):
        vlm.finetune(Samples(images, places * 2, np.ones(4, np.float32)), prompt())
    with pytest.raises(UserError, match="lr > 0"):
        FinetuneSettings(lr=0)
    with pytest.raises(UserError, match="rank of fine-tuning is 0"):
        FinetuneSettings(rank=0)
    for wrong in ({"alpha": 0.0}, {"max_grad_norm": -1.0}, {"max_heldout": -1}):
        with pytest.raises(UserError, match=f"fine-tuning needs .*{next(iter(wrong))}"):
            FinetuneSettings(**wrong)


def _json(name: str, change: Any) -> Any:
    def write(folder: Path) -> None:
        stored = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(change(stored)))

    return write


def _weights_of(value: float) -> Any:
    def write(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "adapter_model.safetensors")
        filled = {name: torch.full_like(weight, value) for name, weight in weights.items()}
        save_file(filled, folder / "adapter_model.safetensors")

    return write


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_json("adapter_config.json", lambda stored: []), "damaged or for another model"),
        (_json("adapter_config.json", lambda stored: stored | {"peft_type": "GIZMO"}), "KeyError 'GIZMO'"),
        (_json("adapter_config.json", lambda stored: stored | {"target_modules": "(("}), "unterminated subpattern"),
        (_json("adapter_config.json", lambda stored: stored | {"lora_alpha": None}), "unsupported operand"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"junk"), "deserializing header"),
        (_weights_of(float("nan")), "holds NaN or infinite numbers"),
        (_json("covr_rounds.json", lambda stored: []), "covr_rounds.json does not say how many rounds"),
        (_json("covr_rounds.json", lambda stored: {"rounds": "x"}), "covr_rounds.json does not say how many rounds"),
    ],
)
def test_a_damaged_adapter_is_refused_in_one_line(tmp_path: Path, damage: Any, said: str) -> None:
    attached().save_adapter(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=said) as refused:
        prior().load_adapter(tmp_path)
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize(
    "damage",
    [
        _weights_of(float("nan")),
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"junk"),
        _json("covr_rounds.json", lambda stored: []),
    ],
)
def test_a_refused_adapter_leaves_the_model_as_it_came(tmp_path: Path, damage: Any, tuned: bool) -> None:
    """Its layers stayed in the model, so that every answer was NaN."""
    images, _ = bars(4)
    vlm = prior(settings=SMALL, decode="expect")
    came = vlm.propose(images, prompt()).actions
    attached().save_adapter(tmp_path / "good")
    attached().save_adapter(tmp_path / "bad")
    damage(tmp_path / "bad")
    if tuned:
        vlm.load_adapter(tmp_path / "good")
        vlm.propose(images, prompt())
    with pytest.raises(UserError):
        vlm.load_adapter(tmp_path / "bad")
    assert vlm.adapter is None and vlm.describe()["rounds"] == 0
    assert not [name for name, _ in vlm.checkpoint.model.named_parameters() if "lora_" in name]
    assert np.array_equal(vlm.propose(images, prompt()).actions, came)
    vlm.load_adapter(tmp_path / "good")
    vlm.reset_adapter()
    assert np.array_equal(vlm.propose(images, prompt()).actions, came)


def test_each_round_holds_out_samples_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    report = FinetuneReport(8, 1, *[0.0] * 7)
    monkeypatch.setattr(finetune, "tune", lambda vlm, learnt, asked, chosen: seeds.append(chosen.seed) or report)
    vlm = prior(settings=SMALL)
    for _ in range(3):
        vlm.finetune(samples(), prompt())
    assert len(set(seeds)) == 3


def test_a_round_that_is_undone_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one has the seed that it would have after a restart."""
    monkeypatch.setattr(finetune, "tune", lambda *of: FinetuneReport(8, 1, *[0.0] * 7, finite=False))
    vlm = prior(settings=SMALL)
    assert vlm.finetune(samples(), prompt()).undone
    assert vlm.describe()["rounds"] == 0


def test_an_adapter_with_one_number_that_is_none_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    attached().save_adapter(tmp_path)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    next(iter(weights.values())).view(-1)[0] = torch.nan
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UserError, match="holds NaN or infinite numbers"):
        prior().load_adapter(tmp_path)

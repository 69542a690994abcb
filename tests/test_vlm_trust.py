"""Nothing answered is never silent, and numbers that mean nothing are never taken for answers."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_vlm_agents import configured, played
from vlm_families import folder
from vlm_models import bars, noise, prior, prompt, random_folder

from covr import advice
from covr.answers import OVER, Answers
from covr.vlm.base import FinetuneSettings, Proposals, Samples
from covr.vlm.hf import HFPrior
from covr.vlm.scripted import ScriptedPrior, silent
from covr_bench.kit.errors import UserError
from results.store import read_run

SETTINGS = FinetuneSettings(rank=4, alpha=16, lr=5e-3, epochs=2, batch_size=4, heldout=0.25)


def samples(count: int = 8) -> Samples:
    images, places = bars(count)
    return Samples(images, places, np.ones(count, np.float32))


@pytest.mark.parametrize("decode", ["forced", "expect", "generate"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("family", ["tiny", "paligemma"])  # the fast path and the plain one
def test_what_a_model_with_broken_weights_writes_is_masked(family: str, value: float, decode: Any) -> None:
    vlm = HFPrior(str(random_folder() if family == "tiny" else folder(family)), decode=decode)
    head = vlm.checkpoint.model.get_output_embeddings()
    weight = head.weight.detach().clone()
    weight[0] = value
    head.weight = torch.nn.Parameter(weight, requires_grad=False)
    answers = vlm.propose(noise(2), prompt(1))
    assert answers.statuses == ("nonfinite_model",) * 2
    assert not answers.valid.any() and not answers.actions.any()


def test_a_policy_draws_nothing_from_broken_numbers() -> None:
    vlm = prior()
    head = vlm.checkpoint.model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.full_like(head.weight, torch.nan), requires_grad=False)
    drawn = vlm.reader(noise(2), prompt(1)).forced(vlm.image_embeds(noise(2)), draw=True)
    assert drawn.log_prob.isnan().all() and drawn.valid_mass.isnan().all()


def test_a_round_that_breaks_the_adapter_is_undone(tmp_path: Path) -> None:
    vlm = prior(settings=SETTINGS)
    images, _ = bars(4)
    first = vlm.finetune(samples(), prompt())
    assert not first.undone and vlm.rounds == 1
    before = vlm.propose(images, prompt())
    vlm.settings = dataclasses.replace(SETTINGS, lr=1e30)
    report = vlm.finetune(samples(), prompt())
    assert report.undone and vlm.rounds == 1
    after = vlm.propose(images, prompt())
    assert np.array_equal(before.valid_mass, after.valid_mass) and after.valid.all()  # type: ignore[arg-type]
    vlm.settings = SETTINGS
    assert not vlm.finetune(samples(), prompt()).undone and vlm.rounds == 2


def told(config: Any, metric: str) -> list[float]:
    rows = read_run(config.out, config.run_id)
    return rows[(rows["kind"] == "vlm") & (rows["metric"] == metric)]["value"].tolist()


@pytest.mark.parametrize("agent", ["vbe", "dpl", "apl", "covr"])
def test_a_run_whose_vlm_never_answered_fails_and_its_answers_are_rows(tmp_path: Path, agent: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"vlm": f"openai:http://127.0.0.1:{port}/v1#m", "env_steps": 40, "query_every": "10"}
    more = {"vlm_episodes": "0"} if agent == "covr" else {}
    config = configured(tmp_path, agent, **settings, **more)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"\(\d+ no_answer; the last: '.*onnect.*'\).*--allow-silent-vlm"):
        played(config)
    assert told(config, "answers_no_answer")[-1] > 0 and told(config, "valid_share")[-1] == 0
    kept = configured(tmp_path / "kept", agent, vlm_silent="allow", **settings, **more)  # type: ignore[arg-type]
    played(kept)
    from covr_bench.config import registry

    assert registry.agent(agent).labels(kept.agent_config)["vlm_silent"] == "allowed"
    assert "vlm_silent" not in registry.agent(agent).labels(config.agent_config)


@pytest.mark.parametrize("agent", ["vbe", "vpf", "dgc"])
def test_answers_that_are_actions_are_counted_too(tmp_path: Path, agent: str) -> None:
    vlm = {"vlm": "scripted"} if agent == "vbe" else {"vlm": str(random_folder()), "vlm_image_size": "56"}
    small = {"image_size": "56"} if agent == "vpf" else {}
    config = configured(tmp_path, agent, env_steps=40, query_every="4", **(vlm | small))  # type: ignore[arg-type]
    run = played(config)
    answers = run.agent.teacher.answers if agent == "dgc" else run.agent.answers
    assert told(config, "answers_ok")[-1] == told(config, "queries")[-1] == sum(answers.statuses.values()) > 0


def test_the_latest_answers_without_an_action_are_warned_of(monkeypatch: Any, tmp_path: Path) -> None:
    rows, warned = [], []

    class Services:
        def record(self, step: int, values: Any) -> None:
            rows.append((step, values))

        def warn(self, text: str) -> None:
            warned.append(text)

    answers = Answers("fail", Services())  # type: ignore[arg-type]

    def say(status: Any, number: int) -> None:
        valid = np.full(number, status == "ok")
        answers.add(Proposals(np.zeros((number, 1), np.float32), valid, ("",) * number, (status,) * number, 0.5))

    say("ok", 1)
    answers.store(1)
    assert not rows
    say("no_match", OVER)
    answers.store(2)
    counted = {"answers_no_match": OVER, "answers_ok": 1}
    assert rows == [(2, {"queries": OVER + 1, "query_seconds": 1.0, "valid_share": 1 / (OVER + 1)} | counted)]
    assert len(warned) == 1 and f"latest {OVER}" in warned[0]
    answers.finish(3)
    assert f"{OVER} of the VLM's {OVER + 1} answers state no action ({OVER} no_match, 1 ok)" in warned[1]
    again = Answers("fail", None)
    again.load_state_dict(answers.state_dict())
    assert again.statuses == answers.statuses and again.stored == OVER + 1
    answers.words = "401"
    again.load_state_dict(answers.state_dict())
    assert again.words == "401"
    never = Answers("fail", None)
    never.finish(0)  # it was not asked
    never.statuses["no_answer"] = 3
    with pytest.raises(UserError, match=r"asked 3 times"):
        never.finish(0)


def test_a_silent_rule_fails_like_a_silent_server(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(advice, "open_prior", lambda *args, **options: ScriptedPrior(silent))
    with pytest.raises(UserError, match="no_action_word"):
        played(configured(tmp_path, "vbe", env_steps=40))


def test_an_adapter_to_weights_in_bfloat16_is_applied_and_not_rounded_into_them() -> None:
    vlm = prior(settings=SETTINGS, dtype="bfloat16")
    images, _ = bars(4)
    weights = {name: weight.clone() for name, weight in vlm.checkpoint.model.named_parameters()}
    before = vlm.propose(images, prompt())
    assert vlm.reader(images, prompt()).prefix is not None
    vlm.finetune(samples(), prompt())
    after = vlm.propose(images, prompt())
    assert not np.array_equal(before.valid_mass, after.valid_mass)  # type: ignore[arg-type]
    now = dict(vlm.checkpoint.model.named_parameters())
    names = {name: name.replace(".base_layer", "") for name in now if "lora_" not in name}
    assert all(torch.equal(now[name], weights[plain]) for name, plain in names.items())
    assert vlm.describe()["dtype"] == "bfloat16" and vlm.describe()["path"] == "fast"
    vlm.trainable()  # a policy's own steps follow: what is kept of the prompt is of the weights before
    vlm.merge()
    assert vlm.reader(images, prompt()).prefix is None


def test_the_latest_answers_are_as_many_after_a_stop() -> None:
    warned: list[str] = []

    class Services:
        def record(self, step: int, values: Any) -> None: ...

        def warn(self, text: str) -> None:
            warned.append(text)

    def say(answers: Answers, status: Any) -> None:
        none = np.zeros((OVER, 1), np.float32)
        answers.add(Proposals(none, np.full(OVER, status == "ok"), ("",) * OVER, (status,) * OVER, 0.0))

    services: Any = Services()
    before, again = Answers("fail", services), Answers("fail", services)
    say(before, "ok")
    again.load_state_dict(before.state_dict())
    say(again, "no_match")
    again.store(1)
    assert len(warned) == 1 and f"latest {OVER}" in warned[0]

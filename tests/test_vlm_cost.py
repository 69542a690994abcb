"""What a VLM asks of the machine is said before it is read, and the paper's comparison of VLMs is one command."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForImageTextToText
from vlm_families import FAMILIES, folder
from vlm_published import PUBLISHED, config_only

from covr.vlm import cost as vlm_cost
from covr.vlm.cost import Tuning, of_config, statement
from covr_bench.cli.paper_runs import paper_runs
from covr_bench.cli.plan_cost import vlm_costs


def test_the_papers_comparison_of_vlms_is_one_command() -> None:
    asked = paper_runs(["vlm"], {}, "a test").requests
    assert [each.vlm.split("/")[1] for each in asked] == [
        "Qwen2-VL-2B-Instruct",
        "Qwen2.5-VL-3B-Instruct",
        "llava-1.5-7b-hf",
    ]
    assert {(each.suite, each.agents, each.tasks) for each in asked} == {("carla", ("covr",), ("hw",))}


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_are_those_of_the_model_and_no_weights_are_read(name: str, tmp_path: Path) -> None:
    shutil.copy(folder(name) / "config.json", tmp_path)
    cost = of_config(str(tmp_path), "float32", "cpu")
    model = AutoModelForImageTextToText.from_pretrained(folder(name))
    assert cost.parameters == model.num_parameters() and cost.weights == 4 * cost.parameters
    assert 0 < cost.language < cost.parameters and cost.tokens > 120
    assert cost.parameters / 2 < of_config(str(tmp_path), "int4", "cpu").weights < 2 * cost.parameters


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_models_size_and_memory_are_known_from_its_config(name: str, tmp_path: Path) -> None:
    cost = of_config(str(config_only(name, tmp_path)), "bfloat16", "cpu")
    assert cost.parameters == PUBLISHED[name][1] and cost.weights == 2 * cost.parameters
    assert cost.image == (576 if "llava" in name else 9)
    small, large = cost.round_bytes(Tuning(1, 1, 16)), cost.round_bytes(Tuning(1, 32, 128))
    assert cost.weights < small < large
    if "2.5-VL-3B" in name:
        assert cost.round_bytes(Tuning(1, 8, 16)) == pytest.approx(11.1e9, rel=0.1)  # measured, see docs/vlm.md


@pytest.mark.deep
def test_a_dry_run_states_every_vlm_of_the_paper_though_no_weights_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    for name in PUBLISHED:
        config_only(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("covr_bench.run.machine.ram_bytes", lambda: 20 * 10**9)
    done = cli("run", "--paper", "vlm", "--dry-run", "--device", "cpu", "--out", str(tmp_path / "out"))
    for name, (_, parameters) in PUBLISHED.items():
        (line,) = [line for line in done.out.splitlines() if line.startswith(f"VLM {tmp_path / name}: ")]
        assert f"{parameters / 1e9:.2f} billion parameters" in line
        assert "for each question at once" in line and "for a round (rank 128)" in line
        assert " a question of " in line and " a round of 3,200 samples" in line
    assert done.out.count("this plan cannot be run here: ") == 3
    assert "llava-1.5-7b-hf take 28.3 GB, and cpu has 20.0 GB: set vlm_dtype=bfloat16" in done.out
    assert done.code == 2 and "3 of 3 plans cannot be run here" in done.err
    assert not (tmp_path / "out").exists()


def test_the_plan_states_each_vlm_once_and_nothing_of_one_without_a_config(tmp_path: Path) -> None:
    model = str(folder("llava"))
    run = {"vlm": model, "vlm_dtype": "auto", "vlm_device": "", "": "cpu"}
    tuned = run | {"finetune_min_steps": 100, "finetune_batch_size": 32, "micro_batch": 32, "lora_rank": 16}
    served = tuned | {"vlm": "openai:http://x/v1", "tuner": model, "": "cpu"}
    lines = vlm_costs([run, run, tuned, served, run | {"prior": "zero"}, run | {"vlm": "tiny"}, {"": "cpu"}])
    assert len(lines) == 2 and all(line.startswith(f"VLM {model}: 0.10 million parameters") for line in lines)
    assert "a round of 3,200 samples" in lines[1] and "round" not in lines[0]
    assert "its times are not known, since cuda:77" in statement(model, "auto", "cuda:77")
    for name in ("scripted", "openai:http://x/v1"):
        assert statement(name, "auto", "cpu") == ""
    assert "not known before its config.json is here" in statement(str(tmp_path), "auto", "cpu")


def test_a_plan_tries_a_hub_that_does_not_answer_once_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any
) -> None:
    """The hub's own client tried five times for each of three models, and again in a process that measures."""
    tried = []

    class Session:
        def head(self, url: str, **_: Any) -> None:
            tried.append(url)
            raise OSError("no route to host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.get_session", Session)
    monkeypatch.setattr("covr_bench.cli.run.show_cost", lambda *_: pytest.fail("it measures what cannot be had"))
    vlm_cost._hub_answers.cache_clear()
    done = cli("run", "--paper", "vlm", "--dry-run", "--device", "cpu", "--out", tmp_path / "out")
    vlm_cost._hub_answers.cache_clear()
    assert len(tried) == 1
    assert done.err.count("cannot be reached (no route to host)") == 1
    assert done.out.count("this plan cannot be run here: cannot load the VLM") == 3
    assert done.code == 2

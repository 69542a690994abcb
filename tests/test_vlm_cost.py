"""What a VLM asks of the machine is said before it is read, and the paper's comparison of VLMs is one command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText
from vlm_families import FAMILIES, folder

from covr.vlm.cost import of_config, statement
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
    assert of_config(str(tmp_path), "int4", "cpu").weights == cost.parameters / 2


def test_the_plan_states_each_vlm_once_and_nothing_of_one_without_a_config(tmp_path: Path) -> None:
    model = str(folder("llava"))
    run = {"vlm": model, "vlm_dtype": "auto", "vlm_device": "", "": "cpu"}
    tuned = run | {"finetune_min_steps": 100, "finetune_batch_size": 32}
    lines = vlm_costs([run, run, tuned, run | {"prior": "zero"}, run | {"vlm": "tiny"}, {"": "cpu"}])
    assert len(lines) == 2 and all(line.startswith(f"VLM {model}: 0.00 billion parameters") for line in lines)
    assert "a round of 3,200 samples" in lines[1] and "round" not in lines[0]
    assert "0.0 GB of weights; its times are not known, since cuda:77" in statement(model, "auto", "cuda:77", 9)
    for name in ("scripted", "openai:http://x/v1"):
        assert statement(name, "auto", "cpu", 0) == ""
    assert "not known before its config.json is here" in statement(str(tmp_path), "auto", "cpu", 0)

"""Servers that people run, from PyPI: `transformers serve`, and a LiteLLM proxy before it. Opt in: tox -e servers."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2 as httpx
import numpy as np
import pytest
import torch
from test_vlm_agents import SUITE, configured, played
from vlm_families import folder
from vlm_models import noise

from covr.vlm.base import VisionLanguagePrior
from covr.vlm.hf import HFPrior
from covr.vlm.open import open_prior
from covr.vlm.prompts import task_prompt
from covr.vlm.server import ServerPrior
from covr_bench.kit.errors import UserError

pytestmark = pytest.mark.servers
PROMPT = task_prompt(SUITE.task("catch").instruction, 1)
IMAGES = noise(2, size=28)
PATIENCE_S, KEY = 600, "sk-proxy"
TAUGHT, STEPS = np.array([-0.37], np.float32), 60
SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


class Server(NamedTuple):
    url: str
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Until the server says something, whatever it is."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            httpx.get(url, timeout=5)
            return
        except httpx.HTTPError:
            time.sleep(1)
    raise AssertionError(f"{url} did not come up: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small LLaVA, whose processor needs no torchvision, that was taught one answer."""
    taught = tmp_path_factory.mktemp("llava")
    shutil.copytree(folder("llava"), taught, dirs_exist_ok=True)
    vlm = HFPrior(str(taught))
    network, reader = vlm.checkpoint.model.requires_grad_(True), vlm.reader(IMAGES, PROMPT)
    said = reader.template.answer_ids(np.tile(TAUGHT, (len(IMAGES), 1)))
    labels = torch.from_numpy(np.concatenate([said, np.full((len(said), 1), vlm.end)], 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    for _ in range(STEPS):
        reader.prefix = None
        logits = reader.answer_logits(vlm.image_embeds(IMAGES), labels)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels).backward()
        optimizer.step()
    network.save_pretrained(taught)
    return str(taught)


@pytest.fixture(scope="module")
def server(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    for name in ("fastapi", "uvicorn", "openai"):
        if not importlib.util.find_spec(name):
            pytest.skip(f"transformers serve needs {name}: pip install 'transformers[serving]'")
    here, port = tmp_path_factory.mktemp("serve"), free_port()
    (here / "hub").mkdir()
    command = [sys.executable, "-c", SERVE, "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"HF_HUB_CACHE": str(here / "hub"), "HF_HUB_OFFLINE": "1"}
    with (here / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--device", "cpu"], stdout=log, stderr=log, env=environment)
    try:
        wait(process, f"http://127.0.0.1:{port}/v1/models", here / "log")
        yield Server(f"http://127.0.0.1:{port}/v1", process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def served(server: Server) -> str:
    return server.url


@pytest.fixture(scope="module")
def proxy(model: str, served: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    litellm = shutil.which("litellm") or str(Path(sys.executable).with_name("litellm"))
    if not Path(litellm).is_file():
        pytest.skip("no litellm: pip install 'litellm[proxy]'")
    here, port = tmp_path_factory.mktemp("proxy"), free_port()
    behind = {"model": f"openai/{model}", "api_base": served, "api_key": "none"}
    config = {"model_list": [{"model_name": "driver", "litellm_params": behind}]}
    (here / "config.yaml").write_text(json.dumps(config | {"general_settings": {"master_key": KEY}}))
    command = [litellm, "--config", str(here / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    with (here / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        wait(process, f"http://127.0.0.1:{port}/v1/models", here / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def check_answers(vlm: VisionLanguagePrior) -> None:
    answers = vlm.propose(IMAGES, PROMPT)
    assert answers.statuses == ("ok", "ok"), answers.texts
    assert answers.actions == pytest.approx(np.tile(TAUGHT, (2, 1)))


def test_transformers_serve_answers_with_what_its_model_was_taught(served: str, model: str) -> None:
    check_answers(open_prior(f"openai:{served}#{model}"))


def test_transformers_serve_refuses_a_model_that_is_none(served: str) -> None:
    with pytest.raises(UserError, match="refuses a question to 'nobody/nothing'"):
        open_prior(f"openai:{served}#nobody/nothing")


def test_a_proxy_names_its_only_model_and_refuses_a_wrong_key(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    vlm = open_prior(f"openai:{proxy}")
    assert vlm.describe()["model"] == "driver"
    check_answers(vlm)
    with pytest.raises(UserError, match="refuses a question to 'nobody'"):
        open_prior(f"openai:{proxy}#nobody")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(UserError, match="does not say which models it has") as refused:
        open_prior(f"openai:{proxy}")
    assert "sk-wrong" not in str(refused.value)


def test_a_run_asks_through_the_proxy(proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    config = configured(tmp_path, "vbe", vlm=f"openai:{proxy}", env_steps=40, query_every="10")
    assert played(config).agent.answers.statuses["ok"] > 0


def test_a_server_that_is_killed_behind_its_proxy_masks_every_answer(
    server: Server, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    vlm = ServerPrior(proxy, "driver", timeout=20)
    check_answers(vlm)
    server.process.kill()
    server.process.wait()
    answers = vlm.propose(IMAGES, PROMPT)
    assert answers.statuses == ("no_answer",) * 2 and not answers.valid.any()
    assert KEY not in "".join(answers.texts)

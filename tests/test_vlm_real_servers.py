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

import httpx2 as httpx
import pytest
from vlm_families import folder
from vlm_models import noise

from covr.vlm.open import open_prior
from covr.vlm.prompts import task_prompt
from covr_bench.kit.errors import UserError

pytestmark = pytest.mark.servers
PROMPT, IMAGES = task_prompt("Push the cart.", 1), noise(2, size=28)
PATIENCE_S, KEY = 600, "sk-proxy"
SERVE = "import sys; from transformers.cli.transformers import main; sys.argv[0] = 'transformers'; main()"


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
def model() -> str:
    """LLaVA, whose processor needs no torchvision; with random weights, so that its texts are no actions."""
    return str(folder("llava"))


@pytest.fixture(scope="module")
def served(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
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
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


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


def test_transformers_serve_answers(served: str, model: str) -> None:
    vlm = open_prior(f"openai:{served}#{model}")
    assert "no_answer" not in vlm.propose(IMAGES, PROMPT).statuses


def test_a_proxy_names_its_only_model_and_refuses_a_wrong_key(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    vlm = open_prior(f"openai:{proxy}")
    assert vlm.describe()["model"] == "driver" and "no_answer" not in vlm.propose(IMAGES, PROMPT).statuses
    with pytest.raises(UserError, match="refuses a question to 'nobody'"):
        open_prior(f"openai:{proxy}#nobody")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(UserError, match="does not say which models it has") as refused:
        open_prior(f"openai:{proxy}")
    assert "sk-wrong" not in str(refused.value)

"""Adapters of rounds on a server: against a stand-in that keeps vLLM's protocol, state and words.

As in `vllm/entrypoints/serve/lora` and `vllm/entrypoints/openai/models`: an adapter is loaded once by its name, from a
peft folder that the server reads, up to a rank; models are listed with their parent; an unknown model is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from vlm_models import noise, random_folder

from covr.vlm.base import FinetuneSettings, Samples
from covr.vlm.open import open_prior
from covr.vlm.prompts import task_prompt
from covr.vlm.served import ServedPrior
from covr_bench.kit.errors import UserError

PROMPT = task_prompt("Push the cart.", 2)
IMAGES = noise(4)
SAMPLES = Samples(IMAGES, np.zeros((4, 2), np.float32), np.ones(4, np.float32))


class Refusal(Exception):
    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class VLLM(ThreadingHTTPServer):
    """adapters: the paths by name. answered_by: the model of each answer."""

    daemon_threads = True

    def __init__(self, max_lora_rank: int = 16) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.max_lora_rank = max_lora_rank
        self.adapters: dict[str, Path] = {}
        self.answered_by: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def models(self) -> list[dict[str, Any]]:
        base = {"id": "base", "object": "model", "owned_by": "vllm", "root": "base", "parent": None}
        return [base, *(base | {"id": n, "root": str(p), "parent": "base"} for n, p in self.adapters.items())]

    def load(self, name: str = "", path: str = "") -> str:
        if not name or not path:
            raise Refusal(400, "Both 'lora_name' and 'lora_path' must be provided.")
        if name in self.adapters:
            raise Refusal(400, f"The lora adapter '{name}' has already been loaded.")
        folder = Path(path)
        if not (folder / "adapter_config.json").is_file():
            raise Refusal(404, f"Loading lora {name} failed: No adapter found for {path}")
        config = json.loads((folder / "adapter_config.json").read_text())
        if config["r"] > self.max_lora_rank:
            raise Refusal(400, f"LoRA rank {config['r']} is greater than max_lora_rank {self.max_lora_rank}.")
        if config.get("modules_to_save") or config.get("bias", "none") != "none" or config.get("use_dora"):
            raise Refusal(400, "vLLM only supports plain LoRA.")
        with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - a file, not a dict
                if not key.startswith("base_model.model.") or not key.endswith(("lora_A.weight", "lora_B.weight")):
                    raise Refusal(400, f"unsupported LoRA weight: {key}")
        self.adapters[name] = folder
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str = "") -> str:
        if name not in self.adapters:
            raise Refusal(404, f"The lora adapter '{name}' cannot be found.")
        del self.adapters[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    def chat(self, model: str) -> dict[str, Any]:
        if model not in {each["id"] for each in self.models()}:
            raise Refusal(404, f"The model `{model}` does not exist.")
        self.answered_by.append(model)
        message = {"role": "assistant", "content": "Action: [+0.10, -0.20]"}
        return {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


class Handler(BaseHTTPRequestHandler):
    server: VLLM

    def do_GET(self) -> None:
        self.reply(200, {"object": "list", "data": self.server.models()})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, path = body.get("lora_name", ""), body.get("lora_path", "")
        try:
            if self.path == "/v1/load_lora_adapter":
                self.reply(200, self.server.load(name, path))
            elif self.path == "/v1/unload_lora_adapter":
                self.reply(200, self.server.unload(name))
            else:
                self.reply(200, self.server.chat(body["model"]))
        except Refusal as refusal:
            self.reply(refusal.code, {"error": {"message": str(refusal), "code": refusal.code}})

    def reply(self, code: int, body: Any) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def vllm() -> Iterator[VLLM]:
    server = VLLM()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def tuned(server: VLLM, folder: Path, rank: int = 2) -> ServedPrior:
    settings = FinetuneSettings(rank=rank, epochs=1, heldout=0.0)
    vlm = open_prior(f"openai:{server.url}", tuner=str(random_folder()), adapter_folder=folder, settings=settings)
    assert isinstance(vlm, ServedPrior)
    vlm.server.transport.backoff = 0.001
    return vlm


def test_each_rounds_adapter_answers_from_then_on_and_the_former_is_dropped(vllm: VLLM, tmp_path: Path) -> None:
    vlm = tuned(vllm, tmp_path)
    assert vlm.propose(IMAGES, PROMPT).valid.all() and set(vllm.answered_by) == {"base"}
    for number in (1, 2):
        vlm.finetune(SAMPLES, PROMPT)
        vllm.answered_by.clear()
        assert vlm.propose(IMAGES, PROMPT).valid.all()
        assert set(vllm.answered_by) == {vlm.server.adapter}
        assert vllm.adapters == {vlm.server.adapter: tmp_path / f"round_{number}"}
    vlm.reset_adapter()
    assert not vllm.adapters and vlm.propose(IMAGES, PROMPT).valid.all() and vllm.answered_by[-1] == "base"


def test_runs_that_share_a_server_know_its_model_and_keep_their_adapters_apart(vllm: VLLM, tmp_path: Path) -> None:
    first = tuned(vllm, tmp_path / "a")
    first.finetune(SAMPLES, PROMPT)
    second = tuned(vllm, tmp_path / "b")  # the server now lists two models, one of them an adapter
    assert second.propose(IMAGES, PROMPT).valid.all() and vllm.answered_by[-1] == "base"
    second.finetune(SAMPLES, PROMPT)
    assert set(vllm.adapters) == {first.server.adapter, second.server.adapter} and len(vllm.adapters) == 2


def test_a_server_that_was_started_anew_is_given_the_adapter_again(vllm: VLLM, tmp_path: Path) -> None:
    vlm = tuned(vllm, tmp_path)
    vlm.finetune(SAMPLES, PROMPT)
    vllm.adapters.clear()
    assert vlm.propose(IMAGES, PROMPT).statuses == ("no_answer",) * 4
    assert "does not exist" in vlm.server.last_error
    vllm.answered_by.clear()
    assert vlm.propose(IMAGES, PROMPT).valid.all()
    assert set(vllm.answered_by) == {vlm.server.adapter} and vllm.adapters == {vlm.server.adapter: tmp_path / "round_1"}


def test_the_first_adapter_that_is_refused_ends_the_run_in_the_servers_words(vllm: VLLM, tmp_path: Path) -> None:
    vlm = tuned(vllm, tmp_path, rank=32)
    with pytest.raises(UserError, match=r"refused the adapter .*round_1: 400 .*greater than max_lora_rank 16"):
        vlm.finetune(SAMPLES, PROMPT)


def test_a_later_refusal_masks_answers_until_the_adapter_is_taken(vllm: VLLM, tmp_path: Path) -> None:
    vlm = tuned(vllm, tmp_path)
    vlm.finetune(SAMPLES, PROMPT)
    vllm.max_lora_rank = 1
    vlm.finetune(SAMPLES, PROMPT)
    assert vlm.propose(IMAGES, PROMPT).statuses == ("no_answer",) * 4
    assert "max_lora_rank" in vlm.server.last_error
    vllm.max_lora_rank = 16
    assert vlm.propose(IMAGES, PROMPT).valid.all()
    assert vllm.adapters == {vlm.server.adapter: tmp_path / "round_2"}


def test_an_adapter_that_waits_for_a_server_is_forgotten_by_a_reset(tmp_path: Path) -> None:
    """The server would have taken it up with the next question, and been another model than the one reset to."""
    calls: list[str] = []
    server: Any = SimpleNamespace(
        take_up=lambda folder: calls.append("take up"),
        reset_adapter=lambda: calls.append("reset"),
        propose=lambda images, prompt: calls.append("propose"),
    )
    local: Any = SimpleNamespace(reset_adapter=lambda: None)
    vlm = ServedPrior(server, local, tmp_path)
    vlm.waiting = tmp_path / "round_1"
    vlm.reset_adapter()
    vlm.propose(noise(1), task_prompt("Push.", 1))
    assert calls == ["reset", "propose"]

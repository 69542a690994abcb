"""The HTTP client against a small server: answers, refusals, outages, adapters."""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from covr.vlm.base import Samples
from covr.vlm.prompts import task_prompt
from covr.vlm.server import ServerPrior, png
from covr_bench.errors import UserError

PROMPT = task_prompt("Push the cart.", 2)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 28, 30, 3), dtype=np.uint8)


class Server(ThreadingHTTPServer):
    """Answers from `script` while it lasts, then with `text`; keeps what it was asked. A script entry is a status
    code, or the reply's text."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any]] = []
        self.headers: list[Any] = []
        self.script: list[Any] = []
        self.text = "Action: [+0.10, -0.20]"
        self.finish = "stop"
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply({"data": [{"id": "first-model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append((self.path, body))
            self.server.headers.append(self.headers)
            scripted = self.server.script.pop(0) if self.server.script else None
        if isinstance(scripted, int):
            self.send_error(scripted)
        elif isinstance(scripted, dict):
            self.reply(scripted)
        elif isinstance(scripted, bytes):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(scripted)
        else:
            message = {"role": "assistant", "content": self.server.text}
            self.reply({"choices": [{"message": message, "finish_reason": self.server.finish}]})

    def reply(self, body: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *args: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def client(server: Server, **options: Any) -> ServerPrior:
    return ServerPrior(server.url, **({"backoff": 0.001, "timeout": 5.0} | options))


def test_answers_are_parsed_and_the_request_is_a_chat_with_the_image(server: Server) -> None:
    proposals = client(server, model="m").propose(IMAGES, PROMPT)
    assert proposals.valid.all() and proposals.actions == pytest.approx(np.tile([0.1, -0.2], (4, 1)))
    path, body = server.asked[0]
    assert path == "/v1/chat/completions" and body["model"] == "m" and body["temperature"] == 0
    text, image = body["messages"][1]["content"]
    assert body["messages"][0]["role"] == "system" and "Push the cart." in text["text"]
    sent = {entry[1]["messages"][1]["content"][1]["image_url"]["url"] for entry in server.asked}
    assert image["type"] == "image_url" and len(sent) == 4
    assert base64.b64decode(image["image_url"]["url"].split(",")[1]).startswith(b"\x89PNG")


def test_model_and_key_are_found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    vlm = client(server)
    vlm.propose(IMAGES[:1], PROMPT)
    assert server.asked[0][1]["model"] == "first-model" and vlm.describe()["model"] == "first-model"
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in json.dumps(vlm.describe())


def test_bad_and_cut_answers_are_masked_by_reason(server: Server) -> None:
    server.text = "Action: [+0.10]"
    assert client(server, model="m").propose(IMAGES[:1], PROMPT).statuses == ("wrong_dim",)
    server.text, server.finish = "Action: [+0.1", "length"
    assert client(server, model="m").propose(IMAGES[:1], PROMPT).statuses == ("truncated",)


def test_errors_of_the_server_are_tried_again(server: Server) -> None:
    server.script = [503, 429, None]
    assert client(server, model="m").propose(IMAGES[:1], PROMPT).valid.all()
    assert len(server.asked) == 3


@pytest.mark.parametrize("odd", [404, {"error": "no"}, {"choices": []}, b"\xff\xfe", b"plain text", [1]])
def test_what_is_no_answer_is_masked(server: Server, odd: Any) -> None:
    server.script = [odd if not isinstance(odd, list) else b"[1]"] * 3
    proposals = client(server, model="m").propose(IMAGES[:1], PROMPT)
    assert proposals.statuses == ("no_answer",) and not proposals.valid.any()


def test_a_dead_server_masks_every_prior_quickly_and_may_come_back(server: Server) -> None:
    vlm = client(server, model="m", workers=1)
    server.script = [500] * 12
    assert set(vlm.propose(IMAGES, PROMPT).statuses) == {"no_answer"}
    assert len(server.asked) == 12 and vlm.down and "500" in vlm.last_error
    server.script = [500]
    assert set(vlm.propose(IMAGES, PROMPT).statuses) == {"no_answer"}
    assert len(server.asked) == 13  # one question, one try
    assert vlm.propose(IMAGES, PROMPT).valid.all() and not vlm.down


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    vlm = ServerPrior(f"http://127.0.0.1:{port}/v1", attempts=2, backoff=0.001)
    assert vlm.propose(IMAGES, PROMPT).statuses == ("no_answer",) * 4


def test_a_server_that_never_replies_is_left(server: Server) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        vlm = ServerPrior(f"http://127.0.0.1:{mute.getsockname()[1]}/v1", "m", attempts=1, timeout=0.1)
        assert vlm.propose(IMAGES[:1], PROMPT).statuses == ("no_answer",)
        assert "imed out" in vlm.last_error


def test_adapters_are_loaded_and_then_used(server: Server, tmp_path: Path) -> None:
    vlm = client(server, model="m")
    server.script = [b"Success"]
    vlm.load_adapter(tmp_path)
    assert server.asked[0] == ("/v1/load_lora_adapter", {"lora_name": "covr", "lora_path": str(tmp_path)})
    vlm.propose(IMAGES[:1], PROMPT)
    assert server.asked[1][1]["model"] == "covr"
    server.script = [b"Success", 404]
    with pytest.raises(UserError, match="did not load"):
        vlm.load_adapter(tmp_path)
    assert server.asked[2][0] == "/v1/unload_lora_adapter"


def test_what_a_server_cannot_do_is_refused() -> None:
    vlm = ServerPrior("http://127.0.0.1:1/v1")
    with pytest.raises(UserError, match="cannot be tuned"):
        vlm.finetune(Samples(IMAGES, np.zeros((4, 2), np.float32), np.ones(4, np.float32)), PROMPT)
    with pytest.raises(UserError, match="no adapter"):
        vlm.save_adapter(Path("x"))
    with pytest.raises(UserError, match="one frame"):
        vlm.propose(IMAGES[None].repeat(2, 0).swapaxes(0, 1), PROMPT)
    with pytest.raises(UserError, match="http://"):
        ServerPrior("localhost:8000")


def test_png_holds_the_pixels() -> None:
    data = png(IMAGES[0])
    assert struct.unpack(">II", data[16:24]) == (30, 28)
    at = data.index(b"IDAT")
    size = struct.unpack(">I", data[at - 4 : at])[0]
    rows = np.frombuffer(zlib.decompress(data[at + 4 : at + 4 + size]), np.uint8).reshape(28, 1 + 90)
    assert not rows[:, 0].any() and np.array_equal(rows[:, 1:].reshape(28, 30, 3), IMAGES[0])

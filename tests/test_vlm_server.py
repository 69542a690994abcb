"""The HTTP client against a small server: answers, refusals, outages, adapters."""

from __future__ import annotations

import base64
import json
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vlm_models import prior, random_folder

from covr.vlm.base import FinetuneSettings, Samples
from covr.vlm.chat import png
from covr.vlm.open import open_prior
from covr.vlm.prompts import task_prompt
from covr.vlm.served import ServedPrior
from covr.vlm.server import ServerPrior
from covr_bench.kit.errors import UserError

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


def test_a_server_that_hangs_is_not_waited_for_question_by_question() -> None:
    """A stop waits for the batch that is being asked: of 32 questions to 8 workers that was four times as long."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen(64)
        vlm = ServerPrior(f"http://127.0.0.1:{mute.getsockname()[1]}/v1", "m", workers=2, attempts=1, timeout=0.5)
        asked = Counter[str]()
        vlm._ask = counted(vlm._ask, asked)  # type: ignore[method-assign]
        assert vlm.propose(np.repeat(IMAGES, 4, 0), PROMPT).statuses == ("no_answer",) * 16
        assert asked["questions"] == 2 and vlm.down


def counted(ask: Any, count: Counter[str]) -> Any:
    def counting(*given: Any) -> Any:
        count["questions"] += 1
        return ask(*given)

    return counting


def test_adapters_are_loaded_and_then_used(server: Server, tmp_path: Path) -> None:
    vlm = client(server, model="m")
    server.script = [b"Success"]
    vlm.load_adapter(tmp_path)
    path, body = server.asked[0]
    assert path == "/v1/load_lora_adapter" and body["lora_path"] == str(tmp_path)
    vlm.propose(IMAGES[:1], PROMPT)
    assert server.asked[1][1]["model"] == body["lora_name"] == vlm.describe()["model"]
    server.script = [404]
    with pytest.raises(UserError, match="did not load"):
        vlm.load_adapter(tmp_path)
    assert vlm.adapter == body["lora_name"], "an adapter that fails to load leaves the former one"


def test_no_two_loadings_share_a_name_and_the_former_is_dropped(server: Server, tmp_path: Path) -> None:
    vlm = client(server, model="m")
    server.script = [b"Success"] * 2 + [404]
    vlm.load_adapter(tmp_path)
    vlm.load_adapter(tmp_path)
    (_, first), (_, second), (path, dropped) = server.asked
    assert first["lora_name"] != second["lora_name"]
    assert path == "/v1/unload_lora_adapter" and dropped == {"lora_name": first["lora_name"]}
    assert vlm.adapter == second["lora_name"] and "404" in vlm.last_error


SAMPLES = Samples(IMAGES, np.full((4, 2), 0.5, np.float32), np.ones(4, np.float32))


def tuned(server: Server, folder: Path) -> ServedPrior:
    """The server's VLM with a random tiny model as the copy that is tuned."""
    settings = FinetuneSettings(rank=2, epochs=1, heldout=0.0)
    vlm = open_prior(
        f"openai:{server.url}#m", tuner=str(random_folder()), adapter_folder=folder, settings=settings, seed=3
    )
    assert isinstance(vlm, ServedPrior) and vlm.tunable
    vlm.server.transport.backoff = 0.001
    server.asked.clear()  # the trial question
    return vlm


def test_a_served_vlm_is_tuned_here_and_answers_with_each_rounds_adapter(server: Server, tmp_path: Path) -> None:
    vlm = tuned(server, tmp_path)
    assert vlm.propose(IMAGES, PROMPT).valid.all() and not vlm.local.rounds
    server.asked.clear()
    for number in (1, 2):
        server.script = [b"Success"] * number  # the second loading also drops the first adapter
        report = vlm.finetune(SAMPLES, PROMPT)
        assert report.samples == 4
        path, body = server.asked[0]
        assert path == "/v1/load_lora_adapter" and body["lora_path"] == str(tmp_path / f"round_{number}")
        assert (tmp_path / f"round_{number}" / "adapter_model.safetensors").is_file()
        server.asked.clear()
        vlm.propose(IMAGES[:1], PROMPT)
        assert server.asked[0][1]["model"] == body["lora_name"]
        server.asked.clear()
    facts = vlm.describe()
    assert facts["rounds"] == 2 and facts["stand_in"] and facts["tuner"] == str(random_folder())
    assert facts["name"] == f"openai:{server.url}" and facts["decode"] == "generate"
    assert facts["parameters"] == vlm.local.describe()["parameters"]
    json.dumps(facts)


def test_a_served_vlms_adapter_is_any_peft_folder_and_outlives_the_process(server: Server, tmp_path: Path) -> None:
    vlm = tuned(server, tmp_path / "shared")
    server.script = [b"Success"]
    vlm.finetune(SAMPLES, PROMPT)
    vlm.save_adapter(tmp_path / "checkpoint")
    here = prior()
    here.load_adapter(tmp_path / "checkpoint")
    expected = vlm.local.propose(IMAGES, PROMPT).valid_mass
    assert np.array_equal(here.propose(IMAGES, PROMPT).valid_mass, expected)  # type: ignore[arg-type]

    again = tuned(server, tmp_path / "elsewhere")
    server.asked.clear()
    server.script = [b"Success"]
    again.load_adapter(tmp_path / "checkpoint")
    assert server.asked[0][1]["lora_path"] == str(tmp_path / "elsewhere" / "round_1")
    assert again.local.rounds == 1 and again.server.adapter


def test_a_server_that_is_down_after_a_round_gets_the_adapter_before_it_answers_again(
    server: Server, tmp_path: Path
) -> None:
    vlm = tuned(server, tmp_path)
    server.script = [503] * 3
    vlm.finetune(SAMPLES, PROMPT)
    assert [path for path, _ in server.asked] == ["/v1/load_lora_adapter"] * 3 and "503" in vlm.server.last_error
    server.script = [503]
    proposals = vlm.propose(IMAGES, PROMPT)
    assert proposals.statuses == ("no_answer",) * 4 and not proposals.valid.any()
    assert len(server.asked) == 4, "a server that is down is tried once, and an old adapter is not asked"
    server.script = [b"Success"]
    assert vlm.propose(IMAGES, PROMPT).valid.all()
    assert {body["model"] for path, body in server.asked if path.endswith("completions")} == {vlm.server.adapter}


def test_a_server_that_refuses_the_adapter_says_why(server: Server, tmp_path: Path) -> None:
    vlm = tuned(server, tmp_path)
    server.script = [400]
    with pytest.raises(UserError, match=r"refused the adapter .*round_1: 400"):
        vlm.finetune(SAMPLES, PROMPT)


def test_open_prior_refuses_what_does_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="decode=generate"):
        open_prior("openai:http://127.0.0.1:1/v1", decode="forced")
    with pytest.raises(UserError, match="adapter folder"):
        open_prior("openai:http://127.0.0.1:1/v1", tuner="tiny")
    with pytest.raises(UserError, match="tuned itself"):
        open_prior("scripted", tuner="tiny", adapter_folder=tmp_path)
    with pytest.raises(UserError, match="http://"):
        open_prior("openai:")
    plain = open_prior("openai:http://127.0.0.1:1/v1#a/b")
    assert not plain.tunable and plain.describe()["model"] == "a/b"
    assert open_prior("scripted").tunable and open_prior(str(random_folder())).tunable


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


def test_two_frames_for_a_server_are_refused_with_the_settings() -> None:
    from covr.config import VLMConfig

    with pytest.raises(ValueError, match="vlm_frames=1"):
        VLMConfig(vlm="openai:http://127.0.0.1:1/v1#m", vlm_frames=2)


def reply(number: float) -> dict[str, Any]:
    text = f"Action: [{number:+.2f}, +0.00]"
    return {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}


def test_every_image_gets_its_own_answer_before_the_model_is_known_as_after(server: Server) -> None:
    vlm = client(server, workers=1)
    for numbers in ([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]):
        server.script = [reply(number) for number in numbers]
        assert vlm.propose(IMAGES, PROMPT).actions[:, 0] == pytest.approx(numbers)


def test_a_server_that_leaves_one_question_unanswered_is_not_down(server: Server) -> None:
    vlm = client(server, model="m", workers=1)
    server.script = [500] * 3
    assert vlm.propose(IMAGES, PROMPT).valid.tolist() == [False, True, True, True]
    assert not vlm.down
    server.script = [500]
    assert vlm.propose(IMAGES, PROMPT).valid.all()  # tried again

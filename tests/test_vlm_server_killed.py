"""A VLM server that is killed while it answers, stays away and comes back: the run goes on, and its rows say so."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_vlm_agents import configured, played

from covr.vlm.server import ServerPrior
from results.store import read_run

SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

port, dies_at = int(sys.argv[1]), int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    answered = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "Action: [+0.50]"}
        data = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()
        Handler.answered += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if Handler.answered == dies_at:
            self.wfile.write(data[:20])
            self.wfile.flush()
            os._exit(9)
        self.wfile.write(data)

    def log_message(self, *args):
        pass


server = HTTPServer(("127.0.0.1", port), Handler)
print("listens", flush=True)
server.serve_forever()
"""


class Server:
    """Processes that take turns on one port. dies_at: the answer in whose middle one is gone."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, dies_at: int = 0) -> None:
        command = [sys.executable, "-S", "-c", SERVER, str(self.port), str(dies_at)]
        self.processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert self.processes[-1].stdout and self.processes[-1].stdout.readline() == "listens\n"


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    for process in started.processes:
        process.kill()
        process.communicate()


def test_a_run_outlives_its_server(tmp_path: Path, monkeypatch: Any, server: Server) -> None:
    asked: list[str] = []
    propose = ServerPrior.propose

    def counted(vlm: ServerPrior, images: Any, prompt: Any) -> Any:
        if len(asked) == 6:
            server.start()  # again, after two questions without one
        answers = propose(vlm, images, prompt)
        asked.extend(answers.statuses)
        return answers

    monkeypatch.setattr(ServerPrior, "propose", counted)
    server.start(dies_at=6)  # the first answer is to the trial question
    vlm = f"openai:http://127.0.0.1:{server.port}/v1#m"
    config = configured(tmp_path, "vbe", vlm=vlm, env_steps=80, query_every="10")
    played(config)
    assert asked[:4] == ["ok"] * 4 and asked[4:6] == ["no_answer"] * 2
    assert len(asked) > 8 and set(asked[6:]) == {"ok"}
    assert server.processes[0].wait() == 9
    rows = read_run(config.out, config.run_id).query("kind == 'vlm'")
    last = rows.groupby("metric", observed=True)["value"].last()
    assert (last["answers_ok"], last["answers_no_answer"]) == (len(asked) - 2, 2)


def test_a_guided_run_outlives_its_server_too(tmp_path: Path, monkeypatch: Any, server: Server) -> None:
    """Questions in batches; the server is killed within one of them."""
    server.start(dies_at=7)  # the first answer is to the trial question
    vlm = f"openai:http://127.0.0.1:{server.port}/v1#m"
    config = configured(tmp_path, "dpl", vlm=vlm, env_steps=80, query_every="4", query_batch="4", queries="batched")
    played(config)
    last = read_run(config.out, config.run_id).query("kind == 'vlm'").groupby("metric", observed=True)["value"].last()
    assert last["answers_ok"] == 5 and last["answers_no_answer"] == last["queries"] - 5 > 3

"""Whatever a server does is an answer, a status or another try; never the end of a run, and never a leak of the key."""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from covr.config import COVRConfig, VLMConfig
from covr.vlm.open import open_prior
from covr.vlm.prompts import task_prompt
from covr.vlm.server import ServerPrior
from covr_bench.kit.errors import UserError

PROMPT = task_prompt("Push the cart.", 2)
IMAGES = np.zeros((1, 8, 8, 3), np.uint8)
ANSWER = "Action: [+0.10, -0.20]"
PATIENCE_S, SHORT_S = 60.0, 1.0
Behaviour = Callable[[socket.socket], None]


class Bad:
    """A server that does one thing to whoever connects, and keeps the requests it was sent."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave, self.heard = behave, bytearray()
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(50)
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self.heard += _request(connection)
            self.behave(connection)
        except OSError:
            pass
        finally:
            connection.close()


def _request(connection: socket.socket) -> bytes:
    """All of one request."""
    read = b""
    while b"\r\n\r\n" not in read:
        if not (more := connection.recv(65536)):
            return read
        read += more
    head, _, body = read.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    return head + body


@pytest.fixture
def bad() -> Iterator[Callable[[Behaviour], Bad]]:
    started: list[Bad] = []

    def start(behave: Behaviour) -> Bad:
        started.append(Bad(behave))
        return started[-1]

    yield start
    for server in started:
        server.socket.close()


def reply(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"} | more]}


def sends(data: bytes) -> Behaviour:
    return lambda connection: connection.sendall(data)


def dripping(data: bytes) -> Behaviour:
    def drip(connection: socket.socket) -> None:
        for i in range(len(data)):
            connection.sendall(data[i : i + 1])
            time.sleep(0.2)

    return drip


def then_reset(data: bytes) -> Behaviour:
    def reset(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    return reset


def then_stall(data: bytes) -> Behaviour:
    def stall(connection: socket.socket) -> None:
        connection.sendall(data)
        time.sleep(5)

    return stall


CUT_500 = b"HTTP/1.1 500 Oops\r\nContent-Length: 100\r\n\r\nhalf"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OVERLOADED = {"error": {"message": "the model is overloaded", "code": 502}}
STREAM = f"data: {json.dumps({'choices': [{'delta': {'content': ANSWER}}]})}\n\ndata: [DONE]\n\n"
UNANSWERED: dict[str, Behaviour] = {
    "closes at once": lambda connection: None,
    "never replies": then_stall(b""),
    "drips its head": dripping(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 99),
    "drips its body": dripping(reply(said(ANSWER))),
    "resets while a 500 is read": then_reset(CUT_500),
    "stalls while a 500 is read": then_stall(CUT_500),
    "promises more than it sends": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}"),
    "speaks no HTTP": sends(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "sends a head without end": sends(b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"a" * 300_000 + b"\r\n\r\n"),
    "sends a bad chunk": sends(CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n"),
    "breaks off a chunk": sends(CHUNKED + b"ff\r\nhello"),
    "sends five megabytes": sends(reply("[" + "1," * 2_500_000 + "1]")),
    "nests very deep": sends(reply("[" * 200_000)),
    "nests very deep in an answer": sends(reply('{"choices": ' + "[" * 99_999 + "]" * 99_999 + "}")),
    "sends half of its JSON": sends(reply('{"choices": [{"mess')),
    "sends NaN for an answer": sends(reply('{"choices": NaN}')),
    "sends bytes that are no text": sends(reply(b"\xff\xfe\x00")),
    "calls rubbish gzip": sends(reply(b"not gzip", "200 OK", "Content-Encoding: gzip")),
    "sends nothing": sends(reply(b"")),
    "sends no content": sends(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "sends a page": sends(reply("<html>It works!</html>")),
    "sends a list": sends(reply([1, 2])),
    "sends an error as 200": sends(reply({"error": {"message": "no"}})),
    "has no choices": sends(reply({"choices": []})),
    "has choices by name": sends(reply({"choices": {"0": 1}})),
    "has choices of null": sends(reply({"choices": None})),
    "sends a message that is a text": sends(reply({"choices": [{"message": ANSWER}]})),
    "sends a number for a text": sends(reply(said(7))),
    "sends parts without text": sends(reply(said([{"type": "text"}]))),
    "refuses": sends(reply({"error": "bad"}, "400 Bad Request")),
    "does not know the key": sends(reply({"error": "key"}, "401 Unauthorized")),
    "knows no such path": sends(reply("", "404 Not Found")),
    "is a teapot of 499": sends(reply("", "499 Odd")),
    "sends status 999": sends(reply("", "999 Odd")),
    "is overloaded for an hour": sends(reply("", "429 Too Many", "Retry-After: 3600")),
    "is overloaded until a day": sends(reply("", "503 Busy", "Retry-After: Fri, 31 Dec 2199 23:59:59 GMT")),
    "is overloaded until nonsense": sends(reply("", "503 Busy", "Retry-After: soon")),
    "points to itself": sends(reply("", "302 Found", "Location: /v1/chat/completions")),
    "points to another host": sends(reply("", "307 Temporary", "Location: http://evil.example/v1")),
    "points to no address": sends(reply("", "301 Moved", "Location: http://[::1/v1")),
    "goes on for ever": sends(b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
}
ANSWERED: dict[str, tuple[Any, str]] = {
    "a text": (ANSWER, "ok"),
    "parts": ([{"type": "text", "text": ANSWER[:9]}, {"type": "text", "text": ANSWER[9:]}], "ok"),
    "parts with others between": ([{"type": "reasoning", "x": 1}, {"type": "text", "text": ANSWER}, 3], "ok"),
    "nothing": (None, "no_action_word"),
    "texts for parts": ([ANSWER[:9], {"type": "output_text", "text": ANSWER[9:]}], "ok"),
    "a part without words": ([{"type": "text", "text": ANSWER}, {"type": "text", "text": None}], "ok"),
    "half a character": ("Action: \ud800", "no_match"),
    "other digits": ("Action: [+\u0660.10, -0.20]", "no_match"),
    "a million characters": ("Action: " + "9" * 10**6, "no_match"),
    "control characters": (ANSWER + "\x00\x1b[2J", "no_match"),
    "infinity": ("Action: [inf, -0.20]", "nonfinite"),
}


def asked(url: str, **options: Any) -> tuple[ServerPrior, Any]:
    vlm = ServerPrior(url, "m", **({"attempts": 2, "backoff": 0.001, "timeout": SHORT_S} | options))
    return vlm, vlm.propose(IMAGES, PROMPT)


def test_there_are_thirty_kinds() -> None:
    assert len(UNANSWERED) + len(ANSWERED) > 40


@pytest.mark.parametrize("behave", UNANSWERED.values(), ids=[name.replace(" ", "-") for name in UNANSWERED])
def test_what_is_no_answer_is_a_status_and_says_why(bad: Any, behave: Behaviour) -> None:
    started = time.monotonic()
    vlm, answers = asked(bad(behave).url)
    assert answers.statuses == ("no_answer",) and not answers.valid.any()
    assert vlm.last_error and "\n" not in vlm.last_error
    assert time.monotonic() - started < PATIENCE_S


@pytest.mark.parametrize(("content", "status"), ANSWERED.values(), ids=[name.replace(" ", "-") for name in ANSWERED])
def test_what_is_an_answer_is_read(bad: Any, content: Any, status: str) -> None:
    _, answers = asked(bad(sends(reply(said(content)))).url, timeout=PATIENCE_S)
    assert answers.statuses == (status,)
    answers.texts[0].encode()
    assert len(answers.texts[0]) < 10_000


def test_a_compressed_answer_is_read_though_none_was_asked_for(bad: Any) -> None:
    body = gzip.compress(json.dumps(said(ANSWER)).encode())
    _, answers = asked(bad(sends(reply(body, "200 OK", "Content-Encoding: gzip"))).url, timeout=PATIENCE_S)
    assert answers.statuses == ("ok",)


def test_a_question_has_one_deadline_whatever_the_socket_does(bad: Any) -> None:
    for behave in (UNANSWERED["drips its head"], UNANSWERED["drips its body"], UNANSWERED["never replies"]):
        server = bad(behave)
        vlm, answers = asked(server.url, attempts=50, timeout=0.5)
        assert answers.statuses == ("no_answer",) and server.connections == 1 and "timed out" in vlm.last_error


def test_retry_after_is_waited_for(bad: Any) -> None:
    times: list[float] = []

    def busy_once(connection: socket.socket) -> None:
        times.append(time.monotonic())
        first = len(times) == 1
        connection.sendall(reply("", "429 Busy", "Retry-After: 1") if first else reply(said(ANSWER)))

    _, answers = asked(bad(busy_once).url, timeout=PATIENCE_S)
    assert answers.statuses == ("ok",) and times[1] - times[0] >= 1


def test_a_pause_of_years_is_told_in_digits(bad: Any) -> None:
    vlm, _ = asked(bad(UNANSWERED["is overloaded until a day"]).url)
    assert "503 Busy" in vlm.last_error
    seconds = re.search(r"the next try would be ([0-9,.]+) s later", vlm.last_error)
    assert seconds and float(seconds[1].replace(",", "")) > 10**9


def test_a_server_that_knows_the_newer_names_is_asked_by_them(bad: Any) -> None:
    def newer(connection: socket.socket) -> None:
        body = json.loads(server.heard[server.heard.rindex(b'{"model"') :])
        if "max_tokens" in body:
            words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            connection.sendall(reply({"error": {"message": words}}, "400 Bad Request"))
        elif "temperature" in body:
            words = "Unsupported value: 'temperature' does not support 0.0."
            connection.sendall(reply({"error": {"message": words}}, "400 Bad Request"))
        else:
            connection.sendall(reply(said(ANSWER)))

    server = bad(newer)
    vlm, answers = asked(server.url, timeout=PATIENCE_S)
    assert answers.statuses == ("ok",) and server.connections == 3
    assert vlm.propose(IMAGES, PROMPT).statuses == ("ok",) and server.connections == 4


def test_the_key_is_in_no_message_and_follows_no_redirect(bad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\r")
    other = bad(sends(reply(said(ANSWER))))
    points = bad(sends(reply("", "307 Temporary", f"Location: http://localhost:{other.port}/v1/chat/completions")))
    vlm, answers = asked(points.url)
    assert b"Bearer sk-secret\r\n" in points.heard and not other.heard and answers.statuses == ("no_answer",)
    echo = bad(sends(reply("the key sk-secret is not known", "401 Unauthorized")))
    vlm, _ = asked(echo.url)
    assert "sk-secret" not in vlm.last_error + json.dumps(vlm.describe()) and "the API key" in vlm.last_error
    monkeypatch.setenv("OPENAI_API_KEY", "sk-se\ncret")
    with pytest.raises(UserError, match="OPENAI_API_KEY") as refused:
        ServerPrior(echo.url)
    assert "sk-se" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://[::1/v1", "http://", "https:///v1", "ftp://x/v1", "localhost:8000", "http://a b"]
)
def test_an_address_that_is_none_is_refused_before_a_step(url: str) -> None:
    with pytest.raises(UserError, match="address"):
        open_prior(f"openai:{url}")


@pytest.mark.parametrize(
    ("listed", "said_of_it"),
    [
        ({"data": []}, "lists no model"),
        ({"data": [{"id": "a"}, {"id": "b/c"}]}, r"lists 2 models, a, b/c: name one, as in openai:.*#MODEL"),
        ({"data": [{"id": ""}]}, "lists no model"),
        ({"models": 3}, "lists no model"),
        ({"data": [{"id": f"m{i}"} for i in range(400)]}, r"lists 400 models, m0, .*, m7 and 392 more: name one"),
        (OVERLOADED, "lists no model .*overloaded"),
        ([1], "lists no model"),
    ],
)
def test_which_model_is_asked_is_never_a_guess(bad: Any, listed: Any, said_of_it: str) -> None:
    with pytest.raises(UserError, match=said_of_it):
        open_prior(f"openai:{bad(sends(reply(listed))).url}")


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found", "307 Temporary"])
def test_a_server_that_refuses_to_list_its_models_is_refused_before_a_step(bad: Any, status: str) -> None:
    with pytest.raises(UserError, match=f"does not say which models it has: {status}"):
        open_prior(f"openai:{bad(sends(reply('no', status))).url}")


def test_the_only_model_is_named_in_what_is_kept_of_the_run(bad: Any) -> None:
    for listed in ([{"id": "only"}], {"data": [{"id": "only"}], **said(ANSWER)}):
        vlm = ServerPrior(bad(sends(reply(listed))).url)
        vlm.propose(IMAGES, PROMPT)
        assert vlm.describe()["model"] == "only"
    assert open_prior(f"openai:{vlm.url}").describe()["model"] == "only"


@pytest.mark.parametrize(
    ("sent", "told"),
    [(OVERLOADED, "the model is overloaded"), ("<h1>Sign in</h1>", "Sign in"), (STREAM, "data: "), (b"", "nothing")],
)
def test_a_reply_that_is_no_answer_is_told_in_the_servers_own_words(bad: Any, sent: Any, told: str) -> None:
    vlm, answers = asked(bad(sends(reply(sent))).url)
    assert answers.statuses == ("no_answer",)
    assert told in vlm.last_error and "sent what is no answer" in vlm.last_error and "Error:" not in vlm.last_error


def test_a_model_that_refuses_is_quoted_and_a_byte_order_mark_is_no_matter(bad: Any) -> None:
    body = {"choices": [{"message": {"content": None, "refusal": "I cannot drive."}, "finish_reason": "stop"}]}
    _, answers = asked(bad(sends(reply(body))).url, timeout=PATIENCE_S)
    assert answers.statuses == ("no_action_word",) and answers.texts == ("I cannot drive.",)
    _, answers = asked(bad(sends(reply(b"\xef\xbb\xbf" + json.dumps(said(ANSWER)).encode()))).url, timeout=PATIENCE_S)
    assert answers.statuses == ("ok",)


@pytest.mark.parametrize("key", ["sk-" + "0123456789" * 16, 'sk-quo"ted\\123', "sk-a b/c+d=="])
def test_no_part_of_a_key_is_told_however_it_comes_back(bad: Any, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    echo = json.dumps({"error": "z" * 220 + key + quote(key, safe="")})
    asks = [
        asked(bad(sends(reply(echo, "401 Unauthorized"))).url)[0].last_error,
        asked(bad(sends(reply("", "302 Found", f"Location: /login?key={quote(key)}"))).url)[0].last_error,
        asked(bad(sends(reply(said(f"You sent {key}")))).url, timeout=PATIENCE_S)[1].texts[0],
    ]
    for words in asks:
        assert "<the API key>" in words and key[3:8] not in words


def test_a_key_that_is_a_word_is_no_secret_of_others(bad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "0")  # as for servers that ask for none
    vlm, _ = asked(bad(sends(reply("no", "400 Bad Request"))).url)
    assert "400 Bad Request" in vlm.last_error


@pytest.mark.parametrize("name", ["ALL_PROXY", "SSL_CERT_FILE", "HTTPS_PROXY"])
def test_a_proxy_or_certificate_that_cannot_be_used_is_refused_before_a_step(
    bad: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "gopher://127.0.0.1:9")
    with pytest.raises(UserError, match=f"environment names.*{name}"):
        ServerPrior("https://example.org/v1", "m")
    _, answers = asked(bad(sends(reply(said(ANSWER)))).url, timeout=PATIENCE_S)
    assert answers.statuses == ("ok",), "a server on this machine needs no proxy"


@pytest.mark.parametrize("url", ["http://me:hunter2@127.0.0.1:1/v1", "http://127.0.0.1:1/v1?key=hunter2"])
def test_an_address_that_holds_a_secret_is_refused_with_the_settings(url: str) -> None:
    for opened in (lambda: VLMConfig(vlm=f"openai:{url}#m"), lambda: open_prior(f"openai:{url}#m")):
        with pytest.raises(UserError, match="OPENAI_API_KEY") as refused:
            opened()
        assert "hunter2" not in str(refused.value)
    with pytest.raises(UserError, match="leave /chat/completions out"):
        VLMConfig(vlm="openai:http://127.0.0.1:1/v1/chat/completions#m")


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "400 Bad Request", "413 Too Large"])
def test_a_server_that_refuses_a_trial_question_is_refused_before_a_step(bad: Any, status: str) -> None:
    server = bad(sends(reply("the model m takes no images", status)))
    with pytest.raises(UserError, match=f"refuses a question to 'm': {status}: the model m takes no images"):
        open_prior(f"openai:{server.url}#m")
    for passing in (reply("", "503 Busy"), reply(said("Hello."))):
        assert open_prior(f"openai:{bad(sends(passing)).url}#m").describe()["model"] == "m"


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (OVERLOADED, "the model is overloaded"),
        ({"error": {"message": "wrong key"}}, "wrong key"),
        ("<h1>Sign in</h1>", "Sign in"),
        ({"choices": []}, "choices"),
        (b"", "nothing"),
    ],
)
def test_a_trial_question_that_gets_no_answer_is_refused_before_a_step(bad: Any, sent: Any, told: str) -> None:
    """It passed with status 200, and every answer of a whole run was masked."""
    with pytest.raises(UserError, match=f"sent what is no answer: .*{told}.*; check its address"):
        open_prior(f"openai:{bad(sends(reply(sent))).url}#m")


def test_a_trial_question_that_gets_no_answer_tells_no_key(bad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")
    with pytest.raises(UserError, match="you sent <the API key>"):
        open_prior(f"openai:{bad(sends(reply({'error': 'you sent sk-0123456789'}))).url}#m")


@pytest.mark.parametrize("more", [{"vlm_dtype": "int4"}, {"vlm_device": "cuda:1"}])
def test_settings_of_weights_that_a_server_keeps_are_refused(more: dict[str, Any]) -> None:
    server = "openai:http://127.0.0.1:1/v1#m"
    with pytest.raises(ValueError, match="leave vlm_dtype and vlm_device out"):
        VLMConfig(vlm=server, **more)
    COVRConfig(vlm=server, tuner="tiny", **more)

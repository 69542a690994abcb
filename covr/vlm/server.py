"""A vision-language model behind an OpenAI-compatible server, such as vLLM: `openai:http://host:8000/v1`.

It answers questions, and takes up a saved adapter where the server offers `/load_lora_adapter` (vLLM with
VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, on a path the server can read). It cannot be tuned itself; `ServedPrior` tunes a
copy of its weights in this process.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import struct
import time
import urllib.error
import urllib.request
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covr.vlm.base import FinetuneReport, Proposals, Samples, check_images, proposals_from_texts
from covr.vlm.grammar import Parsed, parse
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt

    from covr.vlm.hf import HFPrior
    from covr.vlm.prompts import Prompt

LOAD_TIMEOUT = 120.0  # seconds a server may take to read an adapter


class ServerDown(Exception):
    """The server gave no usable reply after every attempt."""


class ServerRefused(ServerDown):
    """The server understood, and will not: another attempt would be refused as well."""


class ServerPrior:
    """A VisionLanguagePrior that asks over HTTP.

    url: up to and including `/v1`. model: as the server names it; its first one if empty. An API key is read from the
    environment variable OPENAI_API_KEY. attempts, backoff: tries per question, and seconds before the second, doubled
    each time. timeout: seconds per try. workers: questions asked at once.
    A question that stays unanswered is masked (status `no_answer`), never an error. Once a whole batch has gone
    unanswered each further question gets a single try, until one is answered: a dead server does not hold up a run.
    """

    tunable = False

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        attempts: int = 3,
        backoff: float = 0.5,
        timeout: float = 30.0,
        workers: int = 8,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise UserError(f"the VLM server's address is {url!r}; it begins with http:// or https://")
        self.url = url.rstrip("/")
        self.attempts, self.backoff, self.timeout, self.workers = attempts, backoff, timeout, workers
        self.down = False
        self.last_error = ""
        self.adapter = ""
        self._model = model

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        started = time.perf_counter()
        images = check_images(images)
        if images.ndim == 5:
            raise UserError("a VLM server is shown one frame, not two")
        if self.down:  # one question tells whether it is back
            answers = [self._ask(images[0], prompt)]
            rest = images[1:]
            unanswered = ("", Parsed(None, "no_answer"))
            answers += self._ask_all(rest, prompt) if answers[0][1].status != "no_answer" else [unanswered] * len(rest)
        else:
            answers = self._ask_all(images, prompt)
        self.down = all(parsed.status == "no_answer" for _, parsed in answers)
        texts, parsed = [text for text, _ in answers], [p for _, p in answers]
        seconds = time.perf_counter() - started
        return proposals_from_texts(
            texts, [p.status for p in parsed], [p.action for p in parsed], prompt.action_dim, seconds
        )

    def _ask_all(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> list[tuple[str, Parsed]]:
        with ThreadPoolExecutor(self.workers) as pool:
            return list(pool.map(lambda image: self._ask(image, prompt), images))

    def _ask(self, image: npt.NDArray[np.uint8], prompt: Prompt) -> tuple[str, Parsed]:
        try:
            body = {
                "model": self.adapter or self.model_name(),
                "messages": chat(prompt, image),
                "max_tokens": 16 + 8 * prompt.action_dim,
                "temperature": 0.0,
            }
            choice = self._post("/chat/completions", body)["choices"][0]
            text = choice["message"]["content"] or ""
            finished = choice.get("finish_reason") != "length"
        except (ServerDown, KeyError, IndexError, TypeError) as error:
            self.last_error = f"{type(error).__name__}: {error}"
            return "", Parsed(None, "no_answer")
        return text, parse(text, prompt.action_dim, finished=finished)

    def model_name(self) -> str:
        """The model asked for, or the first the server lists. Raises ServerDown."""
        if not self._model:
            self._model = self._request("/models", None)["data"][0]["id"]
        return self._model

    def _post(self, path: str, body: dict[str, Any], timeout: float = 0.0) -> Any:
        return self._request(path, json.dumps(body).encode(), timeout)

    def _request(self, path: str, data: bytes | None, timeout: float = 0.0) -> Any:
        """The reply as JSON. Server errors, timeouts and 429 are tried again; what the server refuses is not.

        timeout: seconds per try, in place of the usual. Raises ServerDown, and ServerRefused.
        """
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("OPENAI_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url + path, data, headers)
        attempts = 1 if self.down else self.attempts
        for attempt in range(1, attempts + 1):
            try:
                with urllib.request.urlopen(request, timeout=timeout or self.timeout) as reply:
                    text = reply.read().decode()
                return json.loads(text) if text.strip().startswith(("{", "[")) else text
            except urllib.error.HTTPError as error:
                problem = f"{error.code} {error.reason}: {error.read(300).decode(errors='replace')}"
                if error.code < 500 and error.code != 429:
                    raise ServerRefused(problem) from error
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: not JSON, not UTF-8
                problem = f"{type(error).__name__}: {error}"
            if attempt < attempts:
                time.sleep(self.backoff * 2 ** (attempt - 1))
        raise ServerDown(f"{self.url}{path} gave no answer in {attempts} attempts; the last: {problem}")

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        raise UserError(
            f"the VLM behind {self.url} cannot be tuned from here; use --vlm tiny or a local model, or tune it "
            "elsewhere and load the adapter"
        )

    def save_adapter(self, folder: Path) -> None:
        raise UserError(f"the VLM behind {self.url} has no adapter of this run to save")

    def load_adapter(self, folder: Path) -> None:
        """Have the server load a peft folder, on a path it can read. Raises UserError if it does not."""
        try:
            self.take_up(folder)
        except ServerDown as error:
            raise UserError(f"the VLM server did not load the adapter {folder}: {error}") from error

    def take_up(self, folder: Path) -> None:
        """Ask with that adapter from now on; the former one is dropped afterwards. Raises ServerDown, ServerRefused.

        No two loadings share a name: vLLM keeps the keys and values of prompts by adapter name, and would answer with
        those of the former weights; and two runs may share a server.
        """
        former, name = self.adapter, f"covr-{uuid.uuid4().hex[:12]}"
        body = {"lora_name": name, "lora_path": str(Path(folder).resolve())}
        self._request("/models", None)  # a dead server is not given as long as loading may take
        self._post("/load_lora_adapter", body, LOAD_TIMEOUT)
        self.adapter = name
        self._unload(former)

    def reset_adapter(self) -> None:
        """Ask without an adapter from now on."""
        former, self.adapter = self.adapter, ""
        self._unload(former)

    def _unload(self, former: str) -> None:
        if former:
            try:
                self._post("/unload_lora_adapter", {"lora_name": former})
            except ServerDown as error:  # costs the server memory, until it needs the room
                self.last_error = f"unloading {former}: {error}"

    def describe(self) -> dict[str, Any]:
        return {
            "name": f"openai:{self.url}",
            "model": self.adapter or self._model,
            "decode": "generate",
            "parameters": None,
            "stand_in": False,
        }


class ServedPrior:
    """A VisionLanguagePrior that asks a server and tunes a copy of its weights in this process.

    local: the same model as the server's. folder: adapters go here, a folder for each round, where the server must find
    them by the same path. An adapter the server cannot take up because it is down goes to it before the next question;
    until then questions count as unanswered, so that no answer is an older model's.
    """

    tunable = True

    def __init__(self, server: ServerPrior, local: HFPrior, folder: Path) -> None:
        self.server, self.local, self.folder = server, local, Path(folder)
        self.waiting: Path | None = None  # an adapter the server does not have yet

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        started = time.perf_counter()
        if self._hand_over():
            return self.server.propose(images, prompt)
        number, seconds = len(check_images(images)), time.perf_counter() - started
        return proposals_from_texts([""] * number, ["no_answer"] * number, [None] * number, prompt.action_dim, seconds)

    def finetune(self, samples: Samples, prompt: Prompt) -> FinetuneReport:
        """Also raises UserError if the server refuses the adapter."""
        report = self.local.finetune(samples, prompt)
        self._publish()
        return report

    def save_adapter(self, folder: Path) -> None:
        self.local.save_adapter(folder)

    def load_adapter(self, folder: Path) -> None:
        self.local.load_adapter(folder)
        self._publish()

    def reset_adapter(self) -> None:
        self.local.reset_adapter()
        self.waiting = None
        self.server.reset_adapter()

    def _publish(self) -> None:
        target = self.folder / f"round_{self.local.rounds}"
        self.local.save_adapter(target)
        self.waiting = target
        self._hand_over()

    def _hand_over(self) -> bool:
        """Whether the server has the newest adapter, after an attempt to give it."""
        if self.waiting is None:
            return True
        try:
            self.server.take_up(self.waiting)
        except ServerRefused as error:
            raise UserError(f"the VLM server refused the adapter {self.waiting}: {error}") from error
        except ServerDown as error:
            self.server.down, self.server.last_error = True, str(error)
            return False
        self.waiting = None
        return True

    def describe(self) -> dict[str, Any]:
        local = self.local.describe()
        same = {name: local[name] for name in ("parameters", "stand_in")}
        return {**local, **self.server.describe(), **same, "tuner": local["name"]}


def chat(prompt: Prompt, image: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
    """The messages of an OpenAI chat request, the image inlined as a PNG."""
    url = "data:image/png;base64," + base64.b64encode(png(image)).decode()
    messages = prompt.messages()
    messages[1]["content"] = [
        {"type": "image_url", "image_url": {"url": url}} if part["type"] == "image" else part
        for part in messages[1]["content"]
    ]
    return messages


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """An RGB image, uint8 `(H, W, 3)`, as a PNG file (RFC 2083: 8 bits, colour type 2, no filter)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = image.shape[:2]
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body

"""A vision-language model behind an OpenAI-compatible server, such as vLLM: `openai:http://host:8000/v1`.

It answers questions, and takes up a saved adapter where the server offers `/load_lora_adapter` (vLLM with
VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, on a path the server can read). It cannot be tuned itself; `covr.vlm.served` tunes
a copy of its weights in this process.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from covr.vlm.base import FinetuneReport, Proposals, Samples, check_images, proposals_from_texts
from covr.vlm.chat import NoAnswer, answer_of, chat
from covr.vlm.grammar import Parsed, parse
from covr.vlm.prompts import Prompt
from covr.vlm.transport import ServerDown, ServerRefused, Transport, run
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    import numpy.typing as npt


LOAD_TIMEOUT = 120.0  # seconds a server may take to read an adapter
KEPT = 2_000  # characters of an answer that is none
LISTED = 8  # names of models in a message
UNANSWERED = Parsed(None, "no_answer")
SIDE = 84  # pixels of the image of a trial question
TRIAL = Prompt("You control a robot.", "Push the cart.", 1)


class ServerPrior:
    """A VisionLanguagePrior that asks over HTTP.

    url: up to and including `/v1`. model: as the server names it; its only one if empty. An API key is read from the
    environment variable OPENAI_API_KEY. attempts, backoff: tries per question, and seconds before the second, doubled
    each time. timeout: seconds per question, all its tries together. workers: questions asked at once.
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
        timeout: float = 60.0,
        workers: int = 8,
    ) -> None:
        self.transport = Transport(url, attempts, backoff, timeout)
        self.url, self.workers = self.transport.url, workers
        self.down = False
        self.last_error = ""
        self.adapter = ""
        self.adapter_folder = Path()
        self._model = model
        self._limit = "max_tokens"  # newer servers call it max_completion_tokens
        self._fixed: dict[str, Any] = {"temperature": 0.0}

    def propose(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> Proposals:
        started = time.perf_counter()
        images = check_images(images)
        if images.ndim == 5:
            raise UserError("a VLM server is shown one frame, not two: set vlm_frames=1")
        if self.down and self.adapter:
            self._give_adapter_again()
        answers = run(self._ask_all(images, prompt))
        self.down = all(parsed.status == "no_answer" for _, parsed in answers)
        texts, parsed = [text for text, _ in answers], [p for _, p in answers]
        seconds = time.perf_counter() - started
        return proposals_from_texts(
            texts, [p.status for p in parsed], [p.action for p in parsed], prompt.action_dim, seconds
        )

    async def _ask_all(self, images: npt.NDArray[np.uint8], prompt: Prompt) -> list[tuple[str, Parsed]]:
        places = asyncio.Semaphore(self.workers)
        silences, heard = 0, False  # questions that waited their whole time in vain; whether any got an answer
        async with self.transport.client() as client:

            async def ask(image: npt.NDArray[np.uint8]) -> tuple[str, Parsed]:
                nonlocal silences, heard
                async with places:
                    if silences >= self.workers and not heard:  # it hangs: a stop must not wait for every question
                        return self.last_error, UNANSWERED
                    begun = time.monotonic()
                    answer = await self._ask(client, image, prompt)
                    heard |= answer[1].status != "no_answer"
                    silences += time.monotonic() - begun >= self.transport.timeout
                    return answer

            first = [await ask(images[0])] if self.down or not self._model else []  # tells whether it is back
            if first and first[0][1].status == "no_answer":
                return first * len(images)
            return first + list(await asyncio.gather(*(ask(image) for image in images[len(first) :])))

    async def _ask(self, client: Any, image: npt.NDArray[np.uint8], prompt: Prompt) -> tuple[str, Parsed]:
        try:
            text, finished = answer_of(await self._reply(client, image, prompt))
        except Exception as error:  # a server may send anything, and none of it ends a run
            self.last_error = self._told(error)
            return self.last_error, UNANSWERED
        return self.transport.hidden(text)[:KEPT], parse(text, prompt.action_dim, finished=finished)

    async def _reply(self, client: Any, image: npt.NDArray[np.uint8], prompt: Prompt) -> Any:
        body = {"model": self.adapter or await self._resolved(client), "messages": chat(prompt, image)}
        return await self._completed(client, body, 16 + 8 * prompt.action_dim)

    def _told(self, error: Exception) -> str:
        """Why there is no answer, in a line."""
        if isinstance(error, NoAnswer):
            return f"{self.url} sent what is no answer: {self.transport.scrubbed(str(error)) or 'nothing'}"
        if isinstance(error, (ServerDown, UserError)):
            return self.transport.hidden(str(error))
        return self.transport.scrubbed(f"{type(error).__name__}: {error}")

    async def _completed(self, client: Any, body: dict[str, Any], limit: int) -> Any:
        """The reply to a chat. A server that refuses one of our settings by name is asked without it from now on."""
        while True:
            settings, limited = dict(self._fixed), self._limit
            attempts = 1 if self.down else 0
            try:
                return await self.transport.request(
                    client, "/chat/completions", body | settings | {limited: limit}, attempts=attempts
                )
            except ServerRefused as refusal:
                words = str(refusal)
                if limited == "max_tokens" and "max_completion_tokens" in words:
                    self._limit = "max_completion_tokens"
                elif "temperature" in settings and "temperature" in words:
                    self._fixed.pop("temperature", None)
                else:
                    raise

    async def _resolved(self, client: Any) -> str:
        """The model asked for, or the only one the server lists. Raises ServerDown, and UserError if it is not one."""
        if not self._model:
            listed = await self.transport.request(client, "/models", attempts=1 if self.down else 0)
            names = list(dict.fromkeys(name for name, parent in _models(listed) if not parent))
            if len(names) != 1:
                raise UserError(
                    f"the VLM server {self.url} {self._listing(names, listed)}: name one, as in openai:{self.url}#MODEL"
                )
            self._model = names[0]
        return self._model

    def _listing(self, names: list[str], listed: Any) -> str:
        """What a server lists in place of one model."""
        if not names:
            words = listed if isinstance(listed, str) else json.dumps(listed)
            return f"lists no model ({self.transport.scrubbed(words) or 'it sent nothing'})"
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        return f"lists {len(names)} models, {self.transport.scrubbed(', '.join(names[:LISTED]))}{more}"

    def check(self) -> None:
        """Ask a trial question, once; a server that is down may come back, and passes.

        Raises:
            UserError: The server names no model by itself, or refuses the question: a wrong key, path or model, or one
                that takes no images; or it sends what is no answer, as a proxy or a sign-in page does.
        """

        async def ask() -> None:
            async with self.transport.client() as client:
                await self._resolved(client)
                answer_of(await self._reply(client, np.zeros((SIDE, SIDE, 3), np.uint8), TRIAL))

        self.down = True  # one try each
        try:
            run(ask())
        except ServerRefused as error:
            what = f"refuses a question to {self._model!r}" if self._model else "does not say which models it has"
            raise UserError(f"the VLM server {self.url} {what}: {error}") from error
        except NoAnswer as error:
            way_out = "check its address (up to and including /v1), its model and the key in OPENAI_API_KEY"
            raise UserError(f"the VLM server {self._told(error)}; {way_out}") from error
        except ServerDown as error:
            self.last_error = str(error)
        finally:
            self.down = False

    def _post(self, path: str, body: dict[str, Any] | None, timeout: float = 0.0) -> Any:
        """Raises ServerDown, and ServerRefused."""

        async def post() -> Any:
            async with self.transport.client() as client:
                attempts = 1 if self.down else 0
                return await self.transport.request(client, path, body, attempts=attempts, timeout=timeout)

        return run(post())

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
        self._post("/models", None)  # a dead server is not given as long as loading may take
        self._post("/load_lora_adapter", body, LOAD_TIMEOUT)
        self.adapter, self.adapter_folder = name, Path(folder)
        self._unload(former)

    def _give_adapter_again(self) -> None:
        """A server that was started anew has lost it, and knows no model of that name."""
        try:
            if self.adapter not in dict(_models(self._post("/models", None))):
                self.take_up(self.adapter_folder)
        except ServerDown as error:
            self.last_error = str(error)

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


def _models(listed: Any) -> list[tuple[str, Any]]:
    """The names in a reply of `/models`, each with its parent: an adapter's is the model that it was made for."""
    entries = listed.get("data") if isinstance(listed, dict) else listed
    known = [e for e in (entries if isinstance(entries, list) else ()) if isinstance(e, dict)]
    return [(e["id"], e.get("parent")) for e in known if isinstance(e.get("id"), str) and e["id"].strip()]

"""Requests to a VLM server, by httpx: whatever comes back is a reply, another try or one of two errors.

One deadline holds for a request with all its tries and pauses, however slowly the server lets bytes drip. The API key
goes to the address that was given and nowhere else: redirects are not followed, and no message holds it. Proxies are
those of the environment, but for a server on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import httpx2 as httpx

from covr.vlm.address import check_address, is_own_machine
from covr_bench.kit.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Coroutine

KEY = "OPENAI_API_KEY"
LARGEST = 4 * 2**20  # bytes of a reply; an answer takes some hundreds
SHOWN = 300  # characters of a server's words in a message
SHORT = 8  # characters of a key below which it may be part of a word, such as vLLM's EMPTY
T = TypeVar("T")


class ServerDown(Exception):
    """The server gave no usable reply after every attempt."""


class ServerRefused(ServerDown):
    """The server understood, and will not: another attempt would be refused as well."""


class Transport:
    """Where a server is and how long it is waited for.

    url: up to and including `/v1`. attempts, backoff: tries per request, and seconds before the second, doubled each
    time; a server's `Retry-After` goes before it. timeout: seconds for a request, all its tries and pauses together.
    """

    def __init__(self, url: str, attempts: int, backoff: float, timeout: float) -> None:
        check_address(url)
        try:
            httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise UserError(f"the VLM server's address {url!r} is none: {error}") from error
        self.url = url.rstrip("/")
        self.attempts, self.backoff, self.timeout = attempts, backoff, timeout
        self.key = os.environ.get(KEY, "").strip()
        if not (self.key.isascii() and self.key.isprintable()):
            raise UserError(f"the environment variable {KEY} holds characters that no HTTP header may hold")
        self._secret = _forms(self.key)
        try:
            self.client()
        except (httpx.InvalidURL, ValueError, ImportError, OSError) as error:
            raise UserError(
                "a VLM server cannot be asked with the proxy or the certificates that this environment names "
                f"(HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE, SSLKEYLOGFILE): {error}"
            ) from error

    def client(self) -> httpx.AsyncClient:
        headers = {"Accept-Encoding": "identity"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        secure = self.url.startswith("https://")  # certificates take longer to read than an answer
        surroundings = not is_own_machine(self.url)
        return httpx.AsyncClient(
            headers=headers, follow_redirects=False, timeout=None, verify=secure, trust_env=surroundings
        )

    async def request(
        self, client: httpx.AsyncClient, path: str, body: Any = None, *, attempts: int = 0, timeout: float = 0.0
    ) -> Any:
        """The reply as JSON, or as text where it is none.

        Server errors, broken connections, 408, 409 and 429 are tried again; what the server refuses is not.
        body: sent as JSON; None asks without one. attempts, timeout: in place of the usual.
        Raises ServerDown, and ServerRefused.
        """
        attempts, timeout = attempts or self.attempts, timeout or self.timeout
        end = time.monotonic() + timeout
        problem = "timed out"
        for attempt in range(1, attempts + 1):
            pause = self.backoff * 2 ** (attempt - 1)
            try:
                reply, text = await asyncio.wait_for(self._once(client, path, body), max(end - time.monotonic(), 0.001))
                if reply.status_code < 300:
                    return _parsed(text)
                problem = self.scrubbed(f"{reply.status_code} {reply.reason_phrase}: {text}")
                if reply.status_code < 500 and reply.status_code not in (408, 409, 425, 429):
                    raise ServerRefused(problem + self._pointing(reply))
                pause = _retry_after(reply.headers.get("Retry-After", ""), pause)
            except (asyncio.TimeoutError, TimeoutError):
                problem = f"timed out: no whole reply in {timeout:g} s"
                break
            except (httpx.HTTPError, httpx.StreamError, OSError, ValueError, RecursionError) as error:
                problem = self.scrubbed(f"{type(error).__name__}: {error}")
            if attempt < attempts:
                if time.monotonic() + pause >= end:
                    problem += f"; the next try would be {pause:,.1f} s later, past the {timeout:g} s of a question"
                    break
                await asyncio.sleep(pause)
        raise ServerDown(
            f"{self.url}{path} gave no answer in {attempt} attempt{'s'[: attempt - 1]}; the last: {problem}"
        )

    async def _once(self, client: httpx.AsyncClient, path: str, body: Any) -> tuple[httpx.Response, str]:
        method = "GET" if body is None else "POST"
        async with client.stream(method, self.url + path, json=body) as reply:
            read = bytearray()
            async for chunk in reply.aiter_bytes():
                read += chunk
                if len(read) > LARGEST:
                    raise ValueError(f"a reply of more than {LARGEST} bytes")
        return reply, read.decode("utf-8-sig", errors="replace" if reply.status_code >= 300 else "strict")

    def _pointing(self, reply: httpx.Response) -> str:
        place = self.scrubbed(reply.headers.get("Location", ""))
        return f" (it points to {place!r}: give that address if it is right)" if reply.is_redirect else ""

    def hidden(self, text: str) -> str:
        """A text without the key."""
        return self._secret.sub("<the API key>", text) if self._secret else text

    def scrubbed(self, text: str) -> str:
        """A text without the key, cut, in one line that a terminal can show."""
        line = " ".join(self.hidden(text).split())  # hidden before it is cut: half a key is a secret, too
        return "".join(letter if letter.isprintable() else "?" for letter in line)[:SHOWN]


def _forms(key: str) -> re.Pattern[str] | None:
    """The key as a server may write it: as it is, in JSON, in an address."""
    if not key:
        return None
    forms = "|".join(re.escape(form) for form in {key, json.dumps(key)[1:-1], quote(key), quote(key, safe="")})
    return re.compile(forms if len(key) >= SHORT else rf"(?<!\w)(?:{forms})(?!\w)")


def run(task: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns. It has a thread of its own: the caller may be in an event loop, as in a notebook."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, task).result()


def _parsed(text: str) -> Any:
    return json.loads(text) if text.strip().startswith(("{", "[")) else text


def _retry_after(text: str, usual: float) -> float:
    """Seconds to wait, of a header that tells them or a date."""
    try:
        return max(float(text), 0.0) if float(text) < 1e9 else usual
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return usual

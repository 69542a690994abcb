"""The address of a VLM server. It is stored with every run and stands in messages, so it may hold no secret."""

from __future__ import annotations

from urllib.parse import urlsplit

from covr_bench.kit.errors import UserError


def check_address(url: str) -> None:
    """Raises UserError for what is no address, and for one that holds a user, a password or a query."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        shown = url.rpartition("@")[2]  # without what may be a password
        raise UserError(f"the VLM server's address {shown!r} is none: {error}") from error
    if parts.username is not None or parts.query:
        raise UserError(
            f"the VLM server's address at {host!r} holds a user, a password or a query, which would be stored with the "
            "run: put the key into the environment variable OPENAI_API_KEY, and give the address up to /v1"
        )
    if not url.startswith(("http://", "https://")) or not host or any(letter.isspace() for letter in url):
        raise UserError(f"the VLM server's address is {url!r}; it begins with http:// or https:// and names a host")
    if parts.path.rstrip("/").endswith("/chat/completions"):
        raise UserError(f"the VLM server's address is {url!r}: leave /chat/completions out, which is added to it")


def is_own_machine(url: str) -> bool:
    """Whether the server is on this machine, where no proxy leads to."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")

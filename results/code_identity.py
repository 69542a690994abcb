"""The code that made a run, as its provenance records it; records without it give empty answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Record = Mapping[str, Any]

DIGITS = 12  # shown of a hash, which has 64


def project_code(environment: Record) -> str:
    """The project in words.

    Args:
        environment: `environment` of a provenance record.

    Returns:
        Such as `covr-bench 0.1.0, commit 5759ad9... with uncommitted changes`; of an installed package without a
        commit `covr-bench 0.1.0, content 1f2e3d4c5b6a`; else `commit unknown`.
    """
    version = f"covr-bench {environment.get('version') or 'of unknown version'}"
    if commit := environment.get("git_sha"):
        dirty = " with uncommitted changes" if environment.get("git_dirty") else ""
        return f"{version}, commit {commit}{dirty}"
    content = content_hash(environment)
    return f"{version}, content {content}" if content else f"{version}, commit unknown"


def content_hash(environment: Record) -> str:
    """First digits of the hash of the installed package; empty if a commit names the code, or nothing is recorded."""
    return "" if environment.get("git_sha") else _shown(environment.get("content_sha256"))


def code_of(record: Record) -> dict[str, str]:
    """Hashes of the code that a run was last trained with, by what it is the code of: agent, suite, base, vlm."""
    sessions = [session["code"] for session in record.get("sessions") or () if session.get("code")]
    return dict(sessions[-1] if sessions else (record.get("config") or {}).get("code") or {})


def is_changed(before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """Whether hashes of code differ; what was not hashed yet by an earlier version counts as the same."""
    return any(before.get(what, code) != code for what, code in now.items())


def is_mixed(codes: Sequence[Mapping[str, str]]) -> bool:
    """Whether any two of several runs' hashes differ, as `is_changed` has it."""
    return any(is_changed(one, other) for one in codes for other in codes if one and other)


def agent_code(record: Record) -> str:
    """First digits of the hash of the agent's source; empty if not recorded."""
    return _shown(code_of(record).get("agent"))


def suite_code(record: Record) -> str:
    """First digits of the hash of a suite's file; empty for a suite of the project, or if not recorded."""
    return _shown(code_of(record).get("suite"))


def own_code(record: Record) -> str:
    """Agent and suite in words: `agent 1f2e3d4c5b6a, suite 0a1b2c3d4e5f`, or `not recorded`."""
    return _in_words(code_of(record)) or "not recorded"


def code_changes(record: Record) -> list[str]:
    """Changes of code that a session accepted, in order: `agent 1f2e3d4c5b6a to agent 0a1b2c3d4e5f`."""
    accepted = [session.get("accepted_changed_code") for session in record.get("sessions") or ()]
    pairs = [(change.get("from") or {}, change.get("to") or {}) for change in accepted if change]
    return [f"{_in_words(old) or 'unknown'} to {_in_words(new) or 'unknown'}" for old, new in pairs]


def _in_words(code: Record) -> str:
    return ", ".join(f"{name} {_shown(digest)}" for name, digest in code.items() if digest)


def _shown(digest: Any) -> str:
    return str(digest or "")[:DIGITS]

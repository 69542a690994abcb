"""msgpack-rpc as rpclib speaks it, and CARLA's envelope around results.

Request `[0, id, method, [[async], argument...]]`, response `[1, id, error, result]`. The result of a method is
`[[1, value]]`, without a value `[[false]]`, and an error is `[[0, [message]]]`, which the client raises as
RuntimeError(message); the response's own error field would lose the message. Asynchronous requests are answered
as well: the client frees its record of a request when the answer comes.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from suites.carla.server.protocol import wire
from suites.carla.server.protocol.codec import MalformedError, Unpacker, pack
from suites.carla.server.protocol.loop import Connection
from suites.carla.server.protocol.refusal import CallError

_log = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])


class Raw(list[Any]):
    """A result that travels without the envelope."""


class Later:
    """What a method returns when its answer comes later, through `Session.answer`."""


LATER = Later()


class Method:
    """One remote method: its function and the readers of its arguments, from their annotations."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.name = function.__name__
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())[1:]  # the first one is the server
        hints = get_type_hints(function)
        self._names = [parameter.name for parameter in parameters]
        self._required = sum(parameter.default is parameter.empty for parameter in parameters)
        self._readers = [wire.reader(hints[name]) for name in self._names]

    def __call__(self, server: Any, arguments: list[Any]) -> Any:
        if len(arguments) < self._required:
            raise CallError(f"{self.name} takes ({', '.join(self._names)}), but {len(arguments)} were given")
        values = [read(value) for read, value in zip(self._readers, arguments, strict=False)]
        return self._function(server, *values)


class Methods(dict[str, Method]):
    """Remote methods by name."""

    def add(self, function: Function) -> Function:
        """Makes a function `(server, argument...)` callable by its name; arguments are read by their annotations."""
        self[function.__name__] = Method(function)
        return function


def call(methods: Mapping[str, Method], server: Any, name: str, arguments: list[Any]) -> Any:
    """The result, in its envelope, of one call. Never raises: a fault of ours is an error of that call.

    server: the first argument of every method.
    """
    method = methods.get(name)
    if method is None:
        return failure(f"{name[:80]} is not supported by this server")
    try:
        return success(method(server, arguments))
    except CallError as error:
        return failure(str(error))
    except wire.BadArgumentError as error:
        return failure(f"{name}: {error}")
    except Exception as error:
        _log.exception("%s failed", name)
        return failure(f"{name}: internal error ({type(error).__name__}: {error})")


class Session:
    """One client's RPC connection.

    on_call: turns (session, method, arguments) into an enveloped result; on_close: hears that the client is gone.
    message_id: of the request that is being answered.
    """

    def __init__(
        self,
        connection: Connection,
        on_call: Callable[[Session, str, list[Any]], Any],
        on_close: Callable[[Session], None],
    ) -> None:
        self._connection = connection
        self._on_call = on_call
        self._on_close = on_close
        self._unpacker = Unpacker()
        self.message_id = 0
        connection.peer = self

    @property
    def open(self) -> bool:
        return self._connection.open

    def received(self, data: bytes) -> None:
        """Answers each complete request at once: a reply held back is a deadlock for a client with two threads."""
        try:
            messages = self._unpacker.feed(data)
        except MalformedError as error:
            _log.info("a connection was closed: %s", error)
            self._connection.close()
            return
        for message in messages:
            if self.open:
                self._request(message)

    def closed(self) -> None:
        self._on_close(self)

    def _request(self, message: Any) -> None:
        if not isinstance(message, list) or len(message) < 2 or type(message[1]) is not int or message[1] < 0:
            self._connection.close()  # nothing an answer could be matched to
            return
        self.message_id = message[1]
        if len(message) != 4 or message[0] != 0 or type(message[2]) is not str or type(message[3]) is not list:
            self.answer(self.message_id, failure("a request is [0, id, method, arguments]"))
            return
        self.answer(self.message_id, self._on_call(self, message[2], message[3][1:]))

    def answer(self, message_id: int, result: Any) -> None:
        """Sends the enveloped result of a request."""
        if not isinstance(result, Later):
            self._connection.send([pack([1, message_id, None, result])])


def success(value: Any) -> Any:
    """The envelope of a result; None is a method without one."""
    if isinstance(value, (Raw, Later)):
        return value
    return [[False]] if value is None else [[1, value]]


def failure(message: str) -> list[Any]:
    """The envelope of an error."""
    return [[0, [message]]]

"""What the methods need of the server that they belong to."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from suites.carla.server.protocol.rpc import Session
from suites.carla.server.protocol.streams import StreamHub
from suites.carla.server.protocol.versions import Version
from suites.carla.server.protocol.wire import EpisodeSettings
from suites.carla.server.recording import Recorder
from suites.carla.server.replay import Replayer, Settings
from suites.carla.server.world import World


class Manager(NamedTuple):
    """A client's Traffic Manager: where it listens, and the connection of its client."""

    host: str
    port: int
    owner: Session


class Server(Protocol):
    """The first argument of every method.

    version: release of the clients. session: of the client whose request is being answered; None outside of requests.
    managers: the running Traffic Managers by port. walker_navigation: whether clients are given the mesh that their
    walkers' controllers walk on. recorder, replayer: while the world is recorded, or a recording is played.
    """

    version: Version
    world: World
    hub: StreamHub
    session: Session | None
    managers: dict[int, Manager]
    walker_navigation: bool
    recorder: Recorder | None
    replayer: Replayer | None
    replay_settings: Settings

    @property
    def settings(self) -> EpisodeSettings: ...

    def answered_settings(self) -> None:
        """Notes that a client has read the settings."""

    def request_tick(self, session: Session | None, message_id: int = 0) -> None:
        """Answers with the frame of the next tick: soon, when every client is ready for it, or the next that is due."""

"""The server: clients on one side, the world on the other, and the clock between them."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from suites.carla.server import pictures
from suites.carla.server.api import METHODS
from suites.carla.server.api.server import Manager
from suites.carla.server.protocol.loop import Connection, Listener, Loop
from suites.carla.server.protocol.rpc import Session, call, failure, success
from suites.carla.server.protocol.streams import WORLD_STREAM, Part, StreamHub, StreamSession, header
from suites.carla.server.protocol.versions import Version
from suites.carla.server.protocol.wire import EpisodeSettings, Transform
from suites.carla.server.recording import Recorder
from suites.carla.server.replay import Replayer, Settings
from suites.carla.server.sensors import Camera, Sensor
from suites.carla.server.world import World

_log = logging.getLogger(__name__)
MAX_PORT = 65535
FREE_RUNNING = 1.0 / 30.0  # seconds between ticks in asynchronous mode without a fixed step
LONGEST = 0.1  # seconds of a tick of variable length
# The client's Traffic Manager may sleep for ever when a tick comes just as it goes to sleep, which it does right
# after it read the settings; the odds fall when the tick waits this long (seconds). One in asynchronous mode never
# sleeps and reads them all the time: what is read once a tick has waited so long counts no more.
MANAGER_PAUSE = 0.002
CONGESTION = 5.0  # seconds after which a client that does not read is disconnected


class Wish(NamedTuple):
    """A client waits for a tick. session: of the client that is answered, if any; since: when it asked."""

    session: Session | None
    message_id: int
    since: float


class Service:
    """One server: what `api.server.Server` asks for, and the loop around it."""

    def __init__(
        self,
        version: Version,
        map_name: str,
        host: str,
        port: int,
        walker_navigation: bool = True,
        towns: bool = False,
    ) -> None:
        self.walker_navigation = walker_navigation
        self.version = version
        self.loop = Loop()
        self.hub = StreamHub(self.loop, host, self._subscribed, port + 1 if 0 < port < MAX_PORT else 0)
        self.world = World(version, map_name, self.hub.token, towns)
        self.session: Session | None = None
        self.managers: dict[int, Manager] = {}
        self.recorder: Recorder | None = None
        self.replayer: Replayer | None = None
        self.replay_settings = Settings()
        self._settings_read = 0.0  # when a client last asked for the settings
        self._sessions: set[Session] = set()
        self._wishes: deque[Wish] = deque()
        self._last_tick = time.monotonic()
        self._congested_since: float | None = None
        self._listener = Listener(self.loop, host, port, self._accept)
        self.port = self._listener.port

    def _accept(self, connection: Connection) -> None:
        self._sessions.add(Session(connection, self._call, self._session_closed))

    def _call(self, session: Session, name: str, arguments: list[Any]) -> Any:
        self.session = session
        return call(METHODS, self, name, arguments)

    def _session_closed(self, session: Session) -> None:
        """Forgets a client that is gone, with its Traffic Managers."""
        self._sessions.discard(session)
        self.managers = {port: entry for port, entry in self.managers.items() if entry.owner is not session}

    def _subscribed(self, stream: StreamSession) -> None:
        if stream.stream == WORLD_STREAM:  # a client in synchronous mode would otherwise see no state before a tick
            payload = self._snapshot()
            stream.connection.send([len(payload).to_bytes(4, "little"), payload])

    def _snapshot(self) -> bytes:
        world = self.world
        return header(self.version.world_observer, world.frame, world.time, Transform()) + world.snapshot()

    @property
    def settings(self) -> EpisodeSettings:
        return self.world.settings

    def answered_settings(self) -> None:
        """Notes that a client has read the settings."""
        self._settings_read = time.monotonic()

    def request_tick(self, session: Session | None, message_id: int = 0) -> None:
        """Answers with the frame of the next tick: soon, when every client is ready for it, or the next that is due."""
        self._wishes.append(Wish(session, message_id, time.monotonic()))
        self._tick_as_wished()

    def run(self) -> None:
        """Serves until interrupted."""
        while True:
            self.step(None)

    def step(self, patience: float | None) -> None:
        """Serves what is due next, waiting at most `patience` seconds for it; None waits for ever."""
        pause = self._pause()
        self.loop.run_once(min((seconds for seconds in (pause, patience) if seconds is not None), default=None))
        if self.settings.synchronous:
            self._tick_as_wished()
        elif self._sessions and self._until_free_tick() <= 0.0:
            wishes, self._wishes = self._wishes, deque()
            self._tick(*wishes)

    def _pause(self) -> float | None:
        """Seconds until something is due even if no client sends anything; None for never."""
        if not self.settings.synchronous:
            return max(0.0, self._until_free_tick()) if self._sessions else None
        return self._hold() if self._wishes else None

    def _until_free_tick(self) -> float:
        period = self.settings.fixed_delta or FREE_RUNNING
        return self._last_tick + (min(period, FREE_RUNNING) if self._wishes else period) - time.monotonic()

    def _hold(self) -> float:
        """Seconds that a tick has to wait for clients that subscribe, fell behind, or run a Traffic Manager."""
        wait = self.hub.ready_in()
        if self.managers:
            asked = max(self._wishes[0].since, self._last_tick)
            wait = max(wait, min(self._settings_read, asked + MANAGER_PAUSE) + MANAGER_PAUSE - time.monotonic())
        behind = self.hub.congested()
        if not behind:
            self._congested_since = None
        else:
            now = time.monotonic()
            self._congested_since = self._congested_since or now
            if now - self._congested_since > CONGESTION:
                for connection in behind:
                    connection.close()
            else:
                wait = max(wait, 0.01)
        return wait

    def _tick_as_wished(self) -> None:
        while self.settings.synchronous and self._wishes and self._hold() <= 0.0:
            wish = self._wishes.popleft()
            if wish.session is None or wish.session.open:
                self._tick(wish)

    def _tick(self, *wishes: Wish) -> None:
        now = time.monotonic()
        delta = self.settings.fixed_delta or min(LONGEST, max(1e-3, now - self._last_tick))
        self._last_tick = now
        lossy = not self.settings.synchronous
        try:
            self._end_replay()
            self.world.advance(delta)
            if self.replayer:
                self.replayer.advance(self.world, delta, self.hub.new_stream)
            if self.recorder:
                self.recorder.add(self.world)
            self.hub.publish(WORLD_STREAM, [self._snapshot()], lossy)
            answer = success(self.world.frame)
        except Exception as error:  # a fault of ours is an error of this tick, not the end of the server
            _log.exception("frame %d failed", self.world.frame)
            answer = failure(f"internal error in frame {self.world.frame} ({type(error).__name__}: {error})")
        self.world.map_changed = self.world.lamps_changed = False
        for wish in wishes:
            if wish.session:
                wish.session.answer(wish.message_id, answer)
        self._measure(lossy)

    def _end_replay(self) -> None:
        """Ends the recording that is being played after its last moment."""
        if self.replayer and self.replayer.over:
            self.replayer.stop(self.world, keep_actors=True)
            self.replayer = None

    def _measure(self, lossy: bool) -> None:
        world = self.world
        cameras: list[Camera] = []
        for sensor in world.of_kind(Sensor):
            assert sensor.stream is not None
            if not self.hub.wanted(sensor.stream) or not sensor.due(world.time):
                continue
            if isinstance(sensor, Camera):
                cameras.append(sensor)
                continue
            try:
                head = header(sensor.number, world.frame, world.time, sensor.transform(world.bodies))
                for payload in sensor.measure(world):
                    self.hub.publish(sensor.stream, [head, *payload], lossy)
            except Exception:
                _log.exception("%s %d measured nothing in frame %d", sensor.type_id, sensor.id, world.frame)
        if cameras:
            self._photograph(cameras, lossy)

    def _photograph(self, cameras: list[Camera], lossy: bool) -> None:
        world = self.world
        taken: Sequence[NDArray[np.uint8] | None] = [None] * len(cameras)
        if not self.settings.no_rendering:
            try:
                taken = pictures.take(world, cameras)
            except Exception:  # black pictures keep the client from waiting for ever
                _log.exception("frame %d was not drawn", world.frame)
        for camera, pixels in zip(cameras, taken, strict=True):
            assert camera.stream is not None
            head = header(camera.number, world.frame, world.time, camera.transform(world.bodies))
            parts: list[Part] = [head, *camera.message(world, pixels)]
            self.hub.publish(camera.stream, parts, lossy)

    def close(self) -> None:
        """Closes all sockets."""
        self.loop.close()

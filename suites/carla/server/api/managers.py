"""The register of the clients' Traffic Managers; they run in the clients and drive by batches of controls."""

from __future__ import annotations

from suites.carla.server.api.server import Manager, Server
from suites.carla.server.protocol.rpc import Methods
from suites.carla.server.protocol.wire import ManagerAddress

METHODS = Methods()


@METHODS.add
def is_traffic_manager_running(server: Server, port: int) -> bool:
    return port in server.managers


@METHODS.add
def get_traffic_manager_running(server: Server, port: int) -> ManagerAddress:
    manager = server.managers.get(port)
    return ManagerAddress(manager.host, manager.port) if manager else ManagerAddress()


@METHODS.add
def add_traffic_manager_running(server: Server, address: ManagerAddress) -> bool:
    if address.port in server.managers:
        return False
    assert server.session
    server.managers[address.port] = Manager(address.host, address.port, server.session)
    return True


@METHODS.add
def destroy_traffic_manager(server: Server, port: int) -> bool:
    return server.managers.pop(port, None) is not None

"""The register of the clients' Traffic Managers; they run in the clients and drive by batches of controls."""

from __future__ import annotations

from suites.carla.server.rpc import remote
from suites.carla.server.service import Service
from suites.carla.server.wire import ManagerAddress


@remote
def is_traffic_manager_running(service: Service, port: int) -> bool:
    return port in service.managers


@remote
def get_traffic_manager_running(service: Service, port: int) -> ManagerAddress:
    host, number, _ = service.managers.get(port, ("", 0, None))
    return ManagerAddress(host, number)


@remote
def add_traffic_manager_running(service: Service, address: ManagerAddress) -> bool:
    if address.port in service.managers:
        return False
    assert service.session
    service.managers[address.port] = (address.host, address.port, service.session)
    return True


@remote
def destroy_traffic_manager(service: Service, port: int) -> bool:
    return service.managers.pop(port, None) is not None

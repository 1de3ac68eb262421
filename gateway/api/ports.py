"""What the control plane asks of the gateway it belongs to."""

from __future__ import annotations

from typing import Protocol

from prometheus_client import CollectorRegistry

from gateway.config.watch import WatchState
from gateway.described import Description
from gateway.explain.record import Document
from gateway.fleet.added import Added
from gateway.fleet.drains import Drains
from gateway.fleet.registry import Fleet
from gateway.keyring.ring import Keyring
from gateway.table import Table
from gateway.tenancy.keys import Keys
from gateway.tenancy.limits import Limiter


class HasState(Protocol):
    """The configuration's watcher."""

    @property
    def state(self) -> WatchState: ...


class HasRegistry(Protocol):
    """The gateway's metrics."""

    @property
    def registry(self) -> CollectorRegistry: ...


class GatewayPort(Protocol):
    """One gateway process, as far as its control plane is concerned."""

    @property
    def table(self) -> Table:
        """The configuration in effect."""
        ...

    @property
    def keys(self) -> Keys:
        """The API keys that are let in."""
        ...

    @property
    def keyring(self) -> Keyring:
        """Where they come from."""
        ...

    @property
    def limiter(self) -> Limiter: ...

    @property
    def fleet(self) -> Fleet: ...

    @property
    def drains(self) -> Drains: ...

    @property
    def added(self) -> Added:
        """The adapters that were added by the API."""
        ...

    @property
    def watcher(self) -> HasState: ...

    @property
    def metrics(self) -> HasRegistry: ...

    def describe(self, what: Description) -> Document:
        """How a request that is only described would be routed now. Raises `GatewayError` where it names nothing."""
        ...

    @property
    def draining(self) -> bool:
        """Whether it is on its way out."""
        ...

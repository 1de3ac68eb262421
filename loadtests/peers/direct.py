"""No relay at all: the worker itself, which is also how far the load generator reaches."""

from __future__ import annotations

from loadtests.peers.base import Place, Start


class Direct:
    name = "direct"
    streams = 500
    processes = 1

    def install(self) -> None:
        """Nothing to bring."""

    def start(self, place: Place) -> Start | None:
        return None

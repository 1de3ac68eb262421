"""Asks a worker for one real token, or one real embedding: the only proof that it serves. The one importer of HTTP."""

from __future__ import annotations

import asyncio

import httpx2 as httpx

from workers.engines.spec import LaunchSpec

ASK_EVERY = 0.5
HEALTH_WITHIN = 5.0
INFERENCE_WITHIN = 60.0  # the first one may still compile kernels
SHOWN = 200


class Asking:
    """Asks until there is an answer; `last` says how the latest try went."""

    def __init__(self, client: httpx.AsyncClient, spec: LaunchSpec, every: float = ASK_EVERY) -> None:
        self._client = client
        self._spec = spec
        self._every = every
        self.last = "it was not asked yet"

    async def until_answered(self) -> None:
        """Returns once an inference came back. Never gives up: the caller bounds it."""
        while True:
            self.last = await self._ask()
            if not self.last:
                return
            await asyncio.sleep(self._every)

    async def _ask(self) -> str:
        """An empty string when the worker answered, otherwise what happened instead."""
        url, inference = self._spec.url, self._spec.inference
        try:
            health = await self._client.get(url + self._spec.health_path, timeout=HEALTH_WITHIN)
            if health.status_code != 200:
                return f"{self._spec.health_path} answered {health.status_code}"
            answer = await self._client.post(url + inference.path, json=dict(inference.body), timeout=INFERENCE_WITHIN)
        except httpx.TransportError as error:
            return str(error) or type(error).__name__
        if answer.status_code != 200:
            return f"{inference.path} answered {answer.status_code}: {answer.text[:SHOWN]}"
        return ""


def client() -> httpx.AsyncClient:
    """For workers on this machine, so no proxy that the environment names may come between."""
    return httpx.AsyncClient(trust_env=False)

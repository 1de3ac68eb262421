"""The YAML as it is written: strict pydantic models, one file for each file of `router_config/`.

`Configuration` is the whole of it. Nothing here looks beyond one mapping; what must hold between them is `lint`'s.
"""

from gateway.config.written.fleet import Fleet
from gateway.config.written.gateway import Gateway
from gateway.config.written.models import Models
from gateway.config.written.routes import Routes
from gateway.config.written.tenants import Tenants


class Configuration(Gateway, Models, Fleet, Routes, Tenants):
    """Every top-level key. They may stand in any *.yaml file of the directory."""


__all__ = ["Configuration"]

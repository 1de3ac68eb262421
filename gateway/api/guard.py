"""Who may use the admin API."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request

from gateway.api.ports import GatewayPort
from gateway.errors import Forbidden
from gateway.tenancy.keys import authenticate_admin

NO_ADMIN_KEY = (
    "This gateway has no admin key, so its admin API is closed. Put the SHA-256 of one into gateway.yaml: "
    "`admin: {keys: [{id: ops, sha256: …}]}`; `printf %s YOUR_KEY | sha256sum` prints it."
)


def admin_only(gateway: GatewayPort) -> Callable[[Request], None]:
    """A dependency that lets only an admin key of the configuration in effect pass."""

    def check(request: Request) -> None:
        digests = gateway.table.settings.admin_key_digests
        if not digests:
            raise Forbidden(NO_ADMIN_KEY, code="admin_api_closed")
        authenticate_admin(request.scope["headers"], digests)

    return check

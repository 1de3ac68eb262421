"""The control plane: everything that is not relayed to a worker. FastAPI; the data plane never passes through it.

control_plane   the application, put together        ports     what it asks of the gateway
health          /healthz, /readyz                    metrics   /metrics
models          /v1/models                           admin     /admin/v1
keys            /admin/v1/keys                       limits    /admin/v1/limits
docs            /docs                                openapi   the description, the data plane's paths included
errors          every failure in OpenAI's shape      asgi      request ids, HEAD and OPTIONS
"""

from gateway.api.control_plane import create_control_plane

__all__ = ["create_control_plane"]

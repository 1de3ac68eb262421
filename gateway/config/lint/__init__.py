"""What must hold between the entries of a configuration. One file for each file of `router_config/`.

Every check reports into `draft.source.findings`; none stops at its first find.
"""

from __future__ import annotations

from gateway.config.draft import Draft
from gateway.config.lint.fleet import lint_fleet
from gateway.config.lint.gateway import lint_gateway
from gateway.config.lint.models import lint_models
from gateway.config.lint.pending import lint_pending
from gateway.config.lint.routes import lint_routes
from gateway.config.lint.tenants import lint_tenants
from gateway.config.references import References


def lint(draft: Draft) -> None:
    references = References(draft)
    lint_gateway(draft)
    lint_models(draft, references)
    lint_fleet(draft, references)
    lint_routes(draft, references)
    lint_tenants(draft, references)
    lint_pending(draft)

"""The table of endpoints holds together."""

from __future__ import annotations

import pytest

from gateway.protocol.endpoints import ENDPOINTS, Endpoint

every = pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=lambda endpoint: endpoint.name)


def test_names_and_paths_are_unique() -> None:
    assert len({endpoint.name for endpoint in ENDPOINTS.values()}) == len(ENDPOINTS)
    assert all(path == endpoint.path for path, endpoint in ENDPOINTS.items())


@every
def test_a_stream_has_an_end_that_its_triggers_announce(endpoint: Endpoint) -> None:
    assert (b"[DONE]" in endpoint.terminal) == endpoint.streams
    assert all(kind.encode() in endpoint.terminal for kind in endpoint.terminal_types)


@every
def test_only_streams_report_usage_on_request(endpoint: Endpoint) -> None:
    assert endpoint.streams or not endpoint.usage_on_request


@every
def test_what_is_generated_is_not_deterministic_by_itself(endpoint: Endpoint) -> None:
    assert not (endpoint.deterministic and endpoint.task == "generate")

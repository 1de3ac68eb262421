"""Whatever goes wrong in the control plane has OpenAI's shape and a request id."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from gateway.protocol.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from tests.unit.gateway.api.conftest import Plane


def error_of(answer: httpx2.Response) -> dict[str, str | None]:
    document = answer.json()
    assert set(document) == {"error"}
    assert set(document["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    return document["error"]


def test_an_unknown_path_is_told_in_openais_words(plane: Plane) -> None:
    answer = plane.ask("/v1/x")
    assert answer.status_code == 404
    assert answer.headers["x-should-retry"] == "false"
    assert error_of(answer) == {
        "message": "Unknown request URL: GET /v1/x. Please check the URL for typos, or see the docs at /docs.",
        "type": "invalid_request_error",
        "param": None,
        "code": "unknown_url",
    }


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v2/models", "/v1/models/../x", "/redoc", "/console/x", "/%00%ff"]
)
def test_other_unknown_paths(plane: Plane, path: str) -> None:
    answer = plane.ask(path)
    assert answer.status_code == 404
    error_of(answer)


def test_a_long_path_is_not_repeated_in_full(plane: Plane) -> None:
    assert len(str(error_of(plane.ask("/v1/" + "x" * 10_000))["message"])) < 1_000


@pytest.mark.parametrize("path", sorted(ENDPOINTS))
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_the_data_planes_paths_take_post(plane: Plane, path: str, method: str) -> None:
    answer = plane.ask(path, method)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, OPTIONS"
    error = error_of(answer)
    assert error["code"] == "method_not_supported"
    assert str(error["message"]).startswith(f"Not allowed to {method} on {path}.")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/chat-8b", "/healthz", "/readyz", "/metrics", "/docs"])
def test_the_control_planes_paths_take_get(plane: Plane, path: str) -> None:
    answer = plane.ask(path, "POST")
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    error_of(answer)


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/docs", "/nowhere"])
def test_head_is_get_without_a_body(plane: Plane, path: str) -> None:
    get, head = plane.ask(path, key="sk-everyone"), plane.ask(path, "HEAD", key="sk-everyone")
    assert head.status_code == get.status_code
    assert head.headers["content-length"] == get.headers["content-length"]
    assert head.content == b""


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v1/models", "GET, HEAD, OPTIONS"),
        ("/v1/models/chat-8b", "GET, HEAD, OPTIONS"),
        ("/v1/chat/completions", "OPTIONS, POST"),
        ("/admin/v1/workers/w/drain", "OPTIONS, POST"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_says_what_a_path_takes(plane: Plane, path: str, allow: str) -> None:
    answer = plane.ask(path, "OPTIONS")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allow, b"")
    assert answer.headers["x-request-id"]


def test_options_of_nothing_is_404(plane: Plane) -> None:
    answer = plane.ask("/nowhere", "OPTIONS")
    assert answer.status_code == 404
    error_of(answer)


def test_a_fault_of_ours_is_a_500_with_an_id_and_no_detail(plane: Plane) -> None:
    @plane.app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret detail")

    answer = plane.ask("/broken")
    assert answer.status_code == 500
    error = error_of(answer)
    assert (error["code"], error["type"]) == ("internal_error", "server_error")
    assert answer.headers["x-request-id"] in str(error["message"])
    assert "secret" not in answer.text


def test_a_parameter_of_the_wrong_kind_is_a_400_that_names_it(plane: Plane) -> None:
    @plane.app.get("/typed")
    async def typed(limit: int) -> int:
        return limit

    answer = plane.ask("/typed?limit=many")
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["param"], error["code"]) == ("limit", "invalid_request")


def test_every_request_has_an_id_of_its_own(plane: Plane) -> None:
    given = {"x-request-id": "client-chosen"}
    seen = {plane.ask("/healthz", **given).headers["x-request-id"] for _ in range(10)}
    assert len(seen) == 10
    assert "client-chosen" not in seen

"""The description covers both planes, and the page shows all of it without asking anyone else for anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from gateway.api.docs import page
from gateway.protocol.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from tests.unit.gateway.api.conftest import Plane


def document(plane: Plane) -> dict[str, Any]:
    answer = plane.ask("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_every_endpoint_of_the_data_plane_is_described(plane: Plane) -> None:
    paths = document(plane)["paths"]
    for path, endpoint in ENDPOINTS.items():
        operation = paths[path]["post"]
        assert operation["summary"]
        assert ("multipart/form-data" in operation["requestBody"]["content"]) == (endpoint.body == "multipart")
        assert ("text/event-stream" in operation["responses"]["200"]["content"]) == endpoint.streams


def test_the_control_plane_is_described(plane: Plane) -> None:
    paths = document(plane)["paths"]
    expected = {"/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/{model}", "/admin/v1/workers/{name}/drain"}
    assert expected <= set(paths)


def test_every_reference_leads_somewhere(plane: Plane) -> None:
    described = document(plane)
    references = set(re.findall(r'"\$ref":\s*"([^"]+)"', plane.ask("/openapi.json").text))
    assert references
    for reference in references:
        place = described
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_no_answer_is_described_that_is_never_given(plane: Plane) -> None:
    for operations in document(plane)["paths"].values():
        for operation in operations.values():
            assert "422" not in operation["responses"]


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_loads_nothing_and_shows_every_path(plane: Plane) -> None:
    answer = plane.ask("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    read = Page()
    read.feed(answer.text)
    assert not [tag for tag, _ in read.tags if tag in ("script", "link", "img", "iframe")]
    assert not [attrs for _, attrs in read.tags if "src" in attrs]
    assert "url(" not in answer.text
    assert all(f"<code>{path}</code>" in answer.text for path in document(plane)["paths"])


def test_what_the_description_says_cannot_become_markup(plane: Plane) -> None:
    described = document(plane)
    described["info"]["description"] = "<script>alert(1)</script> `<b>`"
    assert "<script>" not in page(described)
    assert "<code>&lt;b&gt;</code>" in page(described)

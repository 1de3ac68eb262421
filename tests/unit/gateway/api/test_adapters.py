"""/admin/v1/adapters: what is shown, what is taken and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.routing.placement import Shelf
from tests.adapter_files import write_adapter
from tests.unit.gateway.api.conftest import ADMIN_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.gateway.api.conftest import Plane

PATH = "/admin/v1/adapters"


@pytest.fixture
def open_plane(plane_with_ledger: Callable[[str], Plane], tmp_path: Path) -> Plane:
    """One that takes adapters beneath `tmp_path/adapters`, where a whole one lies."""
    plane = plane_with_ledger(f"sqlite:///{tmp_path}/ledger.db")
    write_adapter(tmp_path / "adapters" / "new")
    table = plane.added.written
    plane.added.written = replace(
        table, settings=replace(table.settings, adapter_directories=(str(tmp_path / "adapters"),))
    )
    plane.join()
    return plane


def add(plane: Plane, tmp_path: Path, status: int = 201, **changes: Any) -> Any:
    body = {"model": "chat-8b", "name": "new", "path": str(tmp_path / "adapters" / "new"), **changes}
    answer = plane.ask(PATH, "POST", ADMIN_KEY, json=body)
    assert answer.status_code == status, answer.text
    return answer.json() if status < 300 else answer.json()["error"]


def remove(plane: Plane, name: str) -> Any:
    answer = plane.ask(f"{PATH}/{name}", "DELETE", ADMIN_KEY)
    return answer.status_code, answer.json()


def listed(plane: Plane, key: str) -> set[str]:
    return {card["id"] for card in plane.ask("/v1/models", key=key).json()["data"]}


def test_it_is_for_admins_only(plane: Plane) -> None:
    for method, path in (("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/chat-8b/support")):
        assert plane.ask(path, method).status_code == 401
        assert plane.ask(path, method, "sk-everyone").status_code == 401


def test_those_of_the_yaml_are_shown(plane: Plane) -> None:
    shown = {row["id"]: row for row in plane.admin("/adapters")["adapters"]}
    assert shown.keys() == {"chat-8b:support", "chat-8b:open"}
    support = shown["chat-8b:support"]
    assert (support["source"], support["path"], support["tenants"]) == ("yaml", "adapters/support-v3", ["support"])
    assert plane.admin("/adapters?model=embed")["adapters"] == []


def test_none_is_taken_until_a_directory_is_allowed(plane: Plane, tmp_path: Path) -> None:
    error = add(plane, tmp_path, 403)
    assert error["code"] == "adapter_directories_closed"
    assert "adapters: {directories: [/srv/adapters]}" in error["message"]


def test_one_is_added_listed_for_whom_it_is_and_removed(open_plane: Plane, tmp_path: Path) -> None:
    made = add(open_plane, tmp_path, tenants=["premium"], version="v3")
    assert (made["id"], made["source"], made["in_effect"]) == ("chat-8b:new", "api", True)
    assert (made["tenants"], made["version"], made["workers"]) == (["premium"], "v3", [])
    assert "chat-8b:new" in listed(open_plane, "sk-premium")
    assert "chat-8b:new" not in listed(open_plane, "sk-everyone")
    assert made in open_plane.admin("/adapters")["adapters"]
    assert remove(open_plane, "chat-8b/new")[0] == 200
    assert "chat-8b:new" not in listed(open_plane, "sk-premium")
    status, answer = remove(open_plane, "chat-8b/new")
    assert (status, answer["error"]["code"]) == (404, "adapter_not_found")


def test_the_same_again_is_well_and_another_is_refused(open_plane: Plane, tmp_path: Path) -> None:
    made = add(open_plane, tmp_path)
    assert add(open_plane, tmp_path, 200) == made
    (tmp_path / "adapters" / "link").symlink_to(tmp_path / "adapters" / "new")
    assert add(open_plane, tmp_path, 200, path=str(tmp_path / "adapters" / "link")) == made
    error = add(open_plane, tmp_path, 409, version="v2")
    assert error["code"] == "adapter_exists"
    assert "DELETE /admin/v1/adapters/chat-8b/new" in error["message"]
    assert made in open_plane.admin("/adapters")["adapters"]


def test_what_the_yaml_has_is_changed_there(open_plane: Plane, tmp_path: Path) -> None:
    error = add(open_plane, tmp_path, 409, name="support")
    assert error["code"] == "adapter_in_yaml"
    assert "models.chat-8b.adapters.support" in error["message"]
    status, answer = remove(open_plane, "chat-8b/support")
    assert (status, answer["error"]["code"]) == (409, "adapter_in_yaml")
    table = open_plane.added.written
    open_plane.added.written = replace(table, aliases={**table.aliases, "chat-8b:new": "chat-8b"})
    assert "alias" in add(open_plane, tmp_path, 409)["message"]


def test_one_that_the_yaml_hides_says_so_and_can_be_removed(open_plane: Plane, tmp_path: Path) -> None:
    add(open_plane, tmp_path)
    table = open_plane.added.written
    model = table.models["chat-8b"]
    hiding = replace(model, adapters={**model.adapters, "new": replace(model.adapters["open"], name="new")})
    open_plane.added.written = replace(table, models={**table.models, "chat-8b": hiding})
    open_plane.join()
    shown = [row for row in open_plane.admin("/adapters")["adapters"] if row["name"] == "new"]
    assert [(row["source"], row["in_effect"]) for row in shown] == [("yaml", True), ("api", False)]
    assert "the YAML has" in shown[1]["why"]
    assert remove(open_plane, "chat-8b/new")[0] == 200
    assert remove(open_plane, "chat-8b/new")[0] == 409


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({"model": "chat-9b"}, 404, "did you mean `chat-8b`"),
        ({"tenants": ["suport"]}, 404, "did you mean `support`"),
        ({"tenants": []}, 400, "tenants"),
        ({"name": "../x"}, 400, "name"),
        ({"version": "a b"}, 400, "version"),
        ({"path": "adapters/new"}, 400, "absolute"),
        ({"path": "/etc"}, 400, "beneath"),
        ({"path": "/srv\0"}, 400, "printable"),
        ({"path": 7}, 400, "path"),
        ({"rank": 4}, 400, "rank"),
    ],
)
def test_what_makes_no_sense_is_refused(
    open_plane: Plane, tmp_path: Path, changes: dict[str, Any], status: int, says: str
) -> None:
    before = open_plane.admin("/adapters")
    assert says in add(open_plane, tmp_path, status, **changes)["message"]
    assert open_plane.admin("/adapters") == before


def test_broken_files_are_refused_with_what_is_wrong_and_change_nothing(open_plane: Plane, tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "adapters" / "bad", r=0)
    before = open_plane.table
    error = add(open_plane, tmp_path, 400, path=str(path))
    assert (error["code"], error["param"]) == ("adapter_refused", "path")
    assert "`r`" in error["message"]
    (path / "adapter_model.bin").write_bytes(b"\x80\x04.")
    assert "pickle" in add(open_plane, tmp_path, 400, path=str(path))["message"]
    assert open_plane.table is before
    assert not (tmp_path / "adapters.json").exists()


def test_a_store_that_is_away_is_said(open_plane: Plane, tmp_path: Path) -> None:
    (tmp_path / "adapters.json").mkdir()
    error = add(open_plane, tmp_path, 503)
    assert "Nothing was changed" in error["message"]
    assert open_plane.admin("/adapters")["store"]["up"] is False


def test_where_it_is_loaded_and_where_that_failed(plane: Plane) -> None:
    backends = {backend.worker.name: backend for backend in plane.fleet.backends()}
    first, second = backends["chat-fp8-0"].shelf, backends["chat-int4-0"].shelf
    assert isinstance(first, Shelf)
    assert isinstance(second, Shelf)
    first.adopt({}, {"chat-8b:open@v1": "open"}, 0.0)
    first.begin("chat-8b:open@v2", "open", 0.0)
    second.failed("chat-8b:open@v2", "open", "it is broken", 0.0)
    backends["chat-int4-0"].adapters = {"support": "support"}
    shown = {row["name"]: row for row in plane.admin("/adapters")["adapters"]}
    assert shown["open"]["workers"] == [
        {"worker": "chat-fp8-0", "serves": "chat-8b:open@v1", "state": "held"},
        {"worker": "chat-fp8-0", "serves": "chat-8b:open@v2", "state": "moving"},
    ]
    (failure,) = shown["open"]["failures"]
    assert (failure["worker"], failure["why"]) == ("chat-int4-0", "it is broken")
    assert shown["support"]["workers"] == [{"worker": "chat-int4-0", "serves": "support", "state": "fixed"}]


def test_a_model_with_a_slash_in_its_name(open_plane: Plane, tmp_path: Path) -> None:
    table = open_plane.added.written
    open_plane.added.written = replace(
        table, models={**table.models, "org/chat": replace(table.models["unserved"], name="org/chat")}
    )
    open_plane.join()
    add(open_plane, tmp_path, model="org/chat")
    assert remove(open_plane, "org/chat/new")[0] == 200

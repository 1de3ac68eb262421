"""The workers behind addresses: what they are called, and who is there twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.written.base import NAME
from gateway.fleet.expansion import MOST_WARNINGS, Behind, Expansion, expand
from gateway.table import Worker, configured

if TYPE_CHECKING:
    from tests.unit.gateway.fleet.conftest import Kit

DNS = "dns+http://chat.svc:8000"
FILE = "file:///a.yaml"


def among(*workers: Worker, **found: list[str]) -> Expansion:
    configured = {worker.name: worker for worker in workers}
    return expand(configured, {name: Behind(configured[name].url, urls) for name, urls in found.items()})


def urls(expansion: Expansion) -> dict[str, str]:
    assert all(worker.name == name for name, worker in expansion.workers.items())
    return {name: worker.url for name, worker in expansion.workers.items()}


@pytest.mark.parametrize(
    ("address", "url", "name"),
    [
        (DNS, "http://10.0.0.5:8000", "chat-10.0.0.5"),
        (DNS, "http://[fd00::1]:8000", "chat-fd00-1"),
        (FILE, "http://10.0.0.5:8000", "chat-10.0.0.5-8000"),
        (FILE, "https://gpu-1.lan:8000/v1", "chat-gpu-1.lan-8000-v1"),
    ],
)
def test_one_that_is_found_is_named_after_its_address(kit: Kit, address: str, url: str, name: str) -> None:
    expansion = among(kit.worker("chat", url=address, max_inflight=7), chat=[url])
    assert (urls(expansion), expansion.warnings) == ({name: url}, {"chat": ()})
    assert expansion.workers[name].max_inflight == 7
    assert re.fullmatch(NAME, name)
    assert configured(name, ["ch", "chat", "other"]) == "chat"


def test_those_kept_are_called_as_they_were(kit: Kit) -> None:
    chat = kit.worker("chat", url="file:///b.yaml")
    expansion = expand({"chat": chat}, {"chat": Behind(DNS, ["http://10.0.0.5:8000"])})
    assert urls(expansion) == {"chat-10.0.0.5": "http://10.0.0.5:8000"}


def test_two_of_one_list_that_would_have_one_name_both_stay(kit: Kit) -> None:
    expansion = among(kit.worker("chat", url=FILE), chat=["http://h:1/a-b", "http://h:1/a/b"])
    plain, other = urls(expansion).items()
    assert plain == ("chat-h-1-a-b", "http://h:1/a-b")
    assert other[1] == "http://h:1/a/b"
    assert re.fullmatch("chat-h-1-a-b-[0-9a-f]{8}", other[0])
    (warning,) = expansion.warnings["chat"]
    assert f"`{other[0]}`: another worker is `chat-h-1-a-b`" in warning
    assert urls(among(kit.worker("chat", url=FILE), chat=["http://h:1/a-b", "http://h:1/a/b"])) == urls(expansion)


def test_one_that_is_configured_keeps_its_name_wherever_it_stands(kit: Kit) -> None:
    chat, own = kit.worker("chat", url=DNS), kit.worker("chat-10.0.0.5", url="http://127.0.0.9:1")
    for workers in ([chat, own], [own, chat]):
        expansion = among(*workers, chat=["http://10.0.0.5:8000"])
        assert urls(expansion)["chat-10.0.0.5"] == "http://127.0.0.9:1"
        assert sorted(urls(expansion).values()) == ["http://10.0.0.5:8000", "http://127.0.0.9:1"]
        assert len(expansion.warnings["chat"]) == 1


def test_one_found_twice_is_one_worker(kit: Kit) -> None:
    first, second = kit.worker("a", url=DNS), kit.worker("b", url=FILE)
    static = kit.worker("own", url="http://10.0.0.7:8000/")
    listed = ["http://10.0.0.5:8000", "http://10.0.0.6:8000", "http://10.0.0.7:8000"]
    expansion = among(first, second, static, a=listed[:1], b=listed)
    assert urls(expansion) == {
        "a-10.0.0.5": "http://10.0.0.5:8000",
        "b-10.0.0.6-8000": "http://10.0.0.6:8000",
        "own": "http://10.0.0.7:8000/",
    }
    assert expansion.warnings == {
        "a": (),
        "b": (
            "http://10.0.0.5:8000 is the worker `a-10.0.0.5` already, and is one worker",
            "http://10.0.0.7:8000 is the worker `own` already, and is one worker",
        ),
    }


def test_an_engine_that_serves_two_versions_is_a_worker_for_each(kit: Kit) -> None:
    one, other = kit.worker("a", url=DNS), kit.worker("b", url=DNS, version="other")
    expansion = among(one, other, a=["http://10.0.0.5:8000"], b=["http://10.0.0.5:8000"])
    assert (len(expansion.workers), expansion.warnings) == (2, {"a": (), "b": ()})


def test_there_are_only_so_many_warnings(kit: Kit) -> None:
    listed = [f"http://10.0.0.{number}:1" for number in range(MOST_WARNINGS + 5)]
    warnings = among(kit.worker("a", url=FILE), kit.worker("b", url=FILE), a=listed, b=listed).warnings["b"]
    assert (len(warnings), warnings[-1]) == (MOST_WARNINGS + 1, "and 5 more")


@given(
    st.lists(
        st.sampled_from(["http://", "https://"]).flatmap(
            lambda scheme: st.text("ab-/.", min_size=1).map(lambda rest: scheme + rest.rstrip("/"))
        ),
        unique=True,
        max_size=20,
    )
)
def test_nobody_is_lost(listed: list[str]) -> None:
    chat = Worker("chat", FILE, "vllm", "chat", "fp8", None, 1, 4, None, None, None, None)
    found = urls(among(chat, chat=listed))
    assert sorted(found.values()) == sorted(listed)

"""Model access: the table of the module's docstring row by row, and its rules as properties."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Forbidden
from gateway.table import Adapter, Candidate, Key, Limits, Model, Tenant
from gateway.tenancy.access import forbidden, may_use, require_endpoint
from tests.unit.gateway.routing.tables import route

FENCED = Adapter(name="support", path="adapters/support", tenants=frozenset({"support"}))
OPEN = Adapter(name="open", path="adapters/open", tenants=None)


def model(name):
    return Model(name=name, context=8192, task="generate", versions={}, traffic=(), adapters={})


def some(names):
    return None if names is None else frozenset(names)


def key(models, name="support", own=None, endpoints=None):
    """A key with a list of its `own`, of a tenant with a list of `models`."""
    tenant = Tenant(name=name, models=some(models), limits=Limits(), budget=None, weight=1.0, tier="standard")
    return Key(id="prod", digest=b"", tenant=tenant, models=some(own), endpoints=some(endpoints))


@pytest.mark.parametrize(
    ("listed", "asked", "leads_to", "adapter", "allowed"),
    [
        (None, "chat-8b", "chat-8b", None, True),
        (None, "auto", "big", None, True),
        (None, "chat-8b:open", "chat-8b", OPEN, True),
        (None, "chat-8b:support", "chat-8b", FENCED, True),
        (["chat-8b"], "chat-8b", "chat-8b", None, True),
        (["chat-8b"], "chat-8b@int4", "chat-8b", None, True),
        (["chat-8b"], "gpt-4o-mini", "chat-8b", None, True),
        (["chat-8b"], "big", "big", None, False),
        (["chat-8b"], "chat-8b:support", "chat-8b", FENCED, False),
        (["chat-8b:support"], "helpdesk", "chat-8b", FENCED, True),
        (["chat-8b:support"], "chat-8b:support", "chat-8b", FENCED, True),
        (["chat-8b:support"], "chat-8b", "chat-8b", None, False),
        (["chat-8b:support"], "chat-8b:open", "chat-8b", OPEN, False),
        (["chat-8b@int4"], "chat-8b@int4", "chat-8b", None, True),
        (["chat-8b@int4"], "chat-8b", "chat-8b", None, False),
        (["chat-8b@int4"], "chat-8b@fp8", "chat-8b", None, False),
        (["auto"], "auto", "big", None, True),
        (["auto"], "auto", "chat-8b", FENCED, True),
        (["chat-8b"], "auto", "chat-8b", None, True),
        (["chat-8b"], "auto", "big", None, False),
        ([], "chat-8b", "chat-8b", None, False),
    ],
)
def test_the_documented_table(listed, asked, leads_to, adapter, allowed):
    """It holds for the tenant's list and for the key's."""
    assert may_use(key(listed), model(leads_to), adapter, asked) is allowed
    assert may_use(key(None, own=listed), model(leads_to), adapter, asked) is allowed


names = st.sampled_from(["chat-8b", "big", "auto", "helpdesk", "chat-8b@int4", "chat-8b:support", "chat-8b:open"])
lists = st.none() | st.sets(names)
adapters = st.sampled_from([None, FENCED, OPEN])
models = st.sampled_from(["chat-8b", "big"]).map(model)


@given(listed=lists, asked=names, model=models)
def test_nobody_passes_an_adapters_fence(listed, asked, model):
    assert not may_use(key(listed, name="stranger"), model, FENCED, asked)


@given(listed=lists, asked=names, model=models, adapter=adapters)
def test_a_tenant_inside_the_fence_has_what_its_list_names(listed, asked, model, adapter):
    leads_to = model.name if adapter is None else f"{model.name}:{adapter.name}"
    expected = listed is None or bool(listed & {asked, leads_to})
    assert may_use(key(listed), model, adapter, asked) is expected


@given(listed=st.sets(names), more=names, asked=names, model=models, adapter=adapters)
def test_a_longer_list_takes_nothing_away(listed, more, asked, model, adapter):
    if may_use(key(listed), model, adapter, asked):
        assert may_use(key(listed | {more}), model, adapter, asked)
        assert may_use(key(None), model, adapter, asked)


@given(listed=lists, own=lists, asked=names, model=models, adapter=adapters)
def test_a_key_may_what_its_tenant_and_its_own_list_allow(listed, own, asked, model, adapter):
    both = may_use(key(listed, own=own), model, adapter, asked)
    assert both is (may_use(key(listed), model, adapter, asked) and may_use(key(None, own=own), model, adapter, asked))


@pytest.mark.parametrize("endpoints", [None, ["embeddings"], ["chat.completions", "embeddings"]])
def test_an_endpoint_that_is_listed_or_not_restricted_is_open(endpoints):
    assert require_endpoint(key(None, endpoints=endpoints), "embeddings") is None


@pytest.mark.parametrize(
    ("endpoints", "only"), [(["score", "embeddings"], "embeddings, score"), ([], "nothing")], ids=["others", "none"]
)
def test_an_endpoint_that_is_not_listed_is_refused_with_those_that_are(endpoints, only):
    with pytest.raises(
        Forbidden, match=rf"\(`prod` of tenant `support`\) may not call `rerank`, only {only}\."
    ) as caught:
        require_endpoint(key(None, endpoints=endpoints), "rerank")
    assert (caught.value.status, caught.value.code) == (403, "endpoint_not_allowed")


def test_what_is_forbidden_of_a_route_is_what_may_not_be_used_of_it():
    adapters = {"support": FENCED, "open": OPEN}
    models = {"chat-8b": replace(model("chat-8b"), adapters=adapters), "big": model("big")}
    base, other = Candidate("chat-8b", None), Candidate("big", None)
    fenced, free = Candidate("chat-8b", "int4", "support"), Candidate("chat-8b", None, "open")
    auto = route("auto", base, fenced, free, fallback=(other,))
    assert forbidden(key(None), models, auto, "auto") == []
    assert forbidden(key(None, name="stranger"), models, auto, "auto") == [fenced]
    assert forbidden(key(["chat-8b"]), models, auto, "auto") == [fenced, free, other]
    assert forbidden(key(["chat-8b", "auto"], own=["big"]), models, auto, "auto") == [base, fenced, free]
    assert forbidden(key([]), models, auto, "auto") == [base, fenced, free, other]

"""Model access: the table of the module's docstring row by row, and its rules as properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Forbidden
from gateway.table import Adapter, Limits, Model, Tenant
from gateway.tenancy.access import may_use, require_access

FENCED = Adapter(name="support", path="adapters/support", tenants=frozenset({"support"}))
OPEN = Adapter(name="open", path="adapters/open", tenants=None)


def model(name):
    return Model(name=name, context=8192, task="generate", versions={}, traffic=(), adapters={})


def tenant(models, name="support"):
    listed = None if models is None else frozenset(models)
    return Tenant(name=name, models=listed, limits=Limits(), budget=None, weight=1.0, tier="standard")


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
    assert may_use(tenant(listed), model(leads_to), adapter, asked) is allowed


names = st.sampled_from(["chat-8b", "big", "auto", "helpdesk", "chat-8b@int4", "chat-8b:support", "chat-8b:open"])
lists = st.none() | st.sets(names)
adapters = st.sampled_from([None, FENCED, OPEN])
models = st.sampled_from(["chat-8b", "big"]).map(model)


@given(listed=lists, asked=names, model=models)
def test_nobody_passes_an_adapters_fence(listed, asked, model):
    assert not may_use(tenant(listed, name="stranger"), model, FENCED, asked)


@given(listed=lists, asked=names, model=models, adapter=adapters)
def test_a_tenant_inside_the_fence_has_what_its_list_names(listed, asked, model, adapter):
    leads_to = model.name if adapter is None else f"{model.name}:{adapter.name}"
    expected = listed is None or bool(listed & {asked, leads_to})
    assert may_use(tenant(listed), model, adapter, asked) is expected


@given(listed=st.sets(names), more=names, asked=names, model=models, adapter=adapters)
def test_a_longer_list_takes_nothing_away(listed, more, asked, model, adapter):
    if may_use(tenant(listed), model, adapter, asked):
        assert may_use(tenant(listed | {more}), model, adapter, asked)
        assert may_use(tenant(None), model, adapter, asked)


def test_a_refusal_names_the_tenant_and_the_model():
    with pytest.raises(Forbidden, match=r"Tenant `support` does not have access to the model `big`") as caught:
        require_access(tenant(["chat-8b"]), model("big"), None, "big")
    assert (caught.value.status, caught.value.code, caught.value.param) == (403, "model_not_allowed", "model")


def test_access_is_granted_in_silence():
    assert require_access(tenant(["big"]), model("big"), None, "big") is None

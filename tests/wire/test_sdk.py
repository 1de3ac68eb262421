"""The SDKs people use, when something goes wrong: the right exception, and a retry only where one can help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.gateway_process import KEY, GatewayProcess, configuration, tenant, worker_entry
from tests.live_worker import LiveWorker

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def worker() -> Iterator[LiveWorker]:
    with LiveWorker() as worker:
        yield worker


@pytest.fixture(scope="module")
def gateway(worker: LiveWorker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    price = {"input_usd_per_m": 1_000, "output_usd_per_m": 1_000}
    written = configuration(
        [worker_entry("w0", worker.url, price=price)],
        tenants={
            "acme": tenant(KEY),
            "fenced": tenant("sk-test-fenced", models=["gpt-4o-mini"]),
            "slow": tenant("sk-test-slow", limits={"rpm": 60}),
            "poor": tenant("sk-test-poor", budget={"usd": 0.001}),
        },
    )
    with GatewayProcess(tmp_path_factory.mktemp("sdk"), written) as gateway:
        gateway.wait_ready()
        yield gateway


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[openai.OpenAI]:
    gateway.wait_up()
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, model: str = "tiny", wish: dict[str, Any] | None = None, **fields: Any) -> Any:
    extra = {} if wish is None else {"standin": wish}
    return client.chat.completions.create(model=model, messages=MESSAGES, extra_body=extra, **fields)


@pytest.mark.parametrize(
    ("fields", "exception", "code"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": -1}, openai.BadRequestError, None),
        ({"wish": {"fault": "refuse", "status": 503}}, openai.InternalServerError, "overloaded"),
        ({"wish": {"fault": "hang_up"}}, openai.InternalServerError, "worker_unreachable"),
    ],
)
def test_an_exception_by_status(
    fields: dict[str, Any], exception: type[openai.APIStatusError], code: str | None, client: openai.OpenAI
) -> None:
    with pytest.raises(exception) as caught:
        chat(client, **fields)
    assert caught.value.code == code
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


def test_the_engines_message_reaches_the_caller(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="temperature must be non-negative") as caught:
        chat(client, temperature=-1)
    assert caught.value.param == "temperature"


def test_keys(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as unknown:
        chat(client.with_options(api_key="sk-nobody-knows-this-one"))
    assert unknown.value.code == "invalid_api_key"
    with pytest.raises(openai.PermissionDeniedError) as fenced:
        chat(client.with_options(api_key="sk-test-fenced"))
    assert fenced.value.code == "model_not_allowed"


def requests_of(gateway: GatewayProcess, status: int) -> float:
    return gateway.metric("tollgate_requests_total", status=str(status))


def test_a_retry_where_it_helps(client: openai.OpenAI, gateway: GatewayProcess, worker: LiveWorker) -> None:
    before = requests_of(gateway, 502)
    with pytest.raises(openai.InternalServerError):
        chat(client.with_options(max_retries=1), wish={"fault": "refuse", "status": 500})
    assert requests_of(gateway, 502) == before + 2


def test_no_retry_where_it_does_not(client: openai.OpenAI, gateway: GatewayProcess) -> None:
    patient = client.with_options(max_retries=5)
    refused = requests_of(gateway, 429)
    with pytest.raises(openai.RateLimitError) as caught:
        chat(patient.with_options(api_key="sk-test-poor"), max_tokens=100)
    assert (caught.value.code, caught.value.type) == ("insufficient_quota", "insufficient_quota")
    assert requests_of(gateway, 429) == refused + 1
    before = requests_of(gateway, 404)
    with pytest.raises(openai.NotFoundError):
        chat(patient, model="nobody")
    assert requests_of(gateway, 404) == before + 1


def test_a_rate_limit_is_waited_for(client: openai.OpenAI, gateway: GatewayProcess) -> None:
    """Sixty are let in at once; then one comes free each second, and that is how long the SDK waits."""
    slow = client.with_options(api_key="sk-test-slow", max_retries=0)
    for _ in range(60):
        chat(slow)
    with pytest.raises(openai.RateLimitError) as caught:
        chat_for_ever(slow)
    assert caught.value.code == "rate_limit_exceeded"
    assert chat(slow.with_options(max_retries=3)).choices


def chat_for_ever(client: openai.OpenAI) -> None:
    while True:
        chat(client)


@pytest.mark.parametrize("fault", ["die", "error_frame"])
def test_a_stream_that_breaks_raises(fault: str, client: openai.OpenAI) -> None:
    wish = {"fault": fault, "after": 5, "pace": 0.05, "status": 500}
    seen = []
    with pytest.raises(openai.APIError) as caught:
        seen.extend(chat(client, stream=True, wish=wish))
    assert len(seen) >= 4
    assert caught.value.code in ("worker_broke", "worker_failed")


def test_a_stream_that_breaks_raises_for_anthropic_too(gateway: GatewayProcess) -> None:
    gateway.wait_up()
    wish = {"fault": "die", "after": 5, "pace": 0.05}
    with anthropic.Anthropic(base_url=gateway.url, api_key=KEY, max_retries=0) as client:
        stream = client.messages.create(
            model="tiny", max_tokens=64, messages=MESSAGES, stream=True, extra_body={"standin": wish}
        )
        with pytest.raises(anthropic.APIStatusError):
            list(stream)
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(model="nope", max_tokens=4, messages=MESSAGES)


def test_closing_a_stream_stops_the_engine(client: openai.OpenAI, worker: LiveWorker) -> None:
    aborted = worker.aborted
    with chat(client, stream=True, max_tokens=10_000, wish={"tokens": 10_000, "pace": 0.01}) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                break
    worker.wait_for(aborted=aborted + 1)


def test_everything_that_is_listed_can_be_retrieved(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["tiny", "tiny@v1", "gpt-4o-mini"]
    assert [client.models.retrieve(name).id for name in names] == names
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")

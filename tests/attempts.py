"""Attempts for tests of the ledger."""

from gateway.ledger.record import Attempt


def attempt(request_id: str = "r1", number: int = 1, **fields: object) -> Attempt:
    """A plausible attempt: `attempt("r1", 2, tenant="a")` is the second one of request r1."""
    usual = Attempt(
        attempt_id=f"{request_id}.{number}",
        request_id=request_id,
        started_at=1_790_000_000.25,
        tenant="support",
        key_id="prod",
        endpoint="chat.completions",
        model_asked="auto",
        model="chat-8b",
        version="int4",
        adapter="",
        route="cheap-first",
        worker="chat-int4-0",
        outcome="ok",
        status=200,
        prompt_tokens=100,
        cached_tokens=40,
        output_tokens=25,
        estimated=False,
        ttft_seconds=0.125,
        duration_seconds=0.75,
        gpu_seconds=0.012345678,
        cost_nanousd=309_000,
        cost_basis="gpu_time",
        user="",
    )
    return usual._replace(**fields)

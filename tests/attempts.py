"""Attempts for tests of the ledger."""

from gateway.ledger.record import Attempt, Label, Line

LINE = Line("support", "prod", "chat.completions", "chat-8b", "int4", "", "cheap-first", "chat-int4-0", "gpu_time")
LABEL = Label("auto")


def attempt(request_id: str = "r1", number: int = 1, **fields: object) -> Attempt:
    """A plausible attempt: `attempt("r1", 2, tenant="a", user="u")` is the second one of request r1."""
    line = LINE._replace(**{name: fields.pop(name) for name in Line._fields if name in fields})
    label = LABEL._replace(**{name: fields.pop(name) for name in Label._fields if name in fields})
    usual = Attempt(
        request_id=request_id,
        number=number,
        correction=0,
        line=line,
        label=label,
        started_at=1_790_000_000.25,
        opened_at=1_790_000_000.375,
        ttft_seconds=0.125,
        duration_seconds=0.75,
        outcome="ok",
        status=200,
        estimated=False,
        final=True,
        prompt_tokens=100,
        cached_tokens=40,
        output_tokens=25,
        gpu_ns=12_345_678,
        cost_nanousd=309_000,
    )
    return usual._replace(**fields)

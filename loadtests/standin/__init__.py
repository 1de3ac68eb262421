"""A stand-in for a vLLM 0.32 worker: its HTTP dialect without its engine, with faults on request.

    async with Standin(["chat"]) as worker:          # in a test
        ...                                          # worker.url, worker.requests_seen, worker.aborted
        await worker.wait_idle()

    python -m loadtests.standin --port 0 --model chat   # as a process; prints `ready PORT`

A request says what it wants under the key `standin` of its body, which the engine would ignore, or in the header
`x-standin` (JSON): `{"standin": {"tokens": 100, "pace": 0.02}}`, `{"standin": {"fault": "die", "after": 5}}`.
What may be said is `Behaviour`. Everything a request leaves open comes from the worker's own `behaviour`, which
`PUT /standin/behaviour` replaces from outside.

    behaviour    what can be asked for        engine       requests, replies, what they share
    endpoints    which path leads where       generation   chat, completions, responses, messages
    reading      bodies, checked as in vLLM   pooling      embeddings, scores, rankings
    errors       vLLM's refusals              service      models, adapters, tokens, health
    dialect      vLLM's documents, events     metrics      what the engine counts
    engines      the others' ways around it   (`Standin(engine="sglang")`, `--engine sglang`)
    models       names and adapters           tokens       the tokenizer, the text
    connection   HTTP on one socket           play         pacing and faults
    server       the worker as an object      seats        a bounded capacity
"""

from loadtests.standin.behaviour import INSTANT, Behaviour, Fault
from loadtests.standin.server import Recorded, Standin

__all__ = ["INSTANT", "Behaviour", "Fault", "Recorded", "Standin"]

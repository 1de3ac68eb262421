"""The ledger held against the engines' own counters: estimates become exact, and what nobody can explain is drift.

Every few seconds each gateway reads each worker's counters (`fleet/gauge.py`). Between two readings at which nobody's
attempt was under way, the engine's tokens are the ledger's: measured attempts count as measured, and what is left over
belongs to those whose engine never said what they came to (aborted, broken, hedged, crashed, timed out), as correction
rows. Without such attempts, or beyond what they can have been, it is drift: traffic that came past the gateways, or
a fault of theirs. A process that ends says so with its last reading; one that was killed is waited for until it has
been silent for 15 minutes.

marks      readings as marks on an engine's life; which of them are quiet. Pure
spans      from marks and the ledger's rows to spans of time with their sums. Pure
share      an amount shared out by weight, whole and within bounds. Pure
correct    what is left over, as correction rows. Pure
verdict    from a span to what the ledger keeps of it. Pure
auditor    the job: reads, judges, writes
drift      what the audits of late come to, worker by worker. Pure

What vLLM 0.32 counts (its source, and measured on it):

- `prompt_tokens_total` goes up by the whole prompt, cached or not, when the request's first output comes: an abort
  before that counts nothing, one after it all of it. A preempted request is not counted again.
- `generation_tokens_total` goes up with every token that reaches the API server, before it is sent; tokens that the
  engine makes after the abort has arrived there are not counted. A stream's events are mostly a token each, but tokens
  that come while the last event is being sent share one, and each choice's first event in a chat is none.
- Both are up to date when the last byte of an answer is sent, and at most one step (and 0.1 s) after an abort. The
  gauges of running and waiting requests fall back to 0 in the same step.
- With `n` choices the prompt counts n times, though `usage` has it once; so attempts keep how many were asked for, and
  what is held against the counter is their product. So does each of a list of prompts, which `usage` sums. `best_of`
  is passed over, and so is `n` where there are no choices (responses, messages).
- Beam search counts every beam of every step: such requests show as drift of prompt tokens.
- Embeddings, scores and reranks count their prompts. /tokenize, refused and rejected requests count nothing.
- All begin at 0 with the process, `process_start_time_seconds`.

SGLang was not measured. By its source it reads the prompt of a request for several choices once more, ahead of them:
that shows as drift.
"""

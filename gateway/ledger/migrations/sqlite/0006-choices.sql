-- How many answers were asked for of each prompt: an engine counts the prompt so often. Of earlier rows nobody knows.
ALTER TABLE entries ADD COLUMN choices INTEGER NOT NULL DEFAULT 1;

DROP VIEW attempts;

CREATE VIEW attempts AS
SELECT entries.request_id || '.' || number AS attempt_id, entries.request_id, number, correction, started_at, opened_at,
    tenant, key_id, endpoint, model_asked, model, version, adapter, route, worker, outcome, status, prompt_tokens,
    cached_tokens, output_tokens, estimated, final, ttft_seconds, duration_seconds, gpu_ns / 1e9 AS gpu_seconds, gpu_ns,
    cost_nanousd, cost_basis, user, tags, choices
FROM entries JOIN lines ON lines.id = entries.line JOIN labels ON labels.id = entries.label;

-- As SQLite's migration of this number. A column with a constant default rewrites no row, and a view that is replaced
-- keeps the grants on it.
ALTER TABLE entries ADD COLUMN choices INTEGER NOT NULL DEFAULT 1;

CREATE OR REPLACE VIEW attempts AS
SELECT entries.request_id || '.' || number AS attempt_id, entries.request_id, number, correction, started_at, opened_at,
    tenant, key_id, endpoint, model_asked, model, version, adapter, route, worker, outcome, status, prompt_tokens,
    cached_tokens, output_tokens, estimated, final, ttft_seconds, duration_seconds, gpu_ns / 1e9 AS gpu_seconds, gpu_ns,
    cost_nanousd, cost_basis, labels."user", tags, choices
FROM entries JOIN lines ON lines.id = entries.line JOIN labels ON labels.id = entries.label;

-- One row per attempt, columns as in record.Attempt. Rows are added, never changed.
CREATE TABLE attempts (
    attempt_id       TEXT    NOT NULL PRIMARY KEY,
    request_id       TEXT    NOT NULL,
    started_at       REAL    NOT NULL,
    tenant           TEXT    NOT NULL,
    key_id           TEXT    NOT NULL,
    endpoint         TEXT    NOT NULL,
    model_asked      TEXT    NOT NULL,
    model            TEXT    NOT NULL,
    version          TEXT    NOT NULL,
    adapter          TEXT    NOT NULL,
    route            TEXT    NOT NULL,
    worker           TEXT    NOT NULL,
    outcome          TEXT    NOT NULL,
    status           INTEGER NOT NULL,
    prompt_tokens    INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    estimated        INTEGER NOT NULL,
    ttft_seconds     REAL,
    duration_seconds REAL    NOT NULL,
    gpu_seconds      REAL    NOT NULL,
    cost_nanousd     INTEGER NOT NULL,
    cost_basis       TEXT    NOT NULL,
    user             TEXT    NOT NULL
);

-- A report reads a span of time.
CREATE INDEX attempts_by_time ON attempts (started_at);

-- A budget sums one tenant's period from the index alone.
CREATE INDEX attempts_by_tenant ON attempts (tenant, started_at, cost_nanousd);

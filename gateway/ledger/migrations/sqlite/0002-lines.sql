-- Names are kept once, rows point at them, and sums by the hour are kept with the rows.
CREATE TABLE lines (
    id         INTEGER PRIMARY KEY,
    tenant     TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    endpoint   TEXT NOT NULL,
    model      TEXT NOT NULL,
    version    TEXT NOT NULL,
    adapter    TEXT NOT NULL,
    route      TEXT NOT NULL,
    worker     TEXT NOT NULL,
    cost_basis TEXT NOT NULL,
    UNIQUE (tenant, key_id, endpoint, model, version, adapter, route, worker, cost_basis)
);

CREATE TABLE labels (
    id          INTEGER PRIMARY KEY,
    model_asked TEXT NOT NULL,
    user        TEXT NOT NULL,
    tags        TEXT NOT NULL,
    UNIQUE (model_asked, user, tags)
);

-- One row per attempt, fields as in record.Attempt, and one per correction. Rows are added, never changed.
CREATE TABLE entries (
    request_id       TEXT    NOT NULL,
    number           INTEGER NOT NULL,
    correction       INTEGER NOT NULL,
    line             INTEGER NOT NULL REFERENCES lines (id),
    label            INTEGER NOT NULL REFERENCES labels (id),
    started_at       REAL    NOT NULL,
    opened_at        REAL    NOT NULL,
    ttft_seconds     REAL,
    duration_seconds REAL    NOT NULL,
    outcome          TEXT    NOT NULL,
    status           INTEGER NOT NULL,
    estimated        INTEGER NOT NULL,
    final            INTEGER NOT NULL,
    prompt_tokens    INTEGER NOT NULL,
    cached_tokens    INTEGER NOT NULL,
    output_tokens    INTEGER NOT NULL,
    gpu_ns           INTEGER NOT NULL,
    cost_nanousd     INTEGER NOT NULL,
    PRIMARY KEY (request_id, number, correction)
) WITHOUT ROWID;

-- A report reads a span of time.
CREATE INDEX entries_by_time ON entries (started_at);

-- The sums of entries by hour (Unix seconds), kept in the transaction that adds them.
CREATE TABLE rollups (
    hour          INTEGER NOT NULL,
    line          INTEGER NOT NULL REFERENCES lines (id),
    outcome       TEXT    NOT NULL,
    requests      INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    gpu_ns        INTEGER NOT NULL,
    cost_nanousd  INTEGER NOT NULL,
    PRIMARY KEY (hour, line, outcome)
) WITHOUT ROWID;

-- What gateways saw of workers, fields as in record.Reading.
CREATE TABLE readings (
    worker         TEXT    NOT NULL,
    at             REAL    NOT NULL,
    source         TEXT    NOT NULL,
    model          TEXT    NOT NULL,
    version        TEXT    NOT NULL,
    hourly         INTEGER NOT NULL,
    up             INTEGER NOT NULL,
    busy_ns        INTEGER NOT NULL,
    in_flight      INTEGER NOT NULL,
    running        INTEGER NOT NULL,
    waiting        INTEGER NOT NULL,
    kv_usage       REAL    NOT NULL,
    prompt_tokens  INTEGER NOT NULL,
    output_tokens  INTEGER NOT NULL,
    engine_started REAL    NOT NULL,
    PRIMARY KEY (worker, at, source)
) WITHOUT ROWID;

INSERT INTO lines (tenant, key_id, endpoint, model, version, adapter, route, worker, cost_basis)
SELECT DISTINCT tenant, key_id, endpoint, model, version, adapter, route, worker, cost_basis FROM attempts;

INSERT INTO labels (model_asked, user, tags) SELECT DISTINCT model_asked, user, '' FROM attempts;

INSERT INTO entries
SELECT old.request_id, CAST(SUBSTR(old.attempt_id, LENGTH(old.request_id) + 2) AS INTEGER), 0, lines.id, labels.id,
    old.started_at, old.started_at, old.ttft_seconds, old.duration_seconds, old.outcome, old.status, old.estimated,
    NOT EXISTS (
        SELECT 1 FROM attempts AS later WHERE later.request_id = old.request_id
        AND CAST(SUBSTR(later.attempt_id, LENGTH(later.request_id) + 2) AS INTEGER)
            > CAST(SUBSTR(old.attempt_id, LENGTH(old.request_id) + 2) AS INTEGER)
    ),
    old.prompt_tokens, old.cached_tokens, old.output_tokens, CAST(ROUND(old.gpu_seconds * 1e9) AS INTEGER),
    old.cost_nanousd
FROM attempts AS old
JOIN lines ON (lines.tenant, lines.key_id, lines.endpoint, lines.model, lines.version, lines.adapter, lines.route,
    lines.worker, lines.cost_basis) = (old.tenant, old.key_id, old.endpoint, old.model, old.version, old.adapter,
    old.route, old.worker, old.cost_basis)
JOIN labels ON (labels.model_asked, labels.user, labels.tags) = (old.model_asked, old.user, '');

INSERT INTO rollups
SELECT CAST(started_at / 3600 AS INTEGER) * 3600, line, outcome, SUM(final), COUNT(*), SUM(prompt_tokens),
    SUM(cached_tokens), SUM(output_tokens), SUM(gpu_ns), SUM(cost_nanousd)
FROM entries GROUP BY 1, 2, 3;

DROP TABLE attempts;

-- For eyes and other programs: every entry with its names.
CREATE VIEW attempts AS
SELECT entries.request_id || '.' || number AS attempt_id, entries.request_id, number, correction, started_at, opened_at,
    tenant, key_id, endpoint, model_asked, model, version, adapter, route, worker, outcome, status, prompt_tokens,
    cached_tokens, output_tokens, estimated, final, ttft_seconds, duration_seconds, gpu_ns / 1e9 AS gpu_seconds, gpu_ns,
    cost_nanousd, cost_basis, user, tags
FROM entries JOIN lines ON lines.id = entries.line JOIN labels ON labels.id = entries.label;

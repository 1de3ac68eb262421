-- The tables of SQLite's migration of this number. Text is compared by its bytes, whatever the database's collation;
-- flags are 0 or 1, so that one query does for both databases. No foreign keys: only the writer adds rows, and checking
-- each costs as much as adding it.
CREATE TABLE lines (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     TEXT COLLATE "C" NOT NULL,
    key_id     TEXT COLLATE "C" NOT NULL,
    endpoint   TEXT COLLATE "C" NOT NULL,
    model      TEXT COLLATE "C" NOT NULL,
    version    TEXT COLLATE "C" NOT NULL,
    adapter    TEXT COLLATE "C" NOT NULL,
    route      TEXT COLLATE "C" NOT NULL,
    worker     TEXT COLLATE "C" NOT NULL,
    cost_basis TEXT COLLATE "C" NOT NULL,
    UNIQUE (tenant, key_id, endpoint, model, version, adapter, route, worker, cost_basis)
);

-- Of any length, which an index does not take: known by the digest of all three.
CREATE TABLE labels (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      BYTEA NOT NULL UNIQUE,
    model_asked TEXT COLLATE "C" NOT NULL,
    "user"      TEXT COLLATE "C" NOT NULL,
    tags        TEXT COLLATE "C" NOT NULL
);

-- One row per attempt, fields as in record.Attempt, and one per correction. Rows are added, never changed.
CREATE TABLE entries (
    request_id       TEXT COLLATE "C" NOT NULL,
    number           INTEGER          NOT NULL,
    correction       INTEGER          NOT NULL,
    line             BIGINT           NOT NULL,
    label            BIGINT           NOT NULL,
    started_at       DOUBLE PRECISION NOT NULL,
    opened_at        DOUBLE PRECISION NOT NULL,
    ttft_seconds     DOUBLE PRECISION,
    duration_seconds DOUBLE PRECISION NOT NULL,
    outcome          TEXT COLLATE "C" NOT NULL,
    status           INTEGER          NOT NULL,
    estimated        SMALLINT         NOT NULL,
    final            SMALLINT         NOT NULL,
    prompt_tokens    BIGINT           NOT NULL,
    cached_tokens    BIGINT           NOT NULL,
    output_tokens    BIGINT           NOT NULL,
    gpu_ns           BIGINT           NOT NULL,
    cost_nanousd     BIGINT           NOT NULL,
    PRIMARY KEY (request_id, number, correction)
);

-- A report reads a span of time.
CREATE INDEX entries_by_time ON entries (started_at);

-- The sums of entries by hour (Unix seconds), kept in the transaction that adds them. They change often and their key
-- never does: room on each page keeps a change on it.
CREATE TABLE rollups (
    hour          BIGINT           NOT NULL,
    line          BIGINT           NOT NULL,
    outcome       TEXT COLLATE "C" NOT NULL,
    requests      BIGINT           NOT NULL,
    attempts      BIGINT           NOT NULL,
    prompt_tokens BIGINT           NOT NULL,
    cached_tokens BIGINT           NOT NULL,
    output_tokens BIGINT           NOT NULL,
    gpu_ns        BIGINT           NOT NULL,
    cost_nanousd  BIGINT           NOT NULL,
    PRIMARY KEY (hour, line, outcome)
) WITH (fillfactor = 50);

-- What gateways saw of workers, fields as in record.Reading.
CREATE TABLE readings (
    worker         TEXT COLLATE "C" NOT NULL,
    at             DOUBLE PRECISION NOT NULL,
    source         TEXT COLLATE "C" NOT NULL,
    model          TEXT COLLATE "C" NOT NULL,
    version        TEXT COLLATE "C" NOT NULL,
    hourly         BIGINT           NOT NULL,
    up             SMALLINT         NOT NULL,
    busy_ns        BIGINT           NOT NULL,
    in_flight      BIGINT           NOT NULL,
    running        BIGINT           NOT NULL,
    waiting        BIGINT           NOT NULL,
    kv_usage       DOUBLE PRECISION NOT NULL,
    prompt_tokens  BIGINT           NOT NULL,
    output_tokens  BIGINT           NOT NULL,
    engine_started DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (worker, at, source)
);

-- For eyes and other programs: every entry with its names.
CREATE VIEW attempts AS
SELECT entries.request_id || '.' || number AS attempt_id, entries.request_id, number, correction, started_at, opened_at,
    tenant, key_id, endpoint, model_asked, model, version, adapter, route, worker, outcome, status, prompt_tokens,
    cached_tokens, output_tokens, estimated, final, ttft_seconds, duration_seconds, gpu_ns / 1e9 AS gpu_seconds, gpu_ns,
    cost_nanousd, cost_basis, labels."user", tags
FROM entries JOIN lines ON lines.id = entries.line JOIN labels ON labels.id = entries.label;

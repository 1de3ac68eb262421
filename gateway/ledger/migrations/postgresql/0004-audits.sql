-- What audits of workers found, fields as in audits.Audit.
CREATE TABLE audits (
    worker             TEXT COLLATE "C" NOT NULL,
    started_at         DOUBLE PRECISION NOT NULL,
    ended_at           DOUBLE PRECISION NOT NULL,
    exact              SMALLINT         NOT NULL,
    reason             TEXT COLLATE "C" NOT NULL,
    engine_started     DOUBLE PRECISION NOT NULL,
    prompt_counter     BIGINT           NOT NULL,
    output_counter     BIGINT           NOT NULL,
    engine_prompt      BIGINT           NOT NULL,
    engine_output      BIGINT           NOT NULL,
    ledger_prompt      BIGINT           NOT NULL,
    ledger_output      BIGINT           NOT NULL,
    corrected_prompt   BIGINT           NOT NULL,
    corrected_output   BIGINT           NOT NULL,
    slack_prompt       BIGINT           NOT NULL,
    slack_output       BIGINT           NOT NULL,
    drift_prompt       BIGINT           NOT NULL,
    drift_output       BIGINT           NOT NULL,
    estimated          BIGINT           NOT NULL,
    unobserved_seconds DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (worker, ended_at, exact)
);

-- An audit reads the attempts that began in its span.
CREATE INDEX entries_by_opening ON entries (opened_at);

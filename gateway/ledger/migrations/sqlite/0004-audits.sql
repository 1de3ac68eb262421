-- What audits of workers found, fields as in audits.Audit.
CREATE TABLE audits (
    worker             TEXT    NOT NULL,
    started_at         REAL    NOT NULL,
    ended_at           REAL    NOT NULL,
    exact              INTEGER NOT NULL,
    reason             TEXT    NOT NULL,
    engine_started     REAL    NOT NULL,
    prompt_counter     INTEGER NOT NULL,
    output_counter     INTEGER NOT NULL,
    engine_prompt      INTEGER NOT NULL,
    engine_output      INTEGER NOT NULL,
    ledger_prompt      INTEGER NOT NULL,
    ledger_output      INTEGER NOT NULL,
    corrected_prompt   INTEGER NOT NULL,
    corrected_output   INTEGER NOT NULL,
    slack_prompt       INTEGER NOT NULL,
    slack_output       INTEGER NOT NULL,
    drift_prompt       INTEGER NOT NULL,
    drift_output       INTEGER NOT NULL,
    estimated          INTEGER NOT NULL,
    unobserved_seconds REAL    NOT NULL,
    PRIMARY KEY (worker, ended_at, exact)
) WITHOUT ROWID;

-- An audit reads the attempts that began in its span.
CREATE INDEX entries_by_opening ON entries (opened_at);

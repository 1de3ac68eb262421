-- One row: before which hour (Unix seconds) rows of single attempts have been removed.
CREATE TABLE retention (pruned_before INTEGER NOT NULL);

INSERT INTO retention (pruned_before) VALUES (0);

-- Sums of entries by day (days since 1970) and label, made when the day is over. They hold while they add up to the
-- day's rollups.
CREATE TABLE days (
    day           INTEGER NOT NULL,
    line          INTEGER NOT NULL REFERENCES lines (id),
    label         INTEGER NOT NULL REFERENCES labels (id),
    outcome       TEXT    NOT NULL,
    requests      INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    gpu_ns        INTEGER NOT NULL,
    cost_nanousd  INTEGER NOT NULL,
    PRIMARY KEY (day, line, label, outcome)
) WITHOUT ROWID;

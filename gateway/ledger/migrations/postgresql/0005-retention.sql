-- The tables of SQLite's migration of this number.
CREATE TABLE retention (pruned_before BIGINT NOT NULL);

INSERT INTO retention (pruned_before) VALUES (0);

CREATE TABLE days (
    day           BIGINT           NOT NULL,
    line          BIGINT           NOT NULL,
    label         BIGINT           NOT NULL,
    outcome       TEXT COLLATE "C" NOT NULL,
    requests      BIGINT           NOT NULL,
    attempts      BIGINT           NOT NULL,
    prompt_tokens BIGINT           NOT NULL,
    cached_tokens BIGINT           NOT NULL,
    output_tokens BIGINT           NOT NULL,
    gpu_ns        BIGINT           NOT NULL,
    cost_nanousd  BIGINT           NOT NULL,
    PRIMARY KEY (day, line, label, outcome)
);

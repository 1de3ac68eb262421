-- The tables of SQLite's migration of this number.
CREATE TABLE windows (
    worker        TEXT COLLATE "C" NOT NULL,
    "start"       DOUBLE PRECISION NOT NULL,
    "end"         DOUBLE PRECISION NOT NULL,
    hourly        BIGINT           NOT NULL,
    cost_nanousd  BIGINT           NOT NULL,
    busy_ns       BIGINT           NOT NULL,
    attributed_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (worker, "start")
);

CREATE TABLE billed (
    worker  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    through DOUBLE PRECISION NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE shares (
    worker       TEXT COLLATE "C" NOT NULL,
    "start"      DOUBLE PRECISION NOT NULL,
    line         BIGINT           NOT NULL,
    label        BIGINT           NOT NULL,
    cost_nanousd BIGINT           NOT NULL,
    PRIMARY KEY (worker, "start", line, label)
);

CREATE TABLE allocations (
    hour         BIGINT NOT NULL,
    line         BIGINT NOT NULL,
    label        BIGINT NOT NULL,
    cost_nanousd BIGINT NOT NULL,
    PRIMARY KEY (hour, line, label)
) WITH (fillfactor = 70);

CREATE TABLE fits (
    model   TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    gpu     TEXT COLLATE "C" NOT NULL,
    at      DOUBLE PRECISION NOT NULL,
    n       BIGINT           NOT NULL,
    r2      DOUBLE PRECISION NOT NULL,
    a0      DOUBLE PRECISION NOT NULL,
    a1      DOUBLE PRECISION NOT NULL,
    a2      DOUBLE PRECISION NOT NULL,
    a3      DOUBLE PRECISION NOT NULL,
    a4      DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (model, version, gpu, at)
);

CREATE TABLE late (
    worker  TEXT COLLATE "C" NOT NULL,
    "start" DOUBLE PRECISION NOT NULL,
    "end"   DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (worker, "start", "end")
);


CREATE FUNCTION note_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO late SELECT DISTINCT lines.worker, added.opened_at, GREATEST(added.opened_at, added.opened_at + added.duration_seconds) FROM added JOIN lines ON lines.id = added.line JOIN billed ON billed.worker = lines.worker WHERE added.opened_at < billed.through ON CONFLICT DO NOTHING; RETURN NULL; END $$;

CREATE TRIGGER entries_late AFTER INSERT ON entries REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION note_late();

INSERT INTO labels (digest, model_asked, "user", tags) VALUES (sha256('\x0000'), '', '', '') ON CONFLICT DO NOTHING;

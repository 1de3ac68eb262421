-- The bill: the cost of every worker and window, and whose it was. Times are Unix seconds in whole milliseconds.
CREATE TABLE windows (
    worker        TEXT    NOT NULL,
    "start"       REAL    NOT NULL,
    "end"         REAL    NOT NULL,
    hourly        INTEGER NOT NULL,
    cost_nanousd  INTEGER NOT NULL,
    busy_ns       INTEGER NOT NULL,
    attributed_at REAL    NOT NULL,
    PRIMARY KEY (worker, "start")
) WITHOUT ROWID;

-- How far the time of each worker is in the bill.
CREATE TABLE billed (
    worker  TEXT NOT NULL PRIMARY KEY,
    through REAL NOT NULL
) WITHOUT ROWID;

-- By window, as long as one may have to be shared out again. They sum to the window's cost.
CREATE TABLE shares (
    worker       TEXT    NOT NULL,
    "start"      REAL    NOT NULL,
    line         INTEGER NOT NULL REFERENCES lines (id),
    label        INTEGER NOT NULL REFERENCES labels (id),
    cost_nanousd INTEGER NOT NULL,
    PRIMARY KEY (worker, "start", line, label)
) WITHOUT ROWID;

-- Sums of the shares by the hour in which a window begins: for good.
CREATE TABLE allocations (
    hour         INTEGER NOT NULL,
    line         INTEGER NOT NULL REFERENCES lines (id),
    label        INTEGER NOT NULL REFERENCES labels (id),
    cost_nanousd INTEGER NOT NULL,
    PRIMARY KEY (hour, line, label)
) WITHOUT ROWID;

-- Coefficients of the cost model, seconds; fitted from n stretches of work, of whose variance they tell r2.
CREATE TABLE fits (
    model   TEXT    NOT NULL,
    version TEXT    NOT NULL,
    gpu     TEXT    NOT NULL,
    at      REAL    NOT NULL,
    n       INTEGER NOT NULL,
    r2      REAL    NOT NULL,
    a0      REAL    NOT NULL,
    a1      REAL    NOT NULL,
    a2      REAL    NOT NULL,
    a3      REAL    NOT NULL,
    a4      REAL    NOT NULL,
    PRIMARY KEY (model, version, gpu, at)
) WITHOUT ROWID;

-- Attempts that came after the windows they lie in were closed, marked by whoever adds them.
CREATE TABLE late (
    worker  TEXT NOT NULL,
    "start" REAL NOT NULL,
    "end"   REAL NOT NULL,
    PRIMARY KEY (worker, "start", "end")
) WITHOUT ROWID;


-- What of the bill has no request is booked under no label.
INSERT INTO labels (model_asked, user, tags) VALUES ('', '', '') ON CONFLICT DO NOTHING;

-- Each person's key, wrapped by a master key; without one, what the log says of them is unreadable.

CREATE TABLE people.keys (
    subject  text PRIMARY KEY,
    wrapped  bytea,  -- NULL once it was destroyed, so that it is never made again
    made_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT, INSERT, UPDATE ON people.keys TO imprimatur_app;

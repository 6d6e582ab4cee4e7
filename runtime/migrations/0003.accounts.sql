-- Password hashes, outside the log: a secret never enters an event.

CREATE SCHEMA people;

CREATE TABLE people.credentials (
    person_id  text PRIMARY KEY,
    hash       text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT USAGE ON SCHEMA people TO imprimatur_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON people.credentials TO imprimatur_app;

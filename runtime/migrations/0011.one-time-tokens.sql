-- What letters open, once and for a short time; only digests, so that nothing here opens anything.

CREATE TABLE people.one_time_tokens (
    digest     bytea PRIMARY KEY,
    purpose    text NOT NULL,
    person_id  text NOT NULL,
    tenant     text NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX one_time_tokens_person ON people.one_time_tokens (tenant, person_id, purpose);

GRANT SELECT, INSERT, UPDATE, DELETE ON people.one_time_tokens TO imprimatur_app;

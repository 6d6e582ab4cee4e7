-- Second factors: the secret that a person's device shares with the site, wrapped by a key made of
-- the master key for this person alone. Only the one that the log names is asked for.

CREATE TABLE people.second_factors (
    id           text PRIMARY KEY,
    person_id    text NOT NULL,
    tenant       text NOT NULL,
    secret       bytea NOT NULL,
    last_step    bigint NOT NULL DEFAULT 0,  -- of the code taken last; none of before is taken
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_at timestamptz
);
CREATE INDEX second_factors_person ON people.second_factors (tenant, person_id);

-- What stands in for a lost device, each once; only digests, so that nothing here opens anything.
CREATE TABLE people.recovery_codes (
    id        text PRIMARY KEY,
    factor_id text NOT NULL REFERENCES people.second_factors ON DELETE CASCADE,
    digest    bytea NOT NULL,
    used_at   timestamptz,
    UNIQUE (factor_id, digest)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON people.second_factors, people.recovery_codes
    TO imprimatur_app;

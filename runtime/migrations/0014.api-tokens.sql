-- Personal API tokens: whose each is and what it is good for. What its person calls it is in the
-- log, sealed; only digests, so that nothing here opens anything.

CREATE TABLE people.api_tokens (
    id           text PRIMARY KEY,
    digest       bytea NOT NULL UNIQUE,
    person_id    text NOT NULL,
    tenant       text NOT NULL,
    scopes       text[] NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_used_at timestamptz,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz
);
CREATE INDEX api_tokens_person ON people.api_tokens (tenant, person_id) WHERE revoked_at IS NULL;
CREATE INDEX api_tokens_revoked ON people.api_tokens (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX api_tokens_expired ON people.api_tokens (expires_at);

GRANT SELECT, INSERT, UPDATE, DELETE ON people.api_tokens TO imprimatur_app;

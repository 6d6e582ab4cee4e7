-- Sessions: how long each lasts, and the digests of what opens it. Who signed in from where is in
-- the log, sealed; no secret is anywhere as it is.

CREATE TABLE people.sessions (
    id         text PRIMARY KEY,
    person_id  text NOT NULL,
    tenant     text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('cookie', 'token')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX sessions_person ON people.sessions (tenant, person_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_revoked ON people.sessions (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX sessions_expired ON people.sessions (expires_at);

-- A cookie's secret, or the refresh tokens that a session had one after the other: a spent one that
-- comes back was stolen, before or after it was spent.
CREATE TABLE people.session_secrets (
    digest     bytea PRIMARY KEY,
    session_id text NOT NULL REFERENCES people.sessions ON DELETE CASCADE,
    spent_at   timestamptz
);
CREATE INDEX session_secrets_session ON people.session_secrets (session_id);

GRANT SELECT, INSERT, UPDATE, DELETE ON people.sessions, people.session_secrets TO imprimatur_app;

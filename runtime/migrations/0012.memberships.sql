-- What a letter opens may be for one of several askings of a person; for an invitation, person_id is
-- the invitation's. And a person's sessions are ended in all tenants at once.

ALTER TABLE people.one_time_tokens ADD COLUMN number int NOT NULL DEFAULT 0;
CREATE INDEX sessions_everywhere ON people.sessions (person_id) WHERE revoked_at IS NULL;

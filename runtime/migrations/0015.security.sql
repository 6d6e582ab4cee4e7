-- What was refused: failed sign-ins, lock-outs, missing permissions. No decision rests on it, so it
-- is beside the log; who asked from where is sealed, and all of it goes after ninety days.

CREATE SCHEMA security;

CREATE TABLE security.incidents (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text NOT NULL,
    at         timestamptz NOT NULL,
    kind       text NOT NULL,
    times      int NOT NULL CHECK (times > 0),  -- more than one where a flood was only counted
    person_id  text,
    subject    text NOT NULL,  -- whose key sealed the address and the program
    address    text NOT NULL,
    user_agent text NOT NULL,
    request_id text NOT NULL
);
CREATE INDEX incidents_at ON security.incidents (tenant, at, id);
CREATE INDEX incidents_person ON security.incidents (tenant, person_id, at, id);
CREATE INDEX incidents_kind ON security.incidents (tenant, kind, at, id);

ALTER TABLE security.incidents ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON security.incidents
    USING (coalesce(current_setting('imprimatur.tenant', true), '*') IN (tenant, '*'));

-- Nothing but this takes anything away, and nothing changes it. The keys of strangers go with the
-- last of what they sealed.
CREATE FUNCTION security.sweep() RETURNS void
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM security.incidents WHERE at < clock_timestamp() - interval '90 days';
    DELETE FROM people.keys k
    WHERE k.subject LIKE 'strangers-%' AND k.made_at < clock_timestamp() - interval '90 days'
      AND NOT EXISTS (SELECT FROM security.incidents i WHERE i.subject = k.subject);
$$;

REVOKE ALL ON FUNCTION security.sweep() FROM PUBLIC;
GRANT USAGE ON SCHEMA security TO imprimatur_app;
GRANT SELECT, INSERT ON security.incidents TO imprimatur_app;
GRANT EXECUTE ON FUNCTION security.sweep() TO imprimatur_app;

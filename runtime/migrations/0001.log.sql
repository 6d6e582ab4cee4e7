-- The log: append-only, gapless, written by log.append alone.

CREATE SCHEMA log;

CREATE TABLE log.events (
    position       bigint PRIMARY KEY,
    tenant         text NOT NULL,
    stream         text NOT NULL,
    version        bigint NOT NULL,
    type           text NOT NULL,
    actor          text NOT NULL,
    command_id     text NOT NULL,
    correlation_id text NOT NULL,
    causation_id   text,
    recorded_at    timestamptz NOT NULL,
    body           text NOT NULL CHECK (octet_length(body) <= 65536),
    UNIQUE (tenant, stream, version)
);
CREATE INDEX events_by_type ON log.events (type, position);
CREATE INDEX events_by_time ON log.events USING brin (recorded_at) WITH (pages_per_range = 16);

-- One row for each command that was answered: what was asked, by whom, and the answer given.
-- Its events are those from first_position to last_position; none where first is past last.
CREATE TABLE log.commands (
    tenant         text NOT NULL,
    command_id     text NOT NULL,
    name           text NOT NULL,
    actor          text NOT NULL,
    correlation_id text NOT NULL,
    fingerprint    text NOT NULL,
    outcome        text NOT NULL,
    first_position bigint NOT NULL,
    last_position  bigint NOT NULL,
    PRIMARY KEY (tenant, command_id)
);
CREATE INDEX commands_by_actor ON log.commands (actor, first_position);
CREATE INDEX commands_by_correlation ON log.commands (correlation_id, first_position);

CREATE FUNCTION log.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: the log is append-only',
        TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log.events
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log.commands
    FOR EACH STATEMENT EXECUTE FUNCTION log.refuse_change();

-- Appends a batch of commands in one transaction and says of each what became of it:
--   appended   its events are in the log at first_position..last_position
--   duplicate  its command id was answered before: the first answer comes back
--   moved      a stream that it read has moved since; nothing of it was written
-- Whoever holds the lock sees everything committed before (each statement below takes its
-- snapshot after the lock), so positions commit in order and have no gaps.
-- The planner settings keep the cached plan on the indexes however small a table was at first.
CREATE FUNCTION log.append(batch json)
RETURNS TABLE (item int, verdict text, first_position bigint, last_position bigint,
               known_fingerprint text, known_outcome text)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_mergejoin = off
AS $$
DECLARE
    head bigint;
    at timestamptz;
BEGIN
    PERFORM pg_advisory_xact_lock(1229803600);
    SELECT e.position, e.recorded_at INTO head, at
        FROM log.events e ORDER BY e.position DESC LIMIT 1;
    head := coalesce(head, 0);
    at := greatest(clock_timestamp(), at);
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT c.*, k.fingerprint AS known_fingerprint, k.outcome AS known_outcome,
               k.first_position AS known_first, k.last_position AS known_last
        FROM json_to_recordset(batch -> 'commands') AS c(
            item int, tenant text, command_id text, name text, actor text, correlation_id text,
            causation_id text, fingerprint text, outcome text)
        LEFT JOIN LATERAL (
            SELECT k.* FROM log.commands k
            WHERE k.tenant = c.tenant AND k.command_id = c.command_id LIMIT 1) k ON true
    ), moved AS MATERIALIZED (
        SELECT DISTINCT r.item
        FROM json_to_recordset(batch -> 'reads') AS r(
            item int, tenant text, stream text, version bigint, vacant boolean)
        WHERE CASE WHEN r.vacant THEN EXISTS (
                SELECT FROM log.events e
                WHERE e.tenant = r.tenant AND e.stream = r.stream AND e.version = r.version)
            ELSE r.version <> coalesce((
                SELECT max(e.version) FROM log.events e
                WHERE e.tenant = r.tenant AND e.stream = r.stream), 0)
            END
    ), judged AS MATERIALIZED (
        SELECT g.*, CASE
            WHEN g.known_fingerprint IS NOT NULL THEN 'duplicate'
            WHEN EXISTS (SELECT FROM moved m WHERE m.item = g.item) THEN 'moved'
            ELSE 'appended' END AS verdict
        FROM given g
    ), placed AS MATERIALIZED (
        SELECT e.*, head + row_number() OVER (ORDER BY e.item, e.ordinal) AS position
        FROM json_to_recordset(batch -> 'events') AS e(
            item int, ordinal int, stream text, version bigint, type text, body text)
        WHERE EXISTS (SELECT FROM judged j WHERE j.item = e.item AND j.verdict = 'appended')
    ), spans AS MATERIALIZED (
        SELECT j.*, coalesce(min(p.position), head + 1) AS low, coalesce(max(p.position), head) AS high
        FROM judged j LEFT JOIN placed p ON p.item = j.item
        GROUP BY j.item, j.tenant, j.command_id, j.name, j.actor, j.correlation_id, j.causation_id,
                 j.fingerprint, j.outcome, j.known_fingerprint, j.known_outcome, j.known_first,
                 j.known_last, j.verdict
    ), events_written AS (
        INSERT INTO log.events
        SELECT p.position, s.tenant, p.stream,
               coalesce(p.version, (
                   SELECT coalesce(max(e.version), 0) FROM log.events e
                   WHERE e.tenant = s.tenant AND e.stream = p.stream
               ) + row_number() OVER (PARTITION BY s.tenant, p.stream ORDER BY p.position)),
               p.type, s.actor, s.command_id, s.correlation_id, s.causation_id, at, p.body
        FROM placed p JOIN spans s ON s.item = p.item
        ORDER BY p.position
    ), commands_written AS (
        INSERT INTO log.commands
        SELECT s.tenant, s.command_id, s.name, s.actor, s.correlation_id, s.fingerprint,
               s.outcome, s.low, s.high
        FROM spans s WHERE s.verdict = 'appended'
    )
    SELECT s.item, s.verdict, coalesce(s.known_first, s.low), coalesce(s.known_last, s.high),
           s.known_fingerprint, s.known_outcome
    FROM spans s;
END $$;

REVOKE ALL ON FUNCTION log.append(json) FROM PUBLIC;
GRANT USAGE ON SCHEMA log TO imprimatur_app;
GRANT SELECT ON log.events, log.commands TO imprimatur_app;
GRANT EXECUTE ON FUNCTION log.append(json) TO imprimatur_app;

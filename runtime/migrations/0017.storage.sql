-- Which blobs nobody has recorded yet, and how much each tenant stores.

-- Pictures on their way in, which are swept where nothing came of them.
CREATE INDEX blob_references_incoming ON ingest.blob_references (owner)
    WHERE owner LIKE 'incoming/%';

-- A row for each change, so that no change waits for another's; together they are what is stored.
CREATE TABLE ingest.stored (
    tenant text NOT NULL,
    bytes  bigint NOT NULL
);
CREATE INDEX stored_tenant ON ingest.stored (tenant) INCLUDE (bytes);

INSERT INTO ingest.stored (tenant, bytes)
SELECT split_part(key, '/', 1), sum(bytes) FROM ingest.blobs GROUP BY 1;

CREATE FUNCTION ingest.count_stored() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ingest.stored (tenant, bytes)
    SELECT split_part(key, '/', 1), CASE TG_OP WHEN 'INSERT' THEN sum(bytes) ELSE -sum(bytes) END
    FROM changed GROUP BY 1;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_added AFTER INSERT ON ingest.blobs
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ingest.count_stored();
CREATE TRIGGER count_dropped AFTER DELETE ON ingest.blobs
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ingest.count_stored();

GRANT SELECT, INSERT, DELETE ON ingest.stored TO imprimatur_app;

ALTER TABLE ingest.stored ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON ingest.stored
    USING (coalesce(current_setting('imprimatur.tenant', true), '*') IN (tenant, '*'));

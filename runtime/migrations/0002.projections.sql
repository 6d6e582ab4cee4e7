-- Bookkeeping of the read models; each model's own tables live in a schema of its version.

CREATE SCHEMA projections;

CREATE TABLE projections.checkpoints (
    model    text NOT NULL,
    version  int NOT NULL,
    position bigint NOT NULL DEFAULT 0,  -- everything up to here is folded
    changed  bigint NOT NULL DEFAULT 0,  -- the last position that changed a row
    PRIMARY KEY (model, version)
);

CREATE TABLE projections.dead_letters (
    model    text NOT NULL,
    version  int NOT NULL,
    position bigint NOT NULL,
    stream   text NOT NULL,
    error    text NOT NULL,
    retry    boolean NOT NULL DEFAULT false,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, version, position)
);

-- How far each policy has reacted to the log.
CREATE TABLE projections.policies (
    name     text PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0
);

GRANT USAGE ON SCHEMA projections TO imprimatur_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA projections TO imprimatur_app;

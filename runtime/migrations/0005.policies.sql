-- What a policy could not react to, kept as projections.dead_letters keeps it for read models.

CREATE TABLE projections.policy_dead_letters (
    policy   text NOT NULL REFERENCES projections.policies,
    position bigint NOT NULL,
    stream   text NOT NULL,
    error    text NOT NULL,
    retry    boolean NOT NULL DEFAULT false,
    set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (policy, position)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON projections.policy_dead_letters TO imprimatur_app;

-- The wall between tenants: a connection that serves one tenant sees the rows of no other. One that
-- never said whom it serves (an operator's, a projector's) serves all of them.
-- log.append runs as the owner, whom the wall does not stop, and writes what the bus gives it.

ALTER TABLE log.events ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON log.events FOR SELECT
    USING (coalesce(current_setting('imprimatur.tenant', true), '*') IN (tenant, '*'));
ALTER TABLE log.commands ENABLE ROW LEVEL SECURITY;
CREATE POLICY one_tenant ON log.commands FOR SELECT
    USING (coalesce(current_setting('imprimatur.tenant', true), '*') IN (tenant, '*'));

-- A stream is one of its tenant's, also where it is held.
ALTER TABLE projections.dead_letters ADD COLUMN tenant text NOT NULL DEFAULT 'main';
ALTER TABLE projections.policy_dead_letters ADD COLUMN tenant text NOT NULL DEFAULT 'main';

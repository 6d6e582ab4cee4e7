-- What somebody did of one kind, by position: neither of the two indexes alone bounds what is read
-- where a busy actor and a busy type never meet.

CREATE INDEX events_of_actor_by_type ON log.events (tenant, actor, type, position);

-- A listener is an endpoint whose owner asks for its events; nothing is posted to it (docs/reference/v2.md).
-- The release before would try to: it finds no address, and the row waits on under a new id.

CREATE TABLE listener (
    id         text PRIMARY KEY,
    account_id integer NOT NULL REFERENCES account,
    until      timestamptz NOT NULL,  -- then nobody asks any more
    dropped    bigint NOT NULL DEFAULT 0
);
CREATE INDEX ON listener (account_id);

ALTER TABLE endpoint ADD COLUMN listener text REFERENCES listener ON DELETE CASCADE;
CREATE INDEX ON endpoint (listener) WHERE listener IS NOT NULL;

-- What an event tells of that was only asked for: no message and no incoming SMS is behind it.
ALTER TABLE outbox ADD COLUMN sample text NOT NULL DEFAULT '';
ALTER TABLE buried ADD COLUMN sample text NOT NULL DEFAULT '';

GRANT SELECT, INSERT, UPDATE, DELETE ON listener TO :app;

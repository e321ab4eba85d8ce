-- The whole of what the gateway remembers (design §4). Rows that grow are only inserted and deleted.
--
-- Keys. A request's id is (minutes since 2025-01-01 UTC) << 31 | tranId; a message's id is its request's
-- id << 7 | n, n = 1 … 100. So one number names a message, gives its request and tranId by arithmetic,
-- sorts by time, and is the key that tables are partitioned by. n = 127 marks a transfer of no message.

CREATE FUNCTION request_of(message bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT message >> 7';
CREATE FUNCTION tran_id_of(request bigint) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT (request & 2147483647)::integer';

-- Blocks of 100 numbers are drawn by each process, so an id costs no round trip.
CREATE SEQUENCE tran_id AS integer MINVALUE 1 MAXVALUE 2147483000 INCREMENT BY 100 CYCLE;

-- ---------------------------------------------------------------- configuration (small, updated)

CREATE TABLE account (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    email       text NOT NULL,
    balance_vnd bigint NOT NULL DEFAULT 0,
    credit_vnd  bigint NOT NULL DEFAULT 0 CHECK (credit_vnd >= 0),
    blocked     boolean NOT NULL DEFAULT false,
    api_enabled boolean NOT NULL DEFAULT true,
    settings    jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT no_overdraft CHECK (balance_vnd >= -credit_vnd)
) WITH (fillfactor = 40);

CREATE TABLE token (
    id                   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id           integer NOT NULL REFERENCES account,
    hash                 bytea NOT NULL UNIQUE,
    hint                 text NOT NULL,
    name                 text NOT NULL DEFAULT '',
    scopes               text[] NOT NULL,
    allow_ip             text[] NOT NULL DEFAULT '{}',
    allow_query_token    boolean NOT NULL DEFAULT true,
    duplicate_window_s   integer NOT NULL DEFAULT 0 CHECK (duplicate_window_s BETWEEN 0 AND 3600),
    spend_cap_day_vnd    bigint,
    text_mode            text,
    test                 boolean NOT NULL DEFAULT false,
    created_at           timestamptz NOT NULL DEFAULT now(),
    revoked_at           timestamptz
);
CREATE INDEX ON token (account_id);

CREATE TABLE sender (
    account_id integer NOT NULL REFERENCES account,
    kind       text NOT NULL CHECK (kind IN ('brandname', 'device', 'number')),
    id         text NOT NULL,
    class      text NOT NULL DEFAULT 'care' CHECK (class IN ('care', 'ad')),
    status     text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'suspended', 'revoked')),
    gsm_only   boolean NOT NULL DEFAULT false,
    two_way    boolean NOT NULL DEFAULT false,
    mms        boolean NOT NULL DEFAULT false,
    skeleton   text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, kind, id)
);
-- A brandname belongs to one account, and so does everything that looks like it (protocol §8).
CREATE UNIQUE INDEX ON sender (skeleton, account_id) WHERE kind = 'brandname';

CREATE TABLE endpoint (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id    integer NOT NULL REFERENCES account,
    event         text NOT NULL CHECK (event IN ('report', 'sms')),
    url           text NOT NULL,
    secrets       text[] NOT NULL,
    legacy_secret text,
    enabled       boolean NOT NULL DEFAULT true,
    disabled_why  text,
    failing_since timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON endpoint (account_id);

CREATE TABLE price (
    kind              text NOT NULL CHECK (kind IN ('sms', 'voice', 'mms')),
    sms_type          smallint NOT NULL DEFAULT 0,
    carrier           text NOT NULL DEFAULT '',
    country           text NOT NULL DEFAULT '',
    price_vnd         integer NOT NULL CHECK (price_vnd >= 0),
    refund_on_failure boolean NOT NULL DEFAULT false,
    PRIMARY KEY (kind, sms_type, carrier, country)
);

CREATE TABLE portability (number bigint PRIMARY KEY, carrier text NOT NULL);

-- Numbers that are not written to: by list, by their owner's wish, or blocked for fraud (protocol §12).
CREATE TABLE suppression (
    account_id integer NOT NULL,
    number     bigint NOT NULL,
    reason     text NOT NULL CHECK (reason IN ('do_not_call', 'opt_out', 'blocked')),
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, number, reason)
);

CREATE TABLE channel (
    id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name     text NOT NULL UNIQUE,
    kind     text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    enabled  boolean NOT NULL DEFAULT true,
    health   jsonb NOT NULL DEFAULT '{}',
    declared boolean NOT NULL DEFAULT false  -- in the settings' file, and kept as it says there
);

CREATE TABLE route (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id integer NOT NULL REFERENCES channel,
    priority   integer NOT NULL DEFAULT 100,
    kinds      text[] NOT NULL DEFAULT '{sms}',
    sms_types  smallint[] NOT NULL DEFAULT '{}',
    carriers   text[] NOT NULL DEFAULT '{}',
    prefixes   text[] NOT NULL DEFAULT '{}',
    cost_vnd   integer NOT NULL DEFAULT 0 CHECK (cost_vnd >= 0),  -- of a part; among equal priorities the least goes first
    declared   boolean NOT NULL DEFAULT false
);

-- Test tokens always have somewhere to go (SI-4).
INSERT INTO channel (name, kind) VALUES ('simulator', 'sim');

-- A pool is a set of routes that fit a message; 0 is the simulator's own, for test tokens.
CREATE TABLE pool (
    id     smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    routes integer[] NOT NULL UNIQUE
);

CREATE TABLE script (
    number    text PRIMARY KEY,
    outcome   text NOT NULL,
    remaining integer
);

CREATE TABLE setup_link (hash bytea PRIMARY KEY, expires_at timestamptz NOT NULL);

-- One row per living process. Its id is the fence: a dead or late process finds its rows gone.
CREATE TABLE node (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    role        text NOT NULL,
    host        text NOT NULL,
    pid         integer NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    lease_until timestamptz NOT NULL
);

-- ---------------------------------------------------------------- requests and messages (insert)

CREATE TABLE request (
    id         bigint NOT NULL,
    tran_id    integer NOT NULL,
    account_id integer NOT NULL,
    token_id   integer NOT NULL,
    kind       text NOT NULL,
    sms_type   smallint NOT NULL,
    sender     text NOT NULL,
    content    text NOT NULL,
    encoding   text NOT NULL,
    units      smallint NOT NULL,
    parts      smallint NOT NULL,
    lane       smallint NOT NULL,
    total_vnd  bigint NOT NULL,
    validity_s integer NOT NULL,
    due        timestamptz NOT NULL,
    reference  text,
    test       boolean NOT NULL,
    at         timestamptz NOT NULL,
    PRIMARY KEY (tran_id, id)
) PARTITION BY RANGE (id);

CREATE TABLE message (
    account_id integer NOT NULL,
    id         bigint NOT NULL,
    number     bigint NOT NULL,
    price_vnd  integer NOT NULL,
    carrier    smallint NOT NULL,
    pool       smallint NOT NULL,
    refund     boolean NOT NULL,
    entry      text NOT NULL,
    PRIMARY KEY (account_id, id)
) PARTITION BY RANGE (id);

-- What happened between acceptance (the message itself) and the end (final): one row per attempt's
-- outcome, temporary report or correction.
CREATE TABLE event (
    account_id integer NOT NULL,
    message    bigint NOT NULL,
    at         timestamptz NOT NULL,
    kind       text NOT NULL,
    attempt    smallint NOT NULL,
    channel_id integer NOT NULL,
    status     smallint,
    started_at timestamptz,
    detail     text
) PARTITION BY RANGE (message);
CREATE INDEX ON event (account_id, message);
-- Reports count how many temporary ones there were, and nearly always there was none.
CREATE INDEX ON event (account_id, message) WHERE kind = 'temporary';

CREATE TABLE final (
    account_id integer NOT NULL,
    message    bigint NOT NULL,
    status     smallint NOT NULL,
    at         timestamptz NOT NULL,
    cause      text NOT NULL,
    PRIMARY KEY (account_id, message)
) PARTITION BY RANGE (message);

CREATE TABLE idempotency (
    account_id  integer NOT NULL,
    endpoint    text NOT NULL,
    key         text NOT NULL,
    fingerprint bytea NOT NULL,
    body        bytea NOT NULL,
    headers     text[] NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (account_id, endpoint, key)
);
CREATE INDEX ON idempotency USING brin (at);

-- What the rules of protocol §11 (spend caps), §12 (three advertisements a day) count.
CREATE TABLE spend (
    account_id integer NOT NULL,
    token_id   integer NOT NULL,
    at         timestamptz NOT NULL,
    amount_vnd bigint NOT NULL
);
CREATE INDEX ON spend (account_id, at);
CREATE TABLE ad_sent (account_id integer NOT NULL, number bigint NOT NULL, at timestamptz NOT NULL);
CREATE INDEX ON ad_sent (account_id, number, at);

-- ---------------------------------------------------------------- the queue (insert, delete)

CREATE TABLE ready (
    pool       smallint NOT NULL,
    lane       smallint NOT NULL,
    due        timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    account_id integer NOT NULL,
    message    bigint NOT NULL,
    attempt    smallint NOT NULL,
    tries      smallint NOT NULL
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 1000000);
CREATE INDEX ready_due ON ready (pool, lane, due);

-- Attempts that were started and whose message is not final. The row is the *started* mark, committed
-- before any byte leaves; it stays until the message is final. due: when the sweep looks at it again.
CREATE TABLE flight (
    message    bigint NOT NULL,
    attempt    smallint NOT NULL,
    tries      smallint NOT NULL,
    account_id integer NOT NULL,
    channel_id integer NOT NULL,
    node_id    integer NOT NULL,
    lane       smallint NOT NULL,
    pool       smallint NOT NULL,
    started_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    due        timestamptz NOT NULL,
    PRIMARY KEY (message, attempt)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
        autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 1000000);
CREATE INDEX flight_due ON flight (due);

-- ---------------------------------------------------------------- what carriers say

-- The carrier's ids. key: what receipts find them by (channels §3.11); until: then it means somebody else.
CREATE TABLE reference (
    message    bigint NOT NULL,
    number     bigint NOT NULL,
    until      timestamptz NOT NULL,
    channel_id integer NOT NULL,
    account_id integer NOT NULL,
    attempt    smallint NOT NULL,
    part       smallint NOT NULL,
    parts      smallint NOT NULL,
    test       boolean NOT NULL,
    key        text COLLATE "C" NOT NULL,
    reference  text NOT NULL,
    -- The customer's own, of the message's request; '' for none, NULL where it is to be looked up.
    request_reference text
) PARTITION BY RANGE (message);
CREATE INDEX ON reference (channel_id, key);
-- Parts are told one by one, before their message is whole (CH-4).
CREATE UNIQUE INDEX ON reference (message, attempt, part) WHERE parts > 1;

-- Receipts not matched yet: too early, unknown, or not due (the simulator's).
CREATE TABLE receipt (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel_id  integer NOT NULL,
    reference   text NOT NULL,
    keys        text[] NOT NULL,
    number      bigint,
    message     bigint,
    attempt     smallint NOT NULL,
    part        smallint NOT NULL,
    parts       smallint NOT NULL,
    whole       boolean NOT NULL,
    status      smallint,
    cause       text NOT NULL,
    raw         bytea,
    peer_time   timestamptz,
    received_at timestamptz NOT NULL,
    due         timestamptz NOT NULL
);
CREATE INDEX ON receipt (due);
CREATE INDEX ON receipt (channel_id, number);

-- Parts whose outcome is unknown: what an unmatched receipt may be about (adoption, channels §1.8).
CREATE TABLE doubt (
    channel_id integer NOT NULL,
    number     bigint NOT NULL,
    account_id integer NOT NULL,
    message    bigint NOT NULL,
    attempt    smallint NOT NULL,
    part       smallint NOT NULL,
    parts      smallint NOT NULL,
    until      timestamptz NOT NULL,
    PRIMARY KEY (message, attempt, part)
);
CREATE INDEX ON doubt (channel_id, number);

-- The concatenation reference of a message of several parts: one more than the number's last (channels §3.9).
CREATE TABLE concat (
    message bigint PRIMARY KEY,
    number  bigint NOT NULL,
    ref     integer NOT NULL,
    at      timestamptz NOT NULL
);
CREATE INDEX ON concat (number, at);

-- Which process holds which link of a channel (CH-9); a row of a dead node is free.
CREATE TABLE link (
    channel_id integer NOT NULL,
    n          smallint NOT NULL,
    node_id    integer NOT NULL,
    PRIMARY KEY (channel_id, n)
);

-- Final parts of a message of several parts that is not final yet.
CREATE TABLE part_final (
    message bigint NOT NULL,
    attempt smallint NOT NULL,
    part    smallint NOT NULL,
    status  smallint NOT NULL,
    PRIMARY KEY (message, attempt, part)
);

CREATE TABLE incoming (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id  integer,
    channel_id  integer NOT NULL,
    sender      text NOT NULL,
    recipient   text NOT NULL,
    content     text NOT NULL,
    partial     boolean NOT NULL DEFAULT false,
    dedup_key   text NOT NULL,
    raw         bytea,
    peer_time   timestamptz,
    received_at timestamptz NOT NULL,
    UNIQUE (channel_id, dedup_key)
);
CREATE INDEX ON incoming (account_id, id);

-- Parts of long incoming messages, until all are there or ten minutes have passed (SM-42, SM-43).
CREATE TABLE incoming_part (
    channel_id  integer NOT NULL,
    sender      text NOT NULL,
    recipient   text NOT NULL,
    reference   integer NOT NULL,
    width       smallint NOT NULL,
    total       smallint NOT NULL,
    part        smallint NOT NULL,
    octets      bytea NOT NULL,
    alphabet    text NOT NULL,
    content     text NOT NULL,
    dedup_key   text NOT NULL,
    raw         bytea,
    peer_time   timestamptz,
    received_at timestamptz NOT NULL,
    joined_at   timestamptz,
    PRIMARY KEY (channel_id, sender, recipient, reference, width, total, part)
);
CREATE INDEX ON incoming_part (received_at);

-- ---------------------------------------------------------------- webhooks

CREATE TABLE outbox (
    endpoint_id integer NOT NULL,
    due         timestamptz NOT NULL,
    id          bigint GENERATED ALWAYS AS IDENTITY,
    account_id  integer NOT NULL,
    event_id    uuid NOT NULL DEFAULT gen_random_uuid(),
    kind        text NOT NULL,
    subject     bigint NOT NULL,
    status      smallint,
    sequence    smallint NOT NULL,
    attempt     smallint NOT NULL DEFAULT 0,
    phone_form  text NOT NULL,
    created_at  timestamptz NOT NULL,
    -- Of a report, where its writer knew them: its number, and its request's reference, '' for none. What is
    -- NULL is looked up.
    number      bigint,
    reference   text,
    PRIMARY KEY (endpoint_id, due, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 1000000);

-- Dead letters: an outbox row whose schedule ended, or whose endpoint is gone.
CREATE TABLE buried (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    endpoint_id integer NOT NULL,
    account_id  integer NOT NULL,
    event_id    uuid NOT NULL,
    kind        text NOT NULL,
    subject     bigint NOT NULL,
    status      smallint,
    sequence    smallint NOT NULL,
    phone_form  text NOT NULL,
    created_at  timestamptz NOT NULL,
    buried_at   timestamptz NOT NULL,
    reason      text NOT NULL
);
CREATE INDEX ON buried (account_id, buried_at);

CREATE TABLE attempt_log (
    account_id  integer NOT NULL,
    kind        text NOT NULL,
    subject     bigint NOT NULL,
    event_id    uuid NOT NULL,
    endpoint_id integer NOT NULL,
    at          timestamptz NOT NULL,
    attempt     smallint NOT NULL,
    http_status smallint,
    duration_ms integer NOT NULL,
    outcome     text NOT NULL,
    detail      text NOT NULL,
    next_due    timestamptz
) PARTITION BY RANGE (at);
CREATE INDEX ON attempt_log (account_id, subject);

-- ---------------------------------------------------------------- the ledger (append-only)

-- One row moves amount_vnd from one book of the account to another. Books: 1 outside, 2 available,
-- 3 holding, 4 revenue. ref is a message's id, or request << 7 for a hold, or a number of its own
-- (n = 127) for top-ups. leg: 0 hold, top-up, adjustment; 1 the one end of a message's hold; 2 the one refund.
CREATE TABLE transfer (
    account_id integer NOT NULL,
    ref        bigint NOT NULL,
    leg        smallint NOT NULL CHECK (leg IN (0, 1, 2)),
    code       smallint NOT NULL,
    debit      smallint NOT NULL,
    credit     smallint NOT NULL,
    amount_vnd bigint NOT NULL CHECK (amount_vnd > 0 OR (amount_vnd = 0 AND code IN (2, 3, 4))),
    at         timestamptz NOT NULL,
    note       text,
    PRIMARY KEY (account_id, ref, leg),
    CONSTRAINT books CHECK ((code, debit, credit) IN
        ((1, 1, 2), (2, 2, 3), (3, 3, 4), (4, 3, 2), (5, 4, 2), (6, 1, 2), (6, 2, 1)))
) WITH (autovacuum_vacuum_insert_threshold = 500000, autovacuum_vacuum_insert_scale_factor = 0.5,
        autovacuum_analyze_threshold = 500000, autovacuum_analyze_scale_factor = 0.5);
CREATE UNIQUE INDEX ON transfer (account_id, note) WHERE code IN (1, 6) AND note IS NOT NULL;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: write an adjusting transfer instead' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ---------------------------------------------------------------- rate windows (lost in a crash, by design)

CREATE UNLOGGED TABLE rate_window (
    account_id integer PRIMARY KEY,
    hits       double precision[] NOT NULL
) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- ---------------------------------------------------------------- partitions

-- The first id of a moment, at a shift of 31 (requests) or 38 (messages).
CREATE FUNCTION first_id(moment timestamptz, shift integer) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT (greatest(extract(epoch FROM moment) - 1735689600, 0) / 60)::bigint << shift $$;

-- Makes the partition of one table for the week that holds a moment; true if it was missing. The application
-- role may call it, not make tables. One table in one transaction: it locks the whole table for an instant, and
-- holding two such locks would deadlock with every statement that needs both.
CREATE FUNCTION make_partition(parent text, moment timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET lock_timeout = '3s' AS $$
DECLARE
    week timestamptz := date_trunc('week', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    child text := parent || to_char(week AT TIME ZONE 'UTC', '_YYYYMMDD');
    shift integer := CASE parent WHEN 'attempt_log' THEN 0 WHEN 'request' THEN 31 ELSE 38 END;
    lower_bound text := CASE shift WHEN 0 THEN quote_literal(week) ELSE first_id(week, shift)::text END;
    upper_bound text := CASE shift WHEN 0 THEN quote_literal(week + interval '7 days')
                                   ELSE first_id(week + interval '7 days', shift)::text END;
BEGIN
    IF parent NOT IN ('request', 'message', 'event', 'final', 'reference', 'attempt_log') THEN
        RAISE EXCEPTION 'table % has no weeks', parent;
    END IF;
    IF to_regclass(format('%I', child)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s) WITH
        (autovacuum_vacuum_insert_threshold = 500000, autovacuum_vacuum_insert_scale_factor = 0.5,
         autovacuum_analyze_threshold = 500000, autovacuum_analyze_scale_factor = 0.5)',
        child, parent, lower_bound, upper_bound);
    RETURN true;
END $$;

-- Drops the weekly partitions of one table that end before a moment; gives their names.
CREATE FUNCTION drop_partitions(parent text, before timestamptz) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    child text;
BEGIN
    IF parent NOT IN ('request', 'message', 'event', 'final', 'reference', 'attempt_log') THEN
        RAISE EXCEPTION 'table % is not dropped by age', parent;
    END IF;
    FOR child IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = to_regclass(format('%I', parent)) AND c.relname ~ '_[0-9]{8}$' LOOP
        IF to_date(right(child, 8), 'YYYYMMDD') + 7 <= (before AT TIME ZONE 'UTC')::date THEN
            EXECUTE format('DROP TABLE %I', child);
            RETURN NEXT child;
        END IF;
    END LOOP;
END $$;

-- A clock that runs wild must not lose a message: the default partitions take what no week covers.
CREATE TABLE request_other PARTITION OF request DEFAULT;
CREATE TABLE message_other PARTITION OF message DEFAULT;
CREATE TABLE event_other PARTITION OF event DEFAULT;
CREATE TABLE final_other PARTITION OF final DEFAULT;
CREATE TABLE reference_other PARTITION OF reference DEFAULT;
CREATE TABLE attempt_log_other PARTITION OF attempt_log DEFAULT;
SELECT make_partition(t, now() + w * interval '7 days')
FROM unnest('{request,message,event,final,reference,attempt_log}'::text[]) t, generate_series(0, 2) w;

-- ---------------------------------------------------------------- privileges (DB-9)

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :app;
REVOKE UPDATE, DELETE ON transfer FROM :app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :app;
GRANT EXECUTE ON FUNCTION make_partition(text, timestamptz), drop_partitions(text, timestamptz) TO :app;

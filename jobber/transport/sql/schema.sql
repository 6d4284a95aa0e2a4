-- The PostgreSQL transport. UNLOGGED: the jobs schema alone is the truth, and what a crash of the server empties is issued again.
CREATE SCHEMA IF NOT EXISTS transport;

CREATE UNLOGGED TABLE transport.messages (
    topic text NOT NULL,
    -- A UUID that sorts by time. Not a sequence: an unlogged one begins again after a crash, and a late acknowledgement of an old
    -- message would then delete a new one.
    id uuid NOT NULL,
    body bytea NOT NULL,
    -- A JSON object of texts; mostly there is none.
    properties text,
    -- Nobody is handed the message before. A new one is visible whatever the clock says: a clock that is set back hides nothing.
    visible_at timestamptz NOT NULL DEFAULT '-infinity',
    -- Who was handed it; an advisory lock of that number tells whether it lives.
    holder integer,
    PRIMARY KEY (topic, id)
) WITH (
    -- The only index has no column that a delivery changes: with room in its page, an update touches no index (HOT).
    fillfactor = 50,
    -- A queue is a small table with much traffic: clean it by count, not by share, and without pauses.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);

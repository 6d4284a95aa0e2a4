-- The PostgreSQL transport. UNLOGGED: the jobs schema alone is the truth, and what is lost here is issued again.
CREATE SCHEMA IF NOT EXISTS transport;

CREATE UNLOGGED TABLE IF NOT EXISTS transport.messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    body bytea NOT NULL,
    -- Nobody is handed the message before.
    visible_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Who was handed it last; its advisory lock tells whether it lives.
    consumer bigint
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, fillfactor = 70);
CREATE INDEX IF NOT EXISTS messages_waiting ON transport.messages (topic, visible_at, id);

CREATE SEQUENCE IF NOT EXISTS transport.consumers;

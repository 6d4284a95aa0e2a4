-- Who may log in, and their sessions. Moments are by the database's clock.

CREATE TABLE auth.users (
    id uuid PRIMARY KEY,
    -- As it was given, for people.
    email text NOT NULL,
    -- Normalised and case-folded (api.auth.model.email_key): one user an address, however it is written.
    email_key text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    role text NOT NULL CHECK (role IN ('ADMIN', 'MEMBER', 'VIEWER')),
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE auth.sessions (
    -- The token's jti.
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users (id),
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    -- By logout, password change or disabling.
    revoked_at timestamptz
);
CREATE INDEX sessions_of_user ON auth.sessions (user_id);
CREATE INDEX sessions_by_expiry ON auth.sessions (expires_at);

-- What programs log in with. Only the hash of a token is stored; the token is shown once, when it is made.
CREATE TABLE auth.api_tokens (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES auth.users (id),
    name text NOT NULL,
    scopes text[] NOT NULL,
    sha256 bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz,
    -- To the minute.
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_tokens_of_user ON auth.api_tokens (user_id);

-- Failed logins by account and by address (hashed). Not worth a write-ahead log: a crash of the database forgets them.
CREATE UNLOGGED TABLE auth.login_failures (
    key bytea PRIMARY KEY,
    failures integer NOT NULL,
    since timestamptz NOT NULL
);

-- Who did what; it only grows.
CREATE TABLE auth.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Null for the operator at the command line.
    actor_id uuid,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail jsonb
);

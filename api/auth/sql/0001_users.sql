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

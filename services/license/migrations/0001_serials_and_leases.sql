-- Serials, and who runs under them. The licence server has no tenants: its customers are installations.
create table serials (
    serial text primary key,
    description text not null,
    created timestamptz not null
);

-- The newest lease of each instance. No two installations hold rows of one serial whose grace is not over: kept
-- by locking the serial's row first.
create table leases (
    serial text not null references serials,
    installation text not null,
    role text not null,
    instance text not null,
    fingerprint text not null,
    address text not null,
    issued timestamptz not null,
    expires timestamptz not null,
    grace_ends timestamptz not null,
    primary key (serial, role, instance)
);

-- Requests seen within the skew allowed, so that none is answered twice.
create table nonces (
    nonce bytea primary key,
    seen timestamptz not null
);
create index nonces_seen on nonces (seen);

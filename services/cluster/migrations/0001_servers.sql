-- Every server of the installation, as it last said of itself. No tenant owns a row.
create table servers (
    role text not null,
    instance text not null,
    version text not null,
    public_endpoint text not null,
    internal_endpoint text not null,
    started timestamptz not null,
    last_seen timestamptz not null,
    primary key (role, instance)
);

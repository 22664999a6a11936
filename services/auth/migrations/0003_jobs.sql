-- Jobs, with counts that servers may know and text that only the user can open.

create table jobs (
    id               uuid primary key,
    tenant_id        uuid not null,
    user_id          uuid not null,
    device_id        uuid not null,
    kind             integer not null,
    status           integer not null,
    vault_id         uuid,
    item_id          uuid,
    started          timestamptz not null,
    ended            timestamptz,
    files            bigint not null default 0,
    folders          bigint not null default 0,
    bytes            bigint not null default 0,
    uploaded_bytes   bigint not null default 0,
    downloaded_bytes bigint not null default 0,
    total_files      bigint not null default 0,
    total_bytes      bigint not null default 0,
    warnings         bigint not null default 0,
    snapshot         text not null default '',
    sealed_progress  bytea not null default '',
    client_version   text not null,
    progress_counter bigint not null default 0,
    log_lines        bigint not null default 0,
    -- SHA-256 of the calls that started and ended it: a repeated call is known by its content.
    started_by       bytea not null,
    ended_by         bytea,
    foreign key (user_id, tenant_id) references users (id, tenant_id) on delete cascade,
    foreign key (device_id, user_id) references devices (id, user_id),
    unique (id, user_id),
    check ((ended is null) = (ended_by is null))
);
create index jobs_of_user on jobs (user_id, started desc, id desc);
create index jobs_of_device on jobs (device_id, started desc, id desc);
alter table jobs enable row level security;
alter table jobs force row level security;
create policy tenant_rows on jobs
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on jobs as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

create table job_log (
    job_id    uuid not null,
    number    bigint not null,
    tenant_id uuid not null,
    user_id   uuid not null,
    time      timestamptz not null,
    severity  integer not null,
    sealed    bytea not null,
    primary key (job_id, number),
    foreign key (job_id, user_id) references jobs (id, user_id) on delete cascade
);
alter table job_log enable row level security;
alter table job_log force row level security;
create policy tenant_rows on job_log
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on job_log as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

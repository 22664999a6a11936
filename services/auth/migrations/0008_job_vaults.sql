-- What became of each vault of a job: a backup may go to several.

create table job_vaults (
    job_id       uuid not null,
    number       integer not null,
    tenant_id    uuid not null,
    user_id      uuid not null,
    vault_id     uuid not null,
    status       integer not null,
    snapshot     text not null,
    sealed_error bytea not null,
    primary key (job_id, number),
    foreign key (job_id, user_id) references jobs (id, user_id) on delete cascade
);
alter table job_vaults enable row level security;
alter table job_vaults force row level security;
create policy tenant_rows on job_vaults
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on job_vaults as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

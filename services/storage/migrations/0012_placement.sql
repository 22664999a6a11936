-- Nodes that are drained or removed, and how buckets change their homes: docs/decisions/placement.md.

-- In the order in which most transactions of nodes that run take them.
lock table buckets, missing_copies, verified_copies, scrubs, homes, nodes in access exclusive mode;

-- `draining`: it takes no new buckets, and those that it has get other homes. `removed`: it is to hold nothing any more.
-- `lost`: so is one that was gone with all that it had, until its disks are read again.
alter table nodes add column state text not null default 'serving'
    check (state in ('serving', 'draining', 'removed', 'lost'));

-- The last migration that a node's version knows; 0: one before this, which takes a home for one that stays.
alter table nodes add column catalogue int not null default 0;

-- While what it lacks is being entered, in pages by kind and SHA-256, and up to which object that is done: until then a
-- home counts as having nothing.
alter table homes add column joining boolean not null default false;
alter table homes add column entered_kind text not null default '';
alter table homes add column entered_sha256 bytea not null default '';
create index homes_joining on homes (bucket_id) where joining;
-- The mark of a home that is to go, and waits only for the other ones to compare their disks once more: when it was made.
alter table homes add column leaving timestamptz;
-- The mark that the home has seen before it compared its disk, and found that it lacks nothing.
alter table homes add column compared timestamptz;
-- Why it cannot go yet, for a person.
alter table homes add column waits text not null default '';
create index homes_leaving on homes (bucket_id) where leaving is not null;

-- What is said of a copy is said of one on a home, and goes with it. What is there already is said of homes, since none
-- has ever left: it is not looked at, for the nodes that run would wait as long as that takes.
do $$
declare
    owned text;
begin
    foreach owned in array array['missing_copies', 'verified_copies', 'scrubs'] loop
        execute format('alter table %I add foreign key (bucket_id, node_id) references homes on delete cascade not valid',
            owned);
    end loop;
end
$$;

-- Former homes whose files are still to be removed. While its row is here a node does not become a home of the bucket.
create table clearings (
    bucket_id uuid not null references buckets on delete cascade,
    node_id text not null references nodes,
    tenant_id uuid not null,
    user_id uuid not null,
    since timestamptz not null default now(),
    -- Noted on the disks when it is done: an older copy of the database does not ask for it again.
    id uuid not null default gen_random_uuid(),
    primary key (node_id, bucket_id)
);
alter table clearings enable row level security;
alter table clearings force row level security;
create policy tenant_rows on clearings
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on clearings as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

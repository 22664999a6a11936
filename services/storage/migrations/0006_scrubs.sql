-- When each copy was last read whole and found right. A copy without a row was found so when its object was created:
-- every put is verified. Rows are entered by the copy's own node, which scrubs the oldest first.
create table verified_copies (
    object_id bigint not null references objects on delete cascade,
    node_id text not null references nodes,
    bucket_id uuid not null,
    tenant_id uuid not null,
    user_id uuid not null,
    verified timestamptz not null,
    primary key (object_id, node_id)
);
create index verified_copies_oldest on verified_copies (node_id, verified);
create index verified_copies_by_bucket on verified_copies (bucket_id, node_id, verified);

-- What an operator has asked for: each home reads all that it holds of the bucket, and says here how far it is.
create table scrubs (
    bucket_id uuid not null references buckets on delete cascade,
    node_id text not null references nodes,
    tenant_id uuid not null,
    user_id uuid not null,
    asked timestamptz not null default now(),
    entered boolean not null default false, -- every copy has its row in verified_copies
    copies bigint not null default 0,
    bytes bigint not null default 0,
    damaged bigint not null default 0,
    done timestamptz,
    primary key (bucket_id, node_id)
);
create index scrubs_to_do on scrubs (node_id, asked) where done is null;

do $$
declare
    owned text;
begin
    foreach owned in array array['verified_copies', 'scrubs'] loop
        execute format('alter table %I enable row level security', owned);
        execute format('alter table %I force row level security', owned);
        execute format($policy$
            create policy tenant_rows on %I
            using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
            with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
        $policy$, owned);
        execute format($policy$
            create policy user_rows on %I as restrictive
            using ((select nullif(current_setting('oort.user', true), '')) is null
                or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
            with check ((select nullif(current_setting('oort.user', true), '')) is null
                or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
        $policy$, owned);
    end loop;
end
$$;

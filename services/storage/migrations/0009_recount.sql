-- What rows that were there before need. Forced row-level security hides them from the owner too, which is why the
-- updates of 0003 found none: it is let go of for this transaction, which holds the tables.
alter table buckets no force row level security;
alter table objects no force row level security;
alter table sessions no force row level security;

update sessions set ended = now() where ended_seq is not null and ended is null;
update objects set condemned = now() where state = 'condemned' and condemned is null;
update buckets b set
    live_snapshots = (select count(*) from objects o where o.bucket_id = b.id and o.state = 'live' and o.kind = 'snapshots'),
    live_bytes = (select coalesce(sum(o.size), 0) from objects o
                  where o.bucket_id = b.id and o.state = 'live' and o.kind = 'data');

alter table buckets force row level security;
alter table objects force row level security;
alter table sessions force row level security;

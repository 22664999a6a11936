-- The home missed the put, and not for want of room: what was condemned in the bucket from this seq on stays until it
-- has its copy. Null: nothing waits for it.
alter table missing_copies add column holds_from bigint;
create index missing_copies_awaited on missing_copies (bucket_id, holds_from) where holds_from is not null;

-- What a session has stored that is live: the brake asks it at removals, and of the retentions of a bucket.
create index objects_by_creator on objects (created_by) include (size) where kind = 'data' and state = 'live';
create index sessions_retaining on sessions (bucket_id) where purpose = 'retention';

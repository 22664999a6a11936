"""The embedded stack: Postgres, Redis and every role on one machine, out of nothing but this distribution."""

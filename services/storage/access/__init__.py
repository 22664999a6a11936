"""Who may call, how often, and how much a tenant may store."""

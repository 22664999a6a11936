"""What sessions may see and do, and what their puts enter in the catalogue (docs/sessions.md)."""

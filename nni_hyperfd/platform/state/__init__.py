"""What the platform keeps: its database, the schema and how it grows, and backups."""

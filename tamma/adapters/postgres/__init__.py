"""State in Postgres: tables, guarded statements with their events, migrations, an embedded server."""

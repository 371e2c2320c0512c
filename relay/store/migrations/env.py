"""What Alembic runs: the connection is handed in by ``relay.store.schema``."""

from __future__ import annotations

from alembic import context

from relay.store.tables import metadata

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("migrations run by `relay migrate`, which knows the store")
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    transaction_per_migration=False,
)
context.run_migrations()

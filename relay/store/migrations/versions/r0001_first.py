"""The first schema.

It makes the tables as ``relay.store.tables`` has them now; from the second revision on a revision writes
out its own steps, and a test holds the sum of all of them against the tables.
"""

from __future__ import annotations

from alembic import op

from relay.store.tables import metadata

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    metadata.create_all(connection)
    if connection.dialect.name == "postgresql":
        # Bodies do not compress well enough to pay for it on every message.
        op.execute("ALTER TABLE body_chunk ALTER COLUMN data SET STORAGE EXTERNAL")
        op.execute("ALTER TABLE message ALTER COLUMN header SET STORAGE EXTERNAL")


def downgrade() -> None:
    raise NotImplementedError("a store is restored from its backup, not migrated back")

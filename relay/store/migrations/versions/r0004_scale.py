"""Indexes for large stores: what is held, events by message and by lease, usage by day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_recipient_due", "recipient")
    _partial_index("ix_recipient_due", "recipient", ["due_at", "state"], "state = 'queued'")
    _partial_index("ix_recipient_held", "recipient", ["due_at", "message_id", "state"], "state = 'held'")
    _partial_index("ix_outbox_lease", "outbox", ["worker_id", "worker_epoch"], "state = 'leased'")
    op.create_index(op.f("ix_outbox_message_id"), "outbox", ["message_id"])
    if op.get_bind().dialect.name == "postgresql":  # SQLite would take it where its key is faster
        op.create_index("ix_usage_day_day", "usage_day", ["day"])


def downgrade() -> None:
    raise NotImplementedError("a store is restored from its backup, not migrated back")


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    only = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=only, postgresql_where=only)

"""Accounts take turns when what is due is claimed: an index of it by account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    is_queued = sa.text("state = 'queued'")
    op.create_index(
        "ix_recipient_turn",
        "recipient",
        ["account_id", "due_at"],
        sqlite_where=is_queued,
        postgresql_where=is_queued,
    )


def downgrade() -> None:
    raise NotImplementedError("a store is restored from its backup, not migrated back")

"""Quotas, verification, source networks, TLS by configuration set, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# New columns may be null or have a default, so that the previous release still writes its rows.


def upgrade() -> None:
    _quotas()
    _verification()
    _sending()
    _audit()


def downgrade() -> None:
    raise NotImplementedError("a store is restored from its backup, not migrated back")


def _quotas() -> None:
    op.create_table(
        "quota",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("sent_24h", sa.BigInteger(), nullable=False),
        sa.Column("from_minute", sa.BigInteger(), nullable=False),
        sa.Column("credit", sa.BigInteger(), nullable=False),
        sa.Column("credit_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_quota")),
    )
    op.create_table(
        "usage_minute",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recipients", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "minute", name=op.f("pk_usage_minute")),
        sqlite_with_rowid=False,
    )


def _verification() -> None:
    columns = (
        sa.Column("verification_requested_at", sa.BigInteger()),
        sa.Column("check_at", sa.BigInteger()),
        sa.Column("failing_since", sa.BigInteger()),
        sa.Column("dkim_requested_at", sa.BigInteger()),
        sa.Column("dkim_failing_since", sa.BigInteger()),
        sa.Column("confirmation", sa.String(length=64)),
        sa.Column("mail_from_domain", sa.String(length=255)),
        sa.Column("mail_from_status", sa.String(length=24)),
        sa.Column("mail_from_on_failure", sa.String(length=24)),
        sa.Column("mail_from_requested_at", sa.BigInteger()),
    )
    for column in columns:
        op.add_column("identity", column)
    op.create_index(op.f("ix_identity_check_at"), "identity", ["check_at"])


def _sending() -> None:
    op.add_column("credential", sa.Column("networks", sa.Text()))
    op.add_column(
        "configuration_set",
        sa.Column("tls_policy", sa.String(length=16), nullable=False, server_default="OPTIONAL"),
    )
    op.add_column(
        "message", sa.Column("require_tls", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("recipient", sa.Column("held_because", sa.String(length=16)))
    op.create_table(
        "mta_sts_policy",
        sa.Column("domain", sa.String(length=255), nullable=False),
        sa.Column("policy_id", sa.String(length=32), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("fetched_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain", name=op.f("pk_mta_sts_policy")),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.INTEGER(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=256), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=512), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"])
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)


# Entries are added and never touched again, whatever the program or a hand at the database does.
_APPEND_ONLY = {
    "sqlite": [
        """CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END""",
        """CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$""",
        """CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()""",
    ],
}

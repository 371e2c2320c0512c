"""Topics, notifications, suppression, late reports, usage and the ledger; tags and templates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")

# New columns may be null or have a default, so that the previous release still writes its rows.


def upgrade() -> None:
    _columns()
    _topics()
    _subscriptions()
    _notifications()
    _accounting()
    _ledger()
    _tags_and_templates()


def downgrade() -> None:
    raise NotImplementedError("a store is restored from its backup, not migrated back")


def _columns() -> None:
    op.add_column(
        "account",
        sa.Column("suppressed_reasons", sa.Text(), nullable=False, server_default='["BOUNCE","COMPLAINT"]'),
    )
    op.add_column("account", sa.Column("reputation_since", sa.BigInteger()))
    op.add_column("account", sa.Column("reputation_before", sa.Text()))
    op.add_column(
        "account",
        sa.Column("reputation_status", sa.String(length=12), nullable=False, server_default="HEALTHY"),
    )
    for kind in ("bounce", "complaint", "delivery"):
        op.add_column("identity", sa.Column(f"{kind}_topic", sa.String(length=256)))
    for kind in ("bounce", "complaint", "delivery"):
        op.add_column(
            "identity",
            sa.Column(f"headers_in_{kind}", sa.Boolean(), nullable=False, server_default=sa.false()),
        )
    op.add_column("configuration_set", sa.Column("max_delivery_seconds", sa.Integer()))
    op.add_column("configuration_set", sa.Column("suppressed_reasons", sa.Text()))
    op.add_column("message", sa.Column("events", sa.String(length=64), nullable=False, server_default=""))


def _topics() -> None:
    op.create_table(
        "event_destination",
        sa.Column("id", _KEY, autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("configuration_set_id", _KEY, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("event_types", sa.Text(), nullable=False),
        sa.Column("topic_arn", sa.String(length=256), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_destination")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.account_id"], name=op.f("fk_event_destination_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["configuration_set_id"],
            ["configuration_set.id"],
            name=op.f("fk_event_destination_configuration_set_id"),
        ),
        sa.UniqueConstraint(
            "configuration_set_id", "name", name=op.f("uq_event_destination_configuration_set_id_name")
        ),
    )
    op.create_table(
        "topic",
        sa.Column("id", _KEY, autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=256), nullable=False),
        sa.Column("signature_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_topic")),
        sa.ForeignKeyConstraint(["account_id"], ["account.account_id"], name=op.f("fk_topic_account_id")),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_topic_account_id_name")),
    )
    op.create_table(
        "topic_consent",
        sa.Column("topic_id", _KEY, nullable=False),
        sa.Column("owner_account_id", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("topic_id", "owner_account_id", name=op.f("pk_topic_consent")),
        sa.ForeignKeyConstraint(["topic_id"], ["topic.id"], name=op.f("fk_topic_consent_topic_id")),
    )


def _subscriptions() -> None:
    op.create_table(
        "subscription",
        sa.Column("id", _KEY, autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("topic_id", _KEY, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("protocol", sa.String(length=16), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("confirmation", sa.String(length=64)),
        sa.Column("raw_delivery", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.LargeBinary()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger()),
        sa.Column("failing_since", sa.BigInteger()),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.account_id"], name=op.f("fk_subscription_account_id")
        ),
        sa.ForeignKeyConstraint(["topic_id"], ["topic.id"], name=op.f("fk_subscription_topic_id")),
        sa.UniqueConstraint("uuid", name=op.f("uq_subscription_uuid")),
    )
    op.create_index(op.f("ix_subscription_topic_id"), "subscription", ["topic_id"])
    op.create_table(
        "sns_key",
        sa.Column("id", _KEY, autoincrement=False, nullable=False),
        sa.Column("private_key", sa.LargeBinary(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sns_key")),
    )


def _notifications() -> None:
    op.create_table(
        "notification",
        sa.Column("id", _KEY, autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("subscription_id", _KEY, nullable=False),
        sa.Column("event_id", _KEY, nullable=False),
        sa.Column("event_type", sa.String(length=24), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.Column("worker_epoch", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
    )
    op.create_index(op.f("ix_notification_event_id"), "notification", ["event_id"])
    due = ["subscription_id", "due_at"]
    _partial_index("ix_notification_due", "notification", due, "state = 'queued'")
    leased = ["worker_id", "worker_epoch"]
    _partial_index("ix_notification_lease", "notification", leased, "state = 'leased'")
    op.create_table(
        "report",
        sa.Column("message_id", _KEY, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "number", "kind", name=op.f("pk_report")),
        sqlite_with_rowid=False,
    )


def _partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    only = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=only, postgresql_where=only)


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _accounting() -> None:
    op.create_table(
        "suppressed",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("folded", sa.String(length=320), nullable=False),
        sa.Column("address", sa.String(length=320), nullable=False),
        sa.Column("reason", sa.String(length=16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("message_id", _KEY),
        sa.Column("feedback_id", sa.String(length=80)),
        sa.PrimaryKeyConstraint("account_id", "folded", name=op.f("pk_suppressed")),
        sqlite_with_rowid=False,
    )
    counted = ("messages", "recipients", "bytes", "delivered", "hard_bounces", "soft_bounces", "complaints")
    op.create_table(
        "usage_day",
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("identity_arn", sa.String(length=512), nullable=False),
        sa.Column("worker_id", sa.Integer(), autoincrement=False, nullable=False),
        *(_count(name) for name in counted),
        sa.PrimaryKeyConstraint("account_id", "day", "identity_arn", "worker_id", name=op.f("pk_usage_day")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_day_identity_arn_day", "usage_day", ["identity_arn", "day"])


def _ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("id", _KEY, autoincrement=True, nullable=False),
        sa.Column("identity_arn", sa.String(length=512), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger()),
        sa.Column("hash", sa.String(length=64)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
        sqlite_autoincrement=True,
    )
    _partial_index(
        "ix_ledger_identity_arn_seq", "ledger", ["identity_arn", "seq"], "seq IS NOT NULL", unique=True
    )
    _partial_index("ix_ledger_unsealed", "ledger", ["id"], "seq IS NULL")
    for statement in _SEALED[op.get_bind().dialect.name]:
        op.execute(statement)


def _tags_and_templates() -> None:
    op.create_table(
        "resource_tag",
        sa.Column("arn", sa.String(length=512), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.String(length=256), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.PrimaryKeyConstraint("arn", "name", name=op.f("pk_resource_tag")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.account_id"], name=op.f("fk_resource_tag_account_id")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "email_template",
        sa.Column("id", _KEY, autoincrement=False, nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("text", sa.Text()),
        sa.Column("html", sa.Text()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_email_template")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["account.account_id"], name=op.f("fk_email_template_account_id")
        ),
        sa.UniqueConstraint("account_id", "name", name=op.f("uq_email_template_account_id_name")),
    )


# What the sealer has numbered is never touched again, whatever the program or a hand at the database does.
_SEALED = {
    "sqlite": [
        """CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger WHEN OLD.seq IS NOT NULL
        BEGIN SELECT RAISE(ABORT, 'the ledger is sealed'); END""",
        """CREATE TRIGGER ledger_refuses_delete BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    ],
    "postgresql": [
        """CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
        """CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger
        FOR EACH ROW WHEN (OLD.seq IS NOT NULL) EXECUTE FUNCTION ledger_is_append_only()""",
        """CREATE TRIGGER ledger_refuses_delete BEFORE DELETE OR TRUNCATE ON ledger
        FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only()""",
    ],
}

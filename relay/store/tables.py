"""Every table, once, for SQLite and PostgreSQL.

Conventions: keys are 64-bit and time-ordered (``relay.submission.identifiers``) unless the subject has
a natural one (an account's 12 digits, an access key id); instants are integer microseconds UTC; tenant
rows carry ``account_id``.  The hot tables (message, body_chunk, recipient, attempt) have no foreign
keys: their rows come and go in one transaction each, and a check per row would be paid by every message.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    false,
    text,
)
from sqlalchemy.dialects import sqlite

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# On SQLite only a column of type INTEGER becomes the table's own key; BIGINT would cost a second index.
Key = BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
Instant = BigInteger
AccountId = String(12)
ALL_REASONS = '["BOUNCE","COMPLAINT"]'


def _key() -> Column[int]:
    return Column("id", Key, primary_key=True, autoincrement=False)


def _account() -> Column[str]:
    return Column("account_id", AccountId, ForeignKey("account.account_id"), nullable=False)


# ---------------------------------------------------------------- the store itself

meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# What changed in the control plane, in commit order: writers are serialised.  ``subject`` names the
# cached thing that is no longer true ("identity:111122223333:owner.example"); see store/changes.py.
change = Table(
    "change",
    metadata,
    Column("seq", Key, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("subject", String(512), nullable=False),
    Column("action", String(64), nullable=False),
    Column("actor", String(256), nullable=False),
    sqlite_autoincrement=True,
)

# One row a worker process.  A recipient leased to (id, epoch) is that process's until its heartbeat
# stood still for the lease time, or the node starts anew; a process that takes the row raises the epoch.
worker = Table(
    "worker",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("node", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("heartbeat_at", Instant, nullable=False),
    Column("running", Boolean, nullable=False),
)

# ---------------------------------------------------------------- control plane

account = Table(
    "account",
    metadata,
    Column("account_id", AccountId, primary_key=True),
    Column("name", String(128), nullable=False),
    Column("production", Boolean, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("pause_reason", Text),
    Column("max_24h_send", BigInteger),
    Column("max_send_rate", BigInteger),
    Column("created_at", Instant, nullable=False),
    # A JSON list: for which of BOUNCE and COMPLAINT an address gets on the account's suppression list.
    Column("suppressed_reasons", Text, nullable=False, server_default=ALL_REASONS),
    # Reputation counts from when it was last resumed, without what that day had brought by then (a JSON
    # list in the order of Counts); the status is the last that was told.
    Column("reputation_since", Instant),
    Column("reputation_before", Text),
    Column("reputation_status", String(12), nullable=False, server_default="HEALTHY"),
)

# What of an account's quota is used.  ``sent_24h`` is the sum of its rows in ``usage_minute`` from
# ``from_minute`` on; ``credit`` is what is left of one second's quota, in millionths of a recipient and
# negative for a debt, as of ``credit_at``.
quota = Table(
    "quota",
    metadata,
    Column("account_id", AccountId, primary_key=True),
    Column("sent_24h", BigInteger, nullable=False),
    Column("from_minute", BigInteger, nullable=False),
    Column("credit", BigInteger, nullable=False),
    Column("credit_at", Instant, nullable=False),
)

# Recipients accepted for an account in one minute (since 1970), that count against its 24 hours.
usage_minute = Table(
    "usage_minute",
    metadata,
    Column("account_id", AccountId, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("recipients", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

iam_user = Table(
    "iam_user",
    metadata,
    _key(),
    _account(),
    Column("name", String(64), nullable=False),
    Column("path", String(512), nullable=False),
    Column("unique_id", String(32), nullable=False, unique=True),
    Column("tags", Text, nullable=False),  # a JSON object
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("account_id", "name"),
)

user_policy = Table(
    "user_policy",
    metadata,
    _key(),
    _account(),
    Column("user_id", Key, ForeignKey("iam_user.id"), nullable=False),
    Column("name", String(128), nullable=False),
    Column("document", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("user_id", "name"),
)

credential = Table(
    "credential",
    metadata,
    Column("access_key_id", String(32), primary_key=True),
    _account(),
    Column("user_id", Key, ForeignKey("iam_user.id"), index=True),
    Column("service", String(128)),
    Column("source_arn", String(512)),
    Column("secret", LargeBinary, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("networks", Text),  # a JSON list of CIDRs it may be used from; null for everywhere
)

identity = Table(
    "identity",
    metadata,
    _key(),
    _account(),
    Column("name", String(320), nullable=False),
    Column("type", String(16), nullable=False),  # DOMAIN | EMAIL_ADDRESS
    Column("verification_status", String(24), nullable=False),
    Column("verification_token", String(64), nullable=False),
    Column("dkim_enabled", Boolean, nullable=False),
    Column("dkim_status", String(24), nullable=False),
    Column("feedback_forwarding", Boolean, nullable=False),
    Column("configuration_set", String(64)),
    Column("created_at", Instant, nullable=False),
    # Verification: when it was asked for, is looked at next, and since when it fails.
    Column("verification_requested_at", Instant),
    Column("check_at", Instant, index=True),
    Column("failing_since", Instant),
    Column("dkim_requested_at", Instant),
    Column("dkim_failing_since", Instant),
    Column("confirmation", String(64)),  # of an address: SHA-256 of the mailed code, in hexadecimal
    Column("mail_from_domain", String(255)),
    Column("mail_from_status", String(24)),
    Column("mail_from_on_failure", String(24)),  # USE_DEFAULT_VALUE | REJECT_MESSAGE
    Column("mail_from_requested_at", Instant),
    # Topics that its owner's notifications go to, and whether those quote the header (SES, per type).
    Column("bounce_topic", String(256)),
    Column("complaint_topic", String(256)),
    Column("delivery_topic", String(256)),
    Column("headers_in_bounce", Boolean, nullable=False, server_default=false()),
    Column("headers_in_complaint", Boolean, nullable=False, server_default=false()),
    Column("headers_in_delivery", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("account_id", "name"),
    # The decision must notice an address that equals an identity but for letter case.
    Index("ix_identity_folded", "account_id", text("lower(name)")),
)

dkim_key = Table(
    "dkim_key",
    metadata,
    _key(),
    _account(),
    Column("identity_id", Key, ForeignKey("identity.id"), nullable=False, index=True),
    Column("selector", String(63), nullable=False),
    Column("algorithm", String(16), nullable=False),  # rsa-sha256 | ed25519-sha256
    Column("private_key", LargeBinary, nullable=False),
    Column("public_record", Text, nullable=False),
    Column("status", String(16), nullable=False),  # signing | pending | retired
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("identity_id", "selector"),
)

identity_policy = Table(
    "identity_policy",
    metadata,
    _key(),
    _account(),
    Column("identity_id", Key, ForeignKey("identity.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("document", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
    UniqueConstraint("identity_id", "name"),
)

configuration_set = Table(
    "configuration_set",
    metadata,
    _key(),
    _account(),
    Column("name", String(64), nullable=False),
    Column("sending_enabled", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("tls_policy", String(16), nullable=False, server_default="OPTIONAL"),  # | REQUIRE
    Column("max_delivery_seconds", Integer),  # null for the settings' own
    Column("suppressed_reasons", Text),  # a JSON list; null follows the account
    UniqueConstraint("account_id", "name"),
)

event_destination = Table(
    "event_destination",
    metadata,
    _key(),
    _account(),
    Column("configuration_set_id", Key, ForeignKey("configuration_set.id"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("event_types", Text, nullable=False),  # a JSON list of SES's names in API v2: BOUNCE, SEND
    Column("topic_arn", String(256), nullable=False),
    UniqueConstraint("configuration_set_id", "name"),
)

# What an account writes on its things, by their ARN.
resource_tag = Table(
    "resource_tag",
    metadata,
    Column("arn", String(512), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("value", String(256), nullable=False),
    _account(),
    sqlite_with_rowid=False,
)

# A message with gaps, filled for each recipient; a part that is null is not there.
email_template = Table(
    "email_template",
    metadata,
    _key(),
    _account(),
    Column("name", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text),
    Column("html", Text),
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("account_id", "name"),
)

# ---------------------------------------------------------------- who is told

topic = Table(
    "topic",
    metadata,
    _key(),
    _account(),
    Column("name", String(256), nullable=False),
    Column("signature_version", Integer, nullable=False),  # 2 | 1, as SNS has it
    Column("created_at", Instant, nullable=False),
    UniqueConstraint("account_id", "name"),
)

# Accounts whose identities may send their notifications to a topic that is not theirs.
topic_consent = Table(
    "topic_consent",
    metadata,
    Column("topic_id", Key, ForeignKey("topic.id"), primary_key=True),
    Column("owner_account_id", AccountId, primary_key=True),
    Column("created_at", Instant, nullable=False),
)

subscription = Table(
    "subscription",
    metadata,
    _key(),
    _account(),
    Column("topic_id", Key, ForeignKey("topic.id"), nullable=False, index=True),
    Column("uuid", String(36), nullable=False, unique=True),  # the last part of its ARN
    Column("protocol", String(16), nullable=False),  # http | https | webhook | email | file | sns | sqs
    Column("endpoint", Text, nullable=False),
    Column("state", String(12), nullable=False),  # pending | confirmed | dead | unsubscribed
    Column("confirmation", String(64)),  # SHA-256 of the token that confirms it, in hexadecimal
    Column("raw_delivery", Boolean, nullable=False),
    Column("secret", LargeBinary),  # sealed JSON: what only the poster may know
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),  # a pending or unsubscribed one is then forgotten
    Column("failing_since", Instant),
    Column("last_error", Text),
)

# What signs notifications in SNS's form; its certificate is served to whoever verifies them.
sns_key = Table(
    "sns_key",
    metadata,
    _key(),
    Column("private_key", LargeBinary, nullable=False),  # sealed
    Column("certificate", Text, nullable=False),  # PEM
    Column("created_at", Instant, nullable=False),
)

# Addresses an account no longer sends to; ``folded`` is the address in lower case.
suppressed = Table(
    "suppressed",
    metadata,
    Column("account_id", AccountId, primary_key=True),
    Column("folded", String(320), primary_key=True),
    Column("address", String(320), nullable=False),
    Column("reason", String(16), nullable=False),  # BOUNCE | COMPLAINT
    Column("at", Instant, nullable=False),
    Column("message_id", Key),
    Column("feedback_id", String(80)),
    sqlite_with_rowid=False,
)

# What was sent in an identity's name on a day (since 1970, UTC): billed to the account that sent it.  Each
# worker counts on rows of its own, so that none waits for another's.
usage_day = Table(
    "usage_day",
    metadata,
    Column("account_id", AccountId, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("identity_arn", String(512), primary_key=True),
    Column("worker_id", Integer, primary_key=True, autoincrement=False),
    Column("messages", BigInteger, nullable=False, server_default="0"),
    Column("recipients", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    # What became of recipients, as far as it moves reputation: without simulator and suppressed ones.
    Column("delivered", BigInteger, nullable=False, server_default="0"),
    Column("hard_bounces", BigInteger, nullable=False, server_default="0"),
    Column("soft_bounces", BigInteger, nullable=False, server_default="0"),
    Column("complaints", BigInteger, nullable=False, server_default="0"),
    Index("ix_usage_day_identity_arn_day", "identity_arn", "day"),
    # The last days of all accounts, of years that stay.  SQLite finds them faster account by account.
    Index("ix_usage_day_day", "day").ddl_if(dialect="postgresql"),
    sqlite_with_rowid=False,
)

# What happened in an identity's name.  Appended freely; the sealer numbers and chains what is new, and
# from then on an entry is never touched.
ledger = Table(
    "ledger",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("identity_arn", String(512), nullable=False),
    Column("at", Instant, nullable=False),
    Column("kind", String(24), nullable=False),  # change | accepted | refused
    Column("detail", Text, nullable=False),  # JSON with sorted keys
    Column("seq", BigInteger),  # within the identity's chain; null until sealed
    Column("hash", String(64)),  # SHA-256 over the hash before and this entry, in hexadecimal
    Index(
        "ix_ledger_identity_arn_seq",
        "identity_arn",
        "seq",
        unique=True,
        sqlite_where=text("seq IS NOT NULL"),
        postgresql_where=text("seq IS NOT NULL"),
    ),
    Index("ix_ledger_unsealed", "id", sqlite_where=text("seq IS NULL"), postgresql_where=text("seq IS NULL")),
    sqlite_autoincrement=True,
)

# Append-only: every change of the control plane, with who made it and from where.
audit = Table(
    "audit",
    metadata,
    Column("id", Key, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False, index=True),
    Column("actor", String(256), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(512), nullable=False),
    Column("detail", Text, nullable=False),  # a JSON object; never a secret
    sqlite_autoincrement=True,
)

# Entries are added and never touched again, whatever the program or a hand at the database does.
_APPEND_ONLY = {
    "sqlite": (
        """CREATE TRIGGER audit_refuses_update BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END""",
        """CREATE TRIGGER audit_refuses_delete BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$""",
        """CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
        FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()""",
    ),
}
_SEALED = {
    "sqlite": (
        """CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger WHEN OLD.seq IS NOT NULL
        BEGIN SELECT RAISE(ABORT, 'the ledger is sealed'); END""",
        """CREATE TRIGGER ledger_refuses_delete BEFORE DELETE ON ledger
        BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$""",
        """CREATE TRIGGER ledger_refuses_update BEFORE UPDATE ON ledger
        FOR EACH ROW WHEN (OLD.seq IS NOT NULL) EXECUTE FUNCTION ledger_is_append_only()""",
        """CREATE TRIGGER ledger_refuses_delete BEFORE DELETE OR TRUNCATE ON ledger
        FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only()""",
    ),
}


def _create_with(table: Table, ddl: Mapping[str, tuple[str, ...]]) -> None:
    for dialect, statements in ddl.items():
        for statement in statements:
            made = DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", made.execute_if(dialect=dialect))


_create_with(audit, _APPEND_ONLY)
_create_with(ledger, _SEALED)

# ---------------------------------------------------------------- mail

message = Table(
    "message",
    metadata,
    _key(),
    Column("account_id", AccountId, nullable=False),
    Column("identity_arn", String(512), nullable=False),
    Column("reverse_path", String(320), nullable=False),  # on the wire; empty for the null sender
    Column("return_path", String(320), nullable=False),  # where feedback goes; empty for nowhere
    Column("configuration_set", String(64)),
    Column("received_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("record", Text, nullable=False),  # JSON: the decision, what was added and removed
    Column("header", LargeBinary, nullable=False),
    Column("require_tls", Boolean, nullable=False, server_default=false()),  # by its configuration set
    # Which events besides bounces and complaints somebody listened for when it was accepted: Send,Delivery
    Column("events", String(64), nullable=False, server_default=""),
)

# The octets after the header block, in pieces of at most 256 KiB, as they go out.
body_chunk = Table(
    "body_chunk",
    metadata,
    Column("message_id", Key, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

recipient = Table(
    "recipient",
    metadata,
    Column("message_id", Key, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("account_id", AccountId, nullable=False),
    Column("address", String(320), nullable=False),
    Column("domain", String(255), nullable=False),
    Column("state", String(12), nullable=False),  # relay.outcome.transitions.State
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("delay_reported", Boolean, nullable=False),
    Column("worker_id", Integer, nullable=False),
    Column("worker_epoch", BigInteger, nullable=False),
    Column("last_reply", Text),
    Column("settled_at", Instant),
    Column("held_because", String(16)),  # of state held: operator | revoked | restored
    # SQLite looks the state up in the row for each that it counts, unless the index has it too.
    Index(
        "ix_recipient_due",
        "due_at",
        "state",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    # Whose turn it is to be claimed, and what of it.
    Index(
        "ix_recipient_turn",
        "account_id",
        "due_at",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "ix_recipient_lease",
        "worker_id",
        "worker_epoch",
        sqlite_where=text("state = 'leased'"),
        postgresql_where=text("state = 'leased'"),
    ),
    # What is held may stay for long and be most of the queue; the id tells how old the oldest is.
    Index(
        "ix_recipient_held",
        "due_at",
        "message_id",
        "state",
        sqlite_where=text("state = 'held'"),
        postgresql_where=text("state = 'held'"),
    ),
    sqlite_with_rowid=False,
)

attempt = Table(
    "attempt",
    metadata,
    Column("message_id", Key, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("outcome", String(12), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("host", String(320), nullable=False),
    Column("tls", String(32)),
    Column("code", Integer),
    Column("enhanced", String(16)),
    Column("reply", Text, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# A large body that is still arriving: its chunks are in, its message row is not yet.
spill = Table(
    "spill",
    metadata,
    Column("message_id", Key, primary_key=True, autoincrement=False),
    Column("worker_id", Integer, nullable=False),
    Column("worker_epoch", BigInteger, nullable=False),
)

# What somebody must be told of, written in the transaction that settles the recipient.
outbox = Table(
    "outbox",
    metadata,
    _key(),
    Column("account_id", AccountId, nullable=False),
    Column("message_id", Key, nullable=False, index=True),
    Column("kind", String(24), nullable=False),  # send | delivery | delay | bounce | complaint | autoreply
    Column("payload", Text, nullable=False),  # JSON
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", String(12), nullable=False),  # queued | leased | done | dead
    Column("worker_id", Integer, nullable=False),
    Column("worker_epoch", BigInteger, nullable=False),
    Column("last_error", Text),
    Index(
        "ix_outbox_due",
        "due_at",
        sqlite_where=text("state IN ('queued', 'leased')"),
        postgresql_where=text("state IN ('queued', 'leased')"),
    ),
    Index(
        "ix_outbox_lease",
        "worker_id",
        "worker_epoch",
        sqlite_where=text("state = 'leased'"),
        postgresql_where=text("state = 'leased'"),
    ),
)

# One notification for one subscription; the body is what its endpoint gets.
notification = Table(
    "notification",
    metadata,
    _key(),
    Column("account_id", AccountId, nullable=False),
    Column("subscription_id", Key, nullable=False),
    Column("event_id", Key, nullable=False, index=True),  # the outbox row it tells of
    Column("event_type", String(24), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("due_at", Instant, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", String(12), nullable=False),  # queued | leased | done | dead
    Column("worker_id", Integer, nullable=False),
    Column("worker_epoch", BigInteger, nullable=False),
    Column("last_error", Text),
    # By subscription: one that is far behind must not stand in the way of the others.
    Index(
        "ix_notification_due",
        "subscription_id",
        "due_at",
        sqlite_where=text("state = 'queued'"),
        postgresql_where=text("state = 'queued'"),
    ),
    Index(
        "ix_notification_lease",
        "worker_id",
        "worker_epoch",
        sqlite_where=text("state = 'leased'"),
        postgresql_where=text("state = 'leased'"),
    ),
)

# Reports that came in late, each counted once however often it is sent.
report = Table(
    "report",
    metadata,
    Column("message_id", Key, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(16), primary_key=True),
    Column("at", Instant, nullable=False),
    sqlite_with_rowid=False,
)

refusal = Table(
    "refusal",
    metadata,
    _key(),
    Column("reference", String(16), nullable=False, index=True),
    Column("account_id", AccountId, nullable=False),
    Column("access_key_id", String(32), nullable=False),
    Column("at", Instant, nullable=False, index=True),
    Column("reason", String(64), nullable=False),
    Column("reply", Text, nullable=False),
    Column("record", Text, nullable=False),  # JSON: what is needed to judge it again
)

# ---------------------------------------------------------------- what other domains published

# The MTA-STS policy of a recipient domain (RFC 8461), so that a start does not forget it.
mta_sts_policy = Table(
    "mta_sts_policy",
    metadata,
    Column("domain", String(255), primary_key=True),
    Column("policy_id", String(32), nullable=False),
    Column("policy", Text, nullable=False),  # as fetched
    Column("fetched_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

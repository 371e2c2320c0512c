"""An SMTP relay gateway that lends sending identities under SES-style policies.

The packages are the stages a message passes, in this order:

    session        the SMTP client's side: TLS, AUTH, commands, replies
    submission     what was handed in: addresses, envelope, header fields
    authorization  may it be sent: identities, policies, the decision
    quotas         does it fit: recipients in 24 hours and in a second
    signing        what leaves us: fields added and dropped, DKIM
    queue          the durable spool: commit, claim, settle
    delivery       one attempt at a time, to the next hop
    outcome        what the attempt meant: delivered, deferred, bounced
    feedback       telling whoever asked, and the Return-Path when nobody did

``intake`` is the accept path through the first six, read top to bottom, for SMTP and for ``api`` (SES's HTTP
API); ``record`` is what it keeps of a message.  Around the flow stand ``accept`` (connections, and whose they
are), ``control`` (accounts, users, credentials, identities, policies), ``reports`` (late bounces in),
``store`` (tables, the directory cache, secrets), ``httpd`` (the HTTP listener), ``console`` (its pages),
``httpc`` (the HTTP client), ``metrics``, ``app`` (which builds and runs every part) and ``cli``.
"""

__version__ = "0.1.0"

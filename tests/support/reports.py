"""Reports as other mail servers bring them back, over real SMTP."""

from __future__ import annotations

import smtplib


def failure(recipient: str, status: str = "5.1.1", report_id: str = "<dsn@mx.customer.example>") -> str:
    """A delivery status notification as Postfix writes it, cut to what counts."""
    return (
        "From: MAILER-DAEMON@mx.customer.example\r\n"
        "Subject: Undelivered Mail Returned to Sender\r\n"
        f"Message-ID: {report_id}\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n'
        "\r\n--b\r\n\r\nIt could not be delivered.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n"
        "\r\nReporting-MTA: dns; mx.customer.example\r\n"
        f"\r\nFinal-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; 550 {status} no such user\r\n"
        "\r\n--b--\r\n"
    )


def complaint(recipient: str) -> str:
    """An abuse report."""
    return (
        "From: feedback@customer.example\r\n"
        "Subject: FW: Hello\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n'
        "\r\n--b\r\n\r\nThis is an abuse report.\r\n"
        "--b\r\nContent-Type: message/feedback-report\r\n"
        "\r\nFeedback-Type: abuse\r\nUser-Agent: Customer/2.0\r\nVersion: 1\r\n"
        f"Original-Rcpt-To: <{recipient}>\r\n"
        "\r\n--b--\r\n"
    )


def vacation(sender: str) -> str:
    """An automatic answer."""
    return f"From: {sender}\r\nSubject: Auto: Hello\r\nAuto-Submitted: auto-replied\r\n\r\nI am away.\r\n"


def bring(port: int, to: str, report: str, sender: str = "") -> tuple[int, str]:
    """One report in a session of its own; the first refusal or the reply to the dot."""
    with smtplib.SMTP("127.0.0.1", port, "mx.customer.example", timeout=20) as client:
        client.ehlo()
        for code, text in (client.mail(sender), client.rcpt(to)):
            if code != 250:
                return code, text.decode()
        code, text = client.data(report.encode("latin-1"))
        return code, text.decode()

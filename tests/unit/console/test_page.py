"""The frame of every page: nothing runs, nothing is loaded, nothing from outside is markup."""

from __future__ import annotations

import base64
import hashlib
import re

from relay.console.page import page


def test_policy_allows_the_one_style_sheet_and_no_script():
    shown = page(200, "Title", "<p>Text</p>")
    policy = shown.headers["content-security-policy"]
    style = re.search(rb"<style>(.*?)</style>", shown.body, re.DOTALL)[1]
    assert f"style-src 'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy
    assert b"<script" not in shown.body


def test_title_is_escaped():
    assert b"<title>&lt;b&gt;&amp;</title>" in page(200, "<b>&", "").body

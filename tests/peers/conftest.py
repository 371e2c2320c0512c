"""The same running gateway as in the end-to-end tests."""

from tests.e2e.conftest import app, domain, gateway, recorder

__all__ = ["app", "domain", "gateway", "recorder"]

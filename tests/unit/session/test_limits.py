from __future__ import annotations

import pytest

from relay.session.limits import Connections, Logins
from relay.submission.principal import network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::/64"),
        ("2001:db8:0:0:ffff::1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
    ],
)
def test_ipv6_counts_by_its_64(address, network):
    assert network_of(address) == network


def test_connections_are_limited_in_total_and_per_network():
    connections = Connections(most=3, most_per_network=2)
    assert [connections.admit("a") for _ in range(3)] == [True, True, False]
    connections.leave("a")
    assert connections.admit("b")
    assert not connections.admit("c"), "in total"


def test_account_has_as_many_connections_as_leave_some_for_others():
    connections = Connections(most=20, most_per_network=20)

    def logged_in(account: str) -> int:
        """How many connections more it gets."""
        for count in range(20):
            is_admitted = connections.admit("a") and connections.log_in(account)
            if not is_admitted:
                connections.log_out(account)
                connections.leave("a")
                return count
        return 20

    assert logged_in("bulk") == 15
    assert logged_in("other") == 3
    assert connections.admit("b")
    assert connections.log_in("small")
    connections.log_out("bulk")
    connections.leave("a")
    assert logged_in("other") == 0
    assert logged_in("small") == 1


class TestLogins:
    def logins(self, most: int = 3, seconds: float = 900) -> Logins:
        return Logins(most, seconds)

    def test_failing_answers_come_later_each_time_up_to_a_bound(self):
        logins = self.logins(most=30)
        delays = [logins.failed("net", "user", 0) for _ in range(20)]
        assert delays[:5] == [0.5, 1, 2, 4, 8]
        assert set(delays[4:]) == {8}

    def test_they_come_later_for_one_user_from_many_networks(self):
        logins = self.logins()
        assert [logins.failed(f"net {n}", "user", 0) for n in range(3)] == [0.5, 1, 2]

    def test_network_is_over_after_so_many_and_no_other_is(self):
        logins = self.logins(most=3)
        for number in range(3):
            assert not logins.is_over("net", number)
            logins.failed("net", f"user {number}", number)
        assert logins.is_over("net", 3)
        assert not logins.is_over("elsewhere", 3)

    def test_user_whom_all_the_world_guesses_is_held_against_no_network(self):
        logins = self.logins(most=3)
        for number in range(100):
            logins.failed(f"net {number}", "user", 0)
        assert not logins.is_over("home", 0)

    def test_network_may_try_again_as_its_failures_are_forgotten(self):
        logins = self.logins(most=3, seconds=900)
        for _ in range(3):
            logins.failed("net", "user", 0)
        assert logins.is_over("net", 299)
        assert not logins.is_over("net", 301), "one failure in 300 s"
        logins.failed("net", "user", 301)
        assert logins.is_over("net", 302)
        assert logins.failed("net", "user", 301 + 900) == 0.5, "as if it had never been"

    def test_user_that_logged_in_is_known_there_and_only_there(self):
        logins = self.logins()
        logins.succeeded("net", "user")
        assert logins.is_known("net", "user")
        assert not logins.is_known("elsewhere", "user")
        assert not logins.is_known("net", "other")

    def test_known_users_are_bounded_and_the_longest_unseen_goes(self):
        logins = self.logins()
        for number in range(20_000):
            logins.succeeded("net", f"user {number}")
        logins.succeeded("net", "user 0")
        logins.succeeded("net", "one more")
        assert logins.is_known("net", "user 0")
        assert not logins.is_known("net", "user 1")

    def test_network_for_which_many_answers_wait_is_over_until_they_are_given(self):
        logins = self.logins(most=1000)
        waits = [logins.waiting("net") for _ in range(10)]
        for wait in waits:
            assert not logins.is_over("net", 0)
            wait.__enter__()
        assert logins.is_over("net", 0)
        waits[0].__exit__(None, None, None)
        assert not logins.is_over("net", 0)
        assert not logins.is_over("elsewhere", 0)

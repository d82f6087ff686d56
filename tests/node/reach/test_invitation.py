"""An invitation is one line that joins, and nothing that was changed or has ended."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dht import Address, Contact
from node.cli.invite import parse_span
from node.errors import NodeError, RefusedError, UsageError
from node.reach.invitation import (
    PREFIX,
    Invitation,
    accept,
    read_invitation,
)
from node.settings import PUBLIC_NETWORK

NOW = 1_800_000_000
KEY = bytes(range(32))
SECRET = bytes(reversed(range(32)))
CONTACTS = (
    Contact(KEY, Address("192.0.2.7", 4747)),
    Contact(KEY, Address("2001:db8::7", 4747)),
)
PRIVATE = Invitation("lab", SECRET, NOW + 60, CONTACTS)
PUBLIC = Invitation(PUBLIC_NETWORK, None, NOW + 60, CONTACTS[:1])


@pytest.mark.parametrize("invitation", [PRIVATE, PUBLIC])
def test_a_line_is_read_as_it_was_written(invitation):
    assert read_invitation(f"  {invitation.line}\n", NOW) == invitation
    assert len(invitation.line.split()) == 1


def test_the_bytes_of_a_line_stay_as_they_are():
    line = Invitation(PUBLIC_NETWORK, None, NOW, CONTACTS[:1]).line
    assert line == (
        "caravan-invitation-1-a0nSAAdjYXJhdmFuAAEAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY"
        "GRobHB0eHwTAAAIHEot21wCC"
    )


def test_an_invitation_that_has_expired_is_refused():
    with pytest.raises(RefusedError, match="expired"):
        read_invitation(PRIVATE.line, PRIVATE.expires)


@given(place=st.integers(0, len(PRIVATE.line) - 1), letter=st.sampled_from("Az0_-!"))
def test_a_line_that_was_changed_is_never_read(place, letter):
    line = PRIVATE.line
    changed = line[:place] + letter + line[place + 1 :]
    if changed != line:
        with pytest.raises(UsageError):
            read_invitation(changed, NOW)


@given(st.binary(max_size=400))
def test_guessed_lines_are_usage_errors(content):
    import base64

    line = PREFIX + base64.urlsafe_b64encode(content).decode()
    with pytest.raises(UsageError):
        read_invitation(line, NOW)


@pytest.mark.parametrize(
    "line", ["", PREFIX, PREFIX + "A" * 5000, "caravan-invitation-2-x"]
)
def test_what_is_no_invitation_is_a_usage_error(line):
    with pytest.raises(UsageError):
        read_invitation(line, NOW)


def test_the_secret_is_kept_for_its_owner_only(tmp_path):
    accept(tmp_path, PRIVATE)
    path = tmp_path / "networks/lab.secret"
    assert path.read_bytes() == SECRET
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    accept(tmp_path, PRIVATE)


def test_a_secret_that_is_there_is_never_replaced(tmp_path):
    accept(tmp_path, PRIVATE)
    other = Invitation("lab", KEY, NOW + 60, ())
    with pytest.raises(NodeError, match="another secret"):
        accept(tmp_path, other)
    assert (tmp_path / "networks/lab.secret").read_bytes() == SECRET


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("1w", 604_800)],
)
def test_a_span_is_read(text, seconds):
    assert parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "7", "d", "0d", "400d", "-1d", "7 d"])
def test_a_wrong_span_is_a_usage_error(text):
    with pytest.raises(UsageError, match="expected a span"):
        parse_span(text)

"""One-time links and cookies of the dashboard."""

from __future__ import annotations

from node.web.sessions import (
    CODE_SECONDS_MAX,
    CODES_MAX,
    IDLE_SECONDS_MAX,
    SESSIONS_MAX,
    Sessions,
)


def test_a_code_works_once():
    sessions = Sessions()
    code = sessions.new_code(0.0)
    cookie = sessions.sign_in(code, 1.0)
    assert cookie is not None
    assert sessions.is_signed_in(cookie, 2.0)
    assert sessions.sign_in(code, 2.0) is None


def test_a_code_works_for_a_minute():
    sessions = Sessions()
    code = sessions.new_code(0.0)
    assert sessions.sign_in(code, CODE_SECONDS_MAX) is None


def test_what_was_never_given_is_refused():
    sessions = Sessions()
    sessions.new_code(0.0)
    for made_up in ("", "x", "\udcff", "ü"):
        assert sessions.sign_in(made_up, 0.0) is None
        assert not sessions.is_signed_in(made_up, 0.0)


def test_a_cookie_lives_while_it_is_used():
    sessions = Sessions()
    cookie = sessions.sign_in(sessions.new_code(0.0), 0.0)
    assert cookie is not None
    assert sessions.is_signed_in(cookie, IDLE_SECONDS_MAX - 1)
    assert sessions.is_signed_in(cookie, 2 * IDLE_SECONDS_MAX - 2)
    assert not sessions.is_signed_in(cookie, 3 * IDLE_SECONDS_MAX)


def test_codes_and_sessions_are_bounded_and_the_oldest_goes():
    sessions = Sessions()
    codes = [sessions.new_code(float(number)) for number in range(CODES_MAX + 1)]
    assert sessions.sign_in(codes[0], 10.0) is None
    assert sessions.sign_in(codes[-1], 10.0) is not None
    cookies = [
        sessions.sign_in(sessions.new_code(number), number)
        for number in map(float, range(20, 21 + SESSIONS_MAX))
    ]
    assert not sessions.is_signed_in(cookies[0] or "", 60.0)
    assert sessions.is_signed_in(cookies[-1] or "", 60.0)

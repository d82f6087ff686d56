"""Who is signed in at the dashboard: one-time links, and the cookies they turn into.

A browser cannot read the owner's token. `caravan open`, which can, asks the door for a
link with a code that works once and for a minute; the browser that opens it gets a
cookie. The time is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

import hmac
import secrets

CODE_SECONDS_MAX = 60.0
CODES_MAX = 8
IDLE_SECONDS_MAX = 12 * 3600.0
SESSIONS_MAX = 16
COOKIE = "caravan_session"


class Sessions:
    """The codes that wait for their browser, and the browsers that are signed in."""

    def __init__(self) -> None:
        self._codes: dict[str, float] = {}
        self._seen_at: dict[str, float] = {}

    def new_code(self, now: float) -> str:
        """Return a code for a one-time link."""
        self._forget(now)
        code = secrets.token_urlsafe(24)
        self._codes[code] = now
        while len(self._codes) > CODES_MAX:
            del self._codes[next(iter(self._codes))]
        return code

    def sign_in(self, code: str, now: float) -> str | None:
        """Use a code up; return the cookie's value, None where the code is not good."""
        self._forget(now)
        found = _equal_one(self._codes, code)
        if found is None:
            return None
        del self._codes[found]
        cookie = secrets.token_urlsafe(32)
        self._seen_at[cookie] = now
        while len(self._seen_at) > SESSIONS_MAX:
            del self._seen_at[min(self._seen_at, key=self._seen_at.__getitem__)]
        return cookie

    def is_signed_in(self, cookie: str, now: float) -> bool:
        """Tell whether a cookie is one of ours; using it keeps it alive."""
        self._forget(now)
        found = _equal_one(self._seen_at, cookie)
        if found is None:
            return False
        self._seen_at[found] = now
        return True

    def _forget(self, now: float) -> None:
        self._codes = {
            code: at for code, at in self._codes.items() if now - at < CODE_SECONDS_MAX
        }
        self._seen_at = {
            cookie: at
            for cookie, at in self._seen_at.items()
            if now - at < IDLE_SECONDS_MAX
        }


def _equal_one(known: dict[str, float], offered: str) -> str | None:
    """Return the key that equals `offered`, compared in constant time."""
    given = offered.encode("utf-8", "surrogateescape")
    found = None
    for one in known:
        if hmac.compare_digest(one.encode(), given):
            found = one
    return found

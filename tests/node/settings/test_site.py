"""The settings of the site door, from a file, the environment and a flag."""

from __future__ import annotations

import pytest

from node.errors import NodeError, UsageError
from node.settings.load import load_settings


def site(home, flags=None, text="", **environ):
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text)
    return load_settings(home, flags or {}, environ).site


def test_it_is_closed_unless_an_address_is_given(tmp_path):
    assert site(tmp_path).listen == ()
    assert site(tmp_path, {"site": "127.0.0.1:4749"}).listen == ("127.0.0.1:4749",)


def test_the_flag_opens_the_door_that_the_file_describes(tmp_path):
    text = '[site]\nlisten = "127.0.0.1:1234"\nhosts = ["cache.lab"]\nmetrics = true\n'
    found = site(tmp_path, {"site": "127.0.0.1:4749"}, text)
    assert found.listen == ("127.0.0.1:4749",)
    assert found.hosts == ("cache.lab",)
    assert found.metrics


def test_each_field_has_a_variable(tmp_path):
    found = site(
        tmp_path,
        text='[site]\nhosts = ["cache.lab"]\n',
        CARAVAN_SITE="127.0.0.1:4749",
        CARAVAN_SITE_NETWORKS="10.0.0.0/8, 192.0.2.0/24",
        CARAVAN_SITE_METRICS="true",
        CARAVAN_SITE_TOKEN_FILE="/run/token",
    )
    assert found.listen == ("127.0.0.1:4749",)
    assert found.networks == ("10.0.0.0/8", "192.0.2.0/24")
    assert found.hosts == ("cache.lab",), "the file still counts"
    assert found.metrics
    assert str(found.token_file) == "/run/token"


@pytest.mark.parametrize(
    ("text", "environ", "words"),
    [
        ("[site]\nmetrics = 1\n", {}, "expected true or false"),
        ("[site]\nlisten = 4749\n", {}, "expected a list of strings"),
        ("site = 3\n", {}, "expected a table"),
        ("", {"CARAVAN_SITE_NETWORKS": "everybody"}, "expected a range"),
        ("", {"CARAVAN_SITE_COLOUR": "red"}, "no setting"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, text, environ, words):
    with pytest.raises((NodeError, UsageError), match=words):
        site(tmp_path, text=text, **environ)

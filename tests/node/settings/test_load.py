"""Settings come from flags, environment, file and defaults, in this order."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.errors import NodeError, UsageError
from node.settings import DEFAULT_LISTEN, DEFAULT_WEB, Settings
from node.settings.home import home_folder
from node.settings.load import load_settings, load_with_sources
from node.settings.table import SETTINGS
from node.settings.values import with_port


def write(home: Path, text: str) -> Path:
    path = home / "config.toml"
    path.write_text(text)
    return path


def test_without_anything_the_defaults_hold(tmp_path):
    settings = load_settings(tmp_path, {}, {})
    assert settings.home == tmp_path
    assert settings.listen == DEFAULT_LISTEN
    assert settings.web == DEFAULT_WEB
    assert settings.contacts == ()
    assert settings.encryption
    assert settings.store_bytes is None


def test_flags_win_over_environment_over_file(tmp_path):
    write(
        tmp_path,
        'web = "127.0.0.1:1"\nlisten = ["127.0.0.1:4001"]\ncontacts = "10.0.0.1:5"\n',
    )
    environment = {"CARAVAN_WEB": "127.0.0.1:2", "CARAVAN_LISTEN": "127.0.0.1:4002"}
    settings = load_settings(tmp_path, {"web": "127.0.0.1:3"}, environment)
    assert settings.web == "127.0.0.1:3"
    assert settings.listen == ("127.0.0.1:4002",)
    assert settings.contacts == ("10.0.0.1:5",)


def test_a_flag_that_was_not_given_leaves_the_file_alone(tmp_path):
    write(tmp_path, 'listen = "127.0.0.1:0"\nweb = "127.0.0.1:0"\n')
    settings = load_settings(tmp_path, {"listen": (), "web": None}, {})
    assert settings.listen == ("127.0.0.1:0",)
    assert settings.web == "127.0.0.1:0"


@pytest.mark.parametrize(
    ("text", "count"),
    [("7", 7), ('"7"', 7), ('"2 KiB"', 2048), ('"3mb"', 3_000_000), ('"1 TiB"', 2**40)],
)
def test_sizes_are_read_with_and_without_a_unit(tmp_path, text, count):
    write(tmp_path, f"store_bytes = {text}\n")
    assert load_settings(tmp_path, {}, {}).store_bytes == count


def test_lists_and_switches_in_the_environment_are_text(tmp_path):
    environment = {
        "CARAVAN_LISTEN": "127.0.0.1:4001, [::1]:4001",
        "CARAVAN_ENCRYPTION": "no",
        "CARAVAN_WEAK_DIGESTS": "1",
    }
    settings = load_settings(tmp_path, {}, environment)
    assert settings.listen == ("127.0.0.1:4001", "[::1]:4001")
    assert not settings.encryption
    assert settings.weak_digests


def test_host_names_of_contacts_become_addresses(tmp_path):
    settings = load_settings(tmp_path, {"contacts": ("localhost:4747",)}, {})
    assert set(settings.contacts) <= {"127.0.0.1:4747", "[::1]:4747"}
    assert settings.contacts


def test_a_host_that_dns_does_not_know_is_kept_for_later(tmp_path):
    settings = load_settings(tmp_path, {"contacts": ("nowhere.invalid:4747",)}, {})
    assert settings.contacts == ("nowhere.invalid:4747",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("webb = 1", "no setting 'webb'"),
        ("web = 1", "web: expected a quoted string"),
        ('web = "0.0.0.0:1"', "web: 0.0.0.0 can be reached from other machines"),
        ('web = "127.0.0.1"', "web: .*127.0.0.1"),
        ('listen = ["some.host:1"]', "listen: .*some.host"),
        ("listen = []", "listen: expected at least one"),
        ("listen = [1]", "listen: expected a list"),
        ('listen = ["127.0.0.1:99999"]', "listen: .*99999"),
        ('listen = ["[::1]:1023"]', "listen: .*below 1024"),
        ('encryption = "yes"', "encryption: expected true or false"),
        ("store_bytes = 0", "store_bytes: expected a size"),
        ("store_bytes = true", "store_bytes: expected a size"),
        ('store_bytes = "3 parsecs"', "store_bytes: expected a size"),
        ('network = "../x"', "network: .*cannot name a network"),
        ('contacts = ["1.2.3.4"]', "contacts: .*1.2.3.4"),
        ("this is no toml", "not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_names_file_and_key(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(NodeError, match=words) as caught:
        load_settings(tmp_path, {}, {})
    assert caught.value.exit_code == 1
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "config.toml").mkdir()
    with pytest.raises(NodeError, match=r"cannot read .*config\.toml"):
        load_settings(tmp_path, {}, {})


def test_a_file_that_is_not_text_is_one_sentence(tmp_path):
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(NodeError, match="not UTF-8"):
        load_settings(tmp_path, {}, {})


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"web": "192.0.2.1:80"}, "--web: 192.0.2.1 can be reached"),
        ({"listen": ("nonsense",)}, "--listen: .*nonsense"),
        ({"listen": ("0.0.0.0:443",)}, "--listen: nodes do not connect to ports"),
        ({"contacts": ("nonsense",)}, "HOST:PORT: .*nonsense"),
        ({"contacts": ("a:b:c",)}, "HOST:PORT: .*a:b:c"),
        ({"contacts": ("localhost:99999",)}, "localhost:99999"),
        ({"network": "Über"}, "--network: .*cannot name"),
        ({"secret_file": Path("x")}, "name it with --network"),
    ],
)
def test_a_mistake_in_a_flag_is_a_usage_error(tmp_path, flags, words):
    with pytest.raises(UsageError, match=words):
        load_settings(tmp_path, flags, {})


def test_a_private_network_needs_its_secret(tmp_path):
    with pytest.raises(NodeError, match="caravan network new lab") as caught:
        load_settings(tmp_path, {"network": "lab"}, {})
    assert caught.value.exit_code == 1
    secret = tmp_path / "networks" / "lab.secret"
    secret.parent.mkdir()
    secret.write_bytes(bytes(32))
    assert load_settings(tmp_path, {"network": "lab"}, {}).secret_file == secret


def test_a_secret_goes_with_the_network_that_it_was_written_beside(tmp_path):
    write(tmp_path, 'network = "lab"\nsecret_file = "/lab"\n')
    assert load_settings(tmp_path, {}, {}).secret_file == Path("/lab")
    with pytest.raises(NodeError, match="secret of the network 'other'"):
        load_settings(tmp_path, {"network": "other"}, {})


def test_a_path_in_the_file_is_relative_to_its_folder(tmp_path, monkeypatch):
    write(tmp_path, 'network = "lab"\nsecret_file = "lab.secret"\n')
    assert load_settings(tmp_path, {}, {}).secret_file == tmp_path / "lab.secret"
    monkeypatch.chdir("/")
    flags = {"network": "lab", "secret_file": Path("lab.secret")}
    assert load_settings(tmp_path, flags, {}).secret_file == Path("/lab.secret")


def test_the_home_is_the_flag_or_the_variable_or_the_platforms(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = {"CARAVAN_HOME": "/elsewhere"}
    assert home_folder(Path("here"), environment) == tmp_path / "here"
    assert home_folder(None, environment) == Path("/elsewhere")
    assert home_folder(None, {}).name == "caravan"


def test_what_is_offered_can_be_said_for_all_and_for_one_package(tmp_path):
    """The environment changes the rule for the rest, never the one for a package."""
    name = f"{'a' * 52}/app"
    (tmp_path / "config.toml").write_text(
        f'[sharing]\ndefault = "published"\n"{name}" = "none"\n'
    )
    settings = load_settings(tmp_path, {}, {})
    assert (settings.sharing, settings.sharing_of) == ("published", {name: "none"})
    louder = load_settings(tmp_path, {}, {"CARAVAN_SHARING": "all"})
    assert (louder.sharing, louder.sharing_of) == ("all", {name: "none"})
    assert not load_settings(tmp_path, {}, {"CARAVAN_WITHDRAW": "no"}).withdraw


@pytest.mark.parametrize(
    "line",
    ['sharing = "some"', '[sharing]\nbob = "none"', f'[sharing]\n"{"a" * 52}/x" = 1'],
)
def test_a_mistake_in_what_is_offered_is_one_sentence(tmp_path, line):
    (tmp_path / "config.toml").write_text(line)
    with pytest.raises(NodeError):
        load_settings(tmp_path, {}, {})


def test_a_misspelt_variable_is_refused_with_what_was_meant(tmp_path):
    """A limit that is not read is worse than a node that does not start."""
    environ = {"CARAVAN_UPLOAD_BYTES_PER_SECND": "1"}
    with pytest.raises(UsageError, match="mean CARAVAN_UPLOAD_BYTES_PER_SECOND"):
        load_settings(tmp_path, {}, environ)


def test_variables_that_are_no_settings_are_let_through(tmp_path):
    environ = {"CARAVAN_TRACE": "1", "CARAVAN_UPSTREAM_PYPI": "none", "OTHER": "x"}
    load_settings(tmp_path, {}, environ)


def test_where_each_setting_comes_from_is_known(tmp_path):
    path = write(tmp_path, 'web = "127.0.0.1:1"\nlan = false\n')
    loaded = load_with_sources(
        tmp_path, {"web": "127.0.0.1:2"}, {"CARAVAN_STORE_BYTES": "1 GiB"}
    )
    assert loaded.sources == {
        "web": "--web",
        "lan": f"{path}: lan",
        "store_bytes": "CARAVAN_STORE_BYTES",
    }


def test_the_table_names_every_setting_and_its_examples_are_read(tmp_path):
    """What `caravan config init` writes, uncommented, is a valid file."""
    fields = set(Settings.__dataclass_fields__) - {"home"}
    assert set(SETTINGS) == fields
    for setting in SETTINGS.values():
        text = setting.example.replace("PUBLISHER", "a" * 52)
        write(tmp_path, text.replace("node.example.org", "127.0.0.1"))
        if setting.name not in ("network", "secret_file"):
            load_settings(tmp_path, {}, {})


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("192.0.2.7", "192.0.2.7:4747"),
        ("192.0.2.7:80", "192.0.2.7:80"),
        ("2001:db8::1", "[2001:db8::1]:4747"),
        ("[2001:DB8::1]", "[2001:db8::1]:4747"),
        ("[::1]:5", "[::1]:5"),
        ("node.example.org", "node.example.org:4747"),
        ("localhost", "localhost:4747"),
        ("nonsense", "nonsense"),
        ("a:b:c", "a:b:c"),
        ("", ""),
    ],
)
def test_a_contact_that_is_typed_needs_no_port(text, read):
    assert with_port(text) == read

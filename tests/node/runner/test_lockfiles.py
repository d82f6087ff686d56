"""Lockfiles that a command left with the relay's address are found, and named."""

from __future__ import annotations

from node.runner import lockfiles

ADDRESS = "127.0.0.1:4000"


def test_the_lockfiles_of_the_project_are_looked_at(tmp_path):
    below, beside, named = (tmp_path / name for name in ("below", "beside", "named"))
    for folder in (below, beside, named):
        folder.mkdir()
    wanted = [tmp_path / "uv.lock", below / "yarn.lock", named / "bun.lock"]
    for file in [*wanted, beside / "bun.lock", below / "notes.txt"]:
        file.write_text(f'url = "http://{ADDRESS}/pypi/simple"')
    (below / "Pipfile").write_text('url = "https://index.test/simple"')
    command = ["bun", "install", f"--cwd={named}", "--flag", "\0"]
    assert sorted(lockfiles.naming(ADDRESS, command, below)) == sorted(wanted)


def test_what_cannot_be_read_is_no_failure(tmp_path):
    (tmp_path / "uv.lock").mkdir()
    (tmp_path / "yarn.lock").symlink_to(tmp_path / "nowhere")
    assert lockfiles.naming(ADDRESS, ["uv", "sync"], tmp_path) == []


async def test_where_no_node_answers_the_way_back_is_said(tmp_path):
    file = tmp_path / "yarn.lock"
    file.write_text(f'resolved "http://{ADDRESS}/npm/a/-/a-1.tgz"\n')
    said: list[str] = []
    await lockfiles.clean([file], tmp_path / "home", said.append)
    (sentence,) = said
    assert f"caravan lockfile clean {file}" in sentence
    assert ADDRESS in file.read_text()

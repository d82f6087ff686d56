"""Clients that are not there, or do not run: skipped with the reason, failed on CI."""

from __future__ import annotations

import pytest

from tests.end_to_end.clients import need


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a program on the path that does what a test says."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CI", raising=False)

    def make(text: str, name: str = "toyclient") -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_a_client_that_runs_is_used(program):
    path = program("echo toyclient 1.0")
    assert need("toyclient") == path


def test_a_client_without_its_toolchain_is_skipped_with_the_reason(program):
    program("echo 'error: no default toolchain' >&2; exit 1")
    with pytest.raises(pytest.skip.Exception, match="no default toolchain"):
        need("toyclient")


def test_a_client_that_is_missing_is_skipped_with_its_name(program):
    with pytest.raises(pytest.skip.Exception, match="toyclient is not installed"):
        need("toyclient")


@pytest.mark.parametrize("text", ["", "exit 1"])
def test_on_ci_both_are_failures(program, monkeypatch, text):
    monkeypatch.setenv("CI", "true")
    if text:
        program(text)
    with pytest.raises(pytest.fail.Exception, match="toyclient"):
        need("toyclient")

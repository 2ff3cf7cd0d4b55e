# SPDX-License-Identifier: Apache-2.0
"""By which interface gloo is reached where a host's own name is a loopback address."""

import os
import socket

import pytest

pytest.importorskip("torch")

from commbench.live import interfaces

VARIABLE = "GLOO_SOCKET_IFNAME"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "x")  # so that it is put back, whatever is set here
    monkeypatch.delenv(VARIABLE)


def resolve(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node7")
    monkeypatch.setattr(socket, "gethostbyname", lambda name: address)


def test_debians_address_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "127.0.1.1")
    monkeypatch.setattr(interfaces, "_address_away", lambda: "127.0.0.1")  # what a default route would tell
    said = interfaces.avoid_loopback()
    assert said == "node7 resolves to 127.0.1.1, so gloo takes interface lo, that of the default route " f"({VARIABLE})"
    assert os.environ[VARIABLE] == "lo"


def test_without_a_way_out_it_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "127.0.1.1")
    monkeypatch.setattr(interfaces, "_address_away", lambda: "")
    said = interfaces.avoid_loopback()
    assert said.startswith("warning: node7 resolves to 127.0.1.1, and there is no default route")
    assert f"set {VARIABLE}" in said
    assert VARIABLE not in os.environ


def test_what_is_well_or_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(monkeypatch, "10.1.2.3")
    assert interfaces.avoid_loopback() == ""
    assert VARIABLE not in os.environ
    resolve(monkeypatch, "127.0.1.1")
    monkeypatch.setenv(VARIABLE, "ib0")
    assert interfaces.avoid_loopback() == ""
    assert os.environ[VARIABLE] == "ib0"

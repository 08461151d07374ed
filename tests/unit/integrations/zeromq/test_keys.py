from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zmq.auth

from molmo2_ground.cli import main
from molmo2_ground.errors import SourceError
from molmo2_ground.integrations.zeromq.allow_list import AllowList
from molmo2_ground.integrations.zeromq.keys import (
    ClientKeys,
    ServerKeys,
    allowed_names,
    make_client_keys,
    make_server_keys,
    revoke,
)
from tests.zeromq_peers import Keyring


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_their_owner_alone_also_under_a_loose_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        Keyring.make(tmp_path / "keys", "robot")
    finally:
        os.umask(before)
    assert mode(tmp_path / "keys" / "server.key_secret") == 0o600
    assert mode(tmp_path / "keys" / "clients" / "robot.key_secret") == 0o600
    assert mode(tmp_path / "keys") == 0o700


def test_the_files_are_what_zeromq_reads(tmp_path: Path) -> None:
    ring = Keyring.make(tmp_path / "keys", "robot")
    public, secret = zmq.auth.load_certificate(ring.folder / "clients" / "robot.key_secret")
    assert (public, secret) == (ring.clients["robot"].public, ring.clients["robot"].secret)
    assert zmq.auth.load_certificates(ring.folder / "allowed") == {public: True}
    assert zmq.auth.load_certificate(ring.folder / "server.key") == (ring.server.public, None)
    assert secret is not None
    assert zmq.curve_public(secret) == public


def test_no_secret_is_printed_with_the_object(tmp_path: Path) -> None:
    ring = Keyring.make(tmp_path / "keys", "robot")
    for keys in (ring.server, ring.clients["robot"]):
        assert keys.secret.decode() not in f"{keys!r} {keys}"


@pytest.mark.parametrize("second", ["b ad", "first"])
def test_one_wrong_name_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: str
) -> None:
    assert main(["keys", str(tmp_path / "keys"), "--client", "first", "--client", second]) == 2
    assert second in capsys.readouterr().err
    assert not (tmp_path / "keys").exists()


def test_a_file_in_the_folders_place_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys").touch()
    assert main(["keys", str(tmp_path / "keys")]) == 1
    assert "cannot be made" in capsys.readouterr().err


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    Keyring.make(folder, "robot")
    before = contents(folder)
    assert not make_server_keys(folder)
    with pytest.raises(FileExistsError, match="is not overwritten"):
        make_client_keys(folder, "robot")
    revoke(folder, "robot")
    with pytest.raises(FileExistsError, match="is not overwritten"):  # the secret is still there
        make_client_keys(folder, "robot")
    assert contents(folder).items() <= before.items()


@pytest.mark.parametrize("lost", ["server.key", "server.key_secret"])
def test_half_a_pair_is_not_made_whole(tmp_path: Path, lost: str) -> None:
    make_server_keys(tmp_path)
    (tmp_path / lost).unlink()
    with pytest.raises(SourceError, match=f"{lost} is not"):
        make_server_keys(tmp_path)


@pytest.mark.parametrize("name", ["", "../server", "a/b", ".hidden", "-x", "a b", "x" * 65])
def test_a_name_that_no_file_may_have(tmp_path: Path, name: str) -> None:
    make_server_keys(tmp_path)
    with pytest.raises(ValueError, match="a client's name"):
        make_client_keys(tmp_path, name)


def test_a_secret_that_others_may_read_is_refused(tmp_path: Path) -> None:
    make_server_keys(tmp_path)
    (tmp_path / "server.key_secret").chmod(0o640)
    with pytest.raises(SourceError, match="chmod 600"):
        ServerKeys.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "there is no key file", id="missing"),
        pytest.param("", "cannot be read as a key", id="empty"),
        pytest.param("\0\1", "cannot be read as a key", id="bytes"),
        pytest.param('curve\n    public-key = "short"\n    secret-key = "short"\n', "is damaged", id="short"),
        pytest.param(f'curve\n    public-key = "{"a" * 40}"\n', "holds no secret key", id="public-only"),
    ],
)
def test_damaged_keys_are_told(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "x.key_secret"
    if text is not None:
        path.write_text(text, encoding="ascii")
        path.chmod(0o600)
    with pytest.raises(SourceError, match=words):
        ClientKeys.load(path, path)


def test_the_allow_list_follows_the_folder(tmp_path: Path) -> None:
    ring = Keyring.make(tmp_path / "keys", "robot", "screen")
    allow = AllowList(ring.folder / "allowed")
    robot = ring.clients["robot"].public
    assert allow.callback("", robot)
    assert not allow.callback("", ring.server.public)
    assert allow.refused == 1
    revoke(ring.folder, "screen")  # was never let in: no connection needs ending
    assert not allow.withdrawn()
    revoke(ring.folder, "robot")
    assert allow.withdrawn()
    assert not allow.withdrawn()
    assert not allow.callback("", robot)


def test_a_damaged_file_of_the_list_shuts_out_its_client_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = Keyring.make(tmp_path / "keys", "robot", "screen")
    allow = AllowList(ring.folder / "allowed")
    (ring.folder / "allowed" / "robot.key").write_text("torn", encoding="ascii")
    assert not allow.callback("", ring.clients["robot"].public)
    assert allow.callback("", ring.clients["screen"].public)
    assert "left out of those let in" in caplog.text


@pytest.mark.slow
def test_the_command_makes_lists_and_revokes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(tmp_path / "keys")
    assert main(["keys", folder, "--client", "robot", "--client", "screen"]) == 0
    printed = capsys.readouterr().out
    assert "robot.key_secret" in printed
    assert ServerKeys.load(folder).secret.decode() not in printed
    assert main(["keys", folder, "--list"]) == 0
    assert capsys.readouterr().out.split() == ["robot", "screen"]
    assert main(["keys", folder, "--revoke", "robot"]) == 0
    assert allowed_names(folder) == ("screen",)
    assert main(["keys", folder, "--revoke", "robot"]) == 1
    assert "let in: screen" in capsys.readouterr().err
    assert main(["keys", folder]) == 0
    assert "nothing was changed" in capsys.readouterr().err
    assert main(["keys", folder, "--client", "../x"]) == 2
    assert main(["keys", folder, "--client", "screen"]) == 1
    assert main(["keys", str(tmp_path / "none"), "--list"]) == 1
    assert main(["keys", folder, "--list", "--revoke", "screen"]) == 2

"""The learner's private key and the public keys that are trusted: where from, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from models.snapshots.signing import SigningKey
from stream.cli.main import riverwatch
from stream.config.settings import Secret, Settings, SettingsError
from stream.config.signing_key import model_key, new_key, read_private, signing_key, trusted_keys

KEY = "6b" * 32
SIGNING = SigningKey(bytes.fromhex(KEY))


def private(folder: Path, text: str = KEY, mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(f"{text}\n")
    path.chmod(mode)
    return path


def test_private_key_is_taken_from_its_setting_or_from_its_file(tmp_path: Path) -> None:
    assert signing_key(Settings(model_key=Secret(KEY))).id == SIGNING.id
    assert signing_key(Settings(model_key_file=str(private(tmp_path)))).id == SIGNING.id


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(), "signs models with a private key"),
        (Settings(model_key=Secret("short")), "64 hexadecimal digits"),
        (Settings(model_key=Secret("6b" * 31)), "64 hexadecimal digits"),
        (Settings(model_key_file="/nowhere/key"), "No such file or directory: give a readable file"),
        (Settings(model_key_file="/dev/zero"), "is no file"),
    ],
)
def test_without_a_usable_key_it_is_said_what_to_do(settings: Settings, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        signing_key(settings)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_private_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    settings = Settings(model_key_file=str(private(tmp_path, mode=mode)))
    with pytest.raises(SettingsError, match="others may read it: chmod 600") as caught:
        signing_key(settings)
    assert KEY not in str(caught.value)


def test_who_holds_the_private_key_trusts_its_public_one() -> None:
    assert trusted_keys(Settings(model_key=Secret(KEY))).ids == [SIGNING.id.hex()]
    with pytest.raises(SettingsError, match="model_public_keys"):
        trusted_keys(Settings())


def test_several_public_keys_are_trusted_at_once_from_a_file_or_a_folder(tmp_path: Path) -> None:
    others = [SigningKey(bytes([number]) * 32) for number in range(3)]
    ids = sorted(each.id.hex() for each in others)
    lines = [f"{each.public.hex()}  # learner {number}" for number, each in enumerate(others)]
    one = tmp_path / "keys"
    one.write_text("# all of them\n\n" + "\n".join(lines))
    assert trusted_keys(Settings(model_public_keys=str(one))).ids == ids
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, line in enumerate(lines):
        (folder / f"{number}.pub").write_text(line)
    (folder / "notes.txt").write_text("no key")
    assert trusted_keys(Settings(model_public_keys=str(folder))).ids == ids


@pytest.mark.parametrize("text", ["", "6b", "zz" * 32, "6b" * 33])
def test_what_is_no_public_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(SettingsError, match="model_public_keys"):
        trusted_keys(Settings(model_public_keys=str(path)))


def test_new_pair_is_the_owners_alone_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.key"
    before = os.umask(0)
    try:
        key = new_key(path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private(path).id == key.id
    assert trusted_keys(Settings(model_public_keys=str(path.with_suffix(".pub")))).ids == [key.id.hex()]
    with pytest.raises(SettingsError, match="there is one already"):
        new_key(path)
    assert read_private(path).id == key.id


def test_key_of_this_machine_stays_the_same_and_gets_its_public_half(tmp_path: Path) -> None:
    path = model_key(tmp_path)
    first = read_private(path).id
    path.with_suffix(".pub").unlink()
    assert read_private(model_key(tmp_path)).id == first
    assert path.with_suffix(".pub").exists()


def test_commands_make_a_pair_and_show_ids_and_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "learner.key"
    made = CliRunner().invoke(riverwatch, ["keys", "new", str(path)])
    assert made.exit_code == 0, made.output
    name = read_private(path).id.hex()
    assert name in made.output
    shown = CliRunner().invoke(riverwatch, ["keys", "show", "--model-key-file", str(path)])
    assert shown.output.count(name) == 2
    for output in (made.output, shown.output):
        assert path.read_text().strip() not in output

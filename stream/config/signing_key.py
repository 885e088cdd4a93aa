"""Where local state is kept, and the keys of models: the learner's private one, the public ones trusted."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from infra.running import user_state_dir
from models.snapshots.signing import KEY_BYTES, SigningKey, TrustedKeys
from stream.config.settings import Settings, SettingsError

_MAX_FILE = 65_536  # bytes: no file of keys is larger
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_HOW = "`riverwatch keys new` makes a pair"


def state_dir(settings: Settings) -> Path:
    """The folder in which a process keeps local state: what `state_dir` says, else the user's own."""
    return Path(settings.state_dir) if settings.state_dir else user_state_dir()


def model_key(folder: Path) -> Path:
    """The file with the private model key of this machine, made where there is none; its public half beside.

    Raises:
        SettingsError: what is there is no key, or others may read it.
    """
    path = folder / "model.key"
    if not path.exists():
        new_key(path)
    public = path.with_suffix(".pub")
    if not public.exists():  # a key of a version that had no public half
        public.write_text(f"{read_private(path).public.hex()}\n")
    return path


def new_key(path: Path) -> SigningKey:
    """Make a private key, readable by its owner alone, and its public half beside it (`.pub`).

    Raises:
        SettingsError: there is one already, which would be lost.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = secrets.token_bytes(KEY_BYTES)
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SettingsError(f"{path}: there is one already: name another file") from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    with os.fdopen(file, "w") as private:
        private.write(f"{seed.hex()}\n")
    key = SigningKey(seed)
    path.with_suffix(".pub").write_text(f"{key.public.hex()}\n")
    return key


def signing_key(settings: Settings) -> SigningKey:
    """The learner's private key.

    Raises:
        SettingsError: there is none, it is none, or others may read it.
    """
    if settings.model_key:
        return _key_of(settings.model_key, "model_key")
    if settings.model_key_file:
        return read_private(Path(settings.model_key_file))
    raise SettingsError(
        "model_key: the learner signs models with a private key; set RIVERWATCH_MODEL_KEY_FILE to its file, "
        f"or RIVERWATCH_MODEL_KEY: {_HOW}"
    )


def read_private(path: Path) -> SigningKey:
    """The private key of a file.

    Raises:
        SettingsError: it is none, or others may read it.
    """
    text = _read(path, "model_key_file")
    if path.stat().st_mode & _OTHERS:
        raise SettingsError(f"model_key_file {path}: others may read it: chmod 600 {path}")
    return _key_of(text.strip(), f"model_key_file {path}")


def trusted_keys(settings: Settings) -> TrustedKeys:
    """The keys whose models are trusted: the public ones of the settings, and that of a private one.

    Raises:
        SettingsError: there is none, or one of them is none.
    """
    found: list[bytes] = []
    if settings.model_public_keys:
        found += _public_keys(Path(settings.model_public_keys))
    if settings.model_key or settings.model_key_file:
        found.append(signing_key(settings).public)
    if not found:
        raise SettingsError(
            "model_public_keys: workers open only models that a trusted key signed; set "
            f"RIVERWATCH_MODEL_PUBLIC_KEYS to the learner's public key, a file or a folder: {_HOW}"
        )
    return TrustedKeys(found)


def _public_keys(path: Path) -> list[bytes]:
    files = sorted(path.glob("*.pub")) if path.is_dir() else [path]
    if not files:
        raise SettingsError(f"model_public_keys {path}: the folder holds no key (*.pub)")
    found = []
    for file in files:
        for line in _read(file, "model_public_keys").splitlines():
            if words := line.partition("#")[0].split():
                try:
                    public = bytes.fromhex(words[0])
                    TrustedKeys([public])
                except ValueError:
                    raise SettingsError(
                        f"model_public_keys {file}: '{words[0][:80]}' is no public key: 64 hexadecimal "
                        f"digits, then, if you like, # and a remark: {_HOW}"
                    ) from None
                found.append(public)
    return found


def _read(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(f"{name} {path}: is no file: give a readable file")
            return file.read(_MAX_FILE).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise SettingsError(f"{name} {path}: {why}: give a readable file") from error


def _key_of(text: str, where: str) -> SigningKey:
    try:
        return SigningKey(bytes.fromhex(text))
    except ValueError:
        raise SettingsError(f"{where}: a private key is 64 hexadecimal digits, this is not: {_HOW}") from None

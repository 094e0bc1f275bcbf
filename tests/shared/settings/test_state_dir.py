"""The state directory is closed to others, or refused."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shared.domain.errors import ConfigError
from shared.settings import ensure_token, load_settings
from shared.settings.state_dir import StateLock, private_file, private_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def give_away(path: Path) -> None:
    """Make it somebody else's, as only root can."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: only root can give a file away")
    os.chown(path, 65534, 65534, follow_symlinks=False)


def test_one_that_is_not_there_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    assert private_folder(tmp_path / "a" / "state") == []
    assert mode(tmp_path / "a" / "state") == 0o700


@pytest.mark.parametrize("before", [0o777, 0o775, 0o702])
def test_one_that_others_may_write_to_is_closed_and_it_is_said(tmp_path: Path, before: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(before)
    (said,) = private_folder(folder)
    assert mode(folder) == 0o700
    assert str(folder) in said and f"{before:04o}" in said
    assert private_folder(folder) == []


def test_one_that_others_may_only_list_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert private_folder(tmp_path) == []


def test_somebody_elses_is_refused_with_its_owner_and_the_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    give_away(folder)
    with pytest.raises(ConfigError, match=r"TRUTHGPT_STATE_DIR: .*belongs to .*--state-dir.*chown"):
        private_folder(folder)


def test_a_link_of_ones_own_is_followed_and_one_of_somebody_else_is_not(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    link = tmp_path / "state"
    link.symlink_to("real")
    assert private_folder(link) == []
    give_away(link)
    with pytest.raises(ConfigError, match=r"the link .* belongs to"):
        private_folder(link)


@pytest.mark.parametrize("name", ["token", "redis"])
def test_an_open_one_in_which_somebody_else_has_put_something_is_refused(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / name).symlink_to("/nowhere")
    give_away(folder / name)
    with pytest.raises(ConfigError, match=f"{name} belongs to"):
        private_folder(folder)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write to"):
        private_folder(tmp_path / "file")


def test_a_token_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    settings = load_settings(TRUTHGPT_STATE_DIR=tmp_path)
    token, path = ensure_token(settings)
    assert path is not None
    path.chmod(0o644)
    assert ensure_token(settings) == (token, path)
    assert mode(path) == 0o600


def test_a_token_that_is_a_link_is_refused(tmp_path: Path) -> None:
    settings = load_settings(TRUTHGPT_STATE_DIR=tmp_path)
    (tmp_path / "elsewhere").write_text("tg_" + "x" * 32)
    (tmp_path / "token").symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        ensure_token(settings)


def test_a_secret_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    give_away(tmp_path / "token")
    with pytest.raises(ConfigError, match="belongs to"):
        private_file(tmp_path / "token")


# -- the lock


def test_a_state_directory_has_one_holder(tmp_path: Path) -> None:
    lock = StateLock(tmp_path / "state")
    with pytest.raises(ConfigError, match=rf"in use by process {os.getpid()}\b"):
        StateLock(tmp_path / "state")
    lock.release()

    StateLock(tmp_path / "state").release()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from shared.settings.state_dir import StateLock;"
        "lock = StateLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=str(holder.pid)):
            StateLock(tmp_path)
        holder.kill()
        holder.wait()
    StateLock(tmp_path).release()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"TRUTHGPT_STATE_DIR: cannot write to .*file"):
        StateLock(tmp_path / "file")

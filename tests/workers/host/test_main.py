"""What the host does about its imports."""

import gc

import pytest

from workers.host.__main__ import kept_for_good


def test_what_is_kept_for_good_is_never_searched_for_garbage() -> None:
    before = gc.get_freeze_count()
    try:
        with pytest.raises(RuntimeError), kept_for_good():
            assert not gc.isenabled()
            raise RuntimeError
        assert gc.isenabled() and gc.get_freeze_count() > before
    finally:
        gc.unfreeze()

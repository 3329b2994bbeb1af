"""What a run's folder, its source or its disk says, as the errors that the command line knows."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import Stopped, UserError

NO_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP})


@contextmanager
def user_errors(root: Path) -> Iterator[None]:
    """Around a run in the folder `root`: what is refused is a UserError, what stops it (a full disk too) is `Stopped`."""
    from data_tools.io import SourceError
    from data_tools.pipeline import stopping_on_full_disk
    from data_tools.run.directory import RunRefused, RunStopped

    try:
        with stopping_on_full_disk(root):
            yield
    except (SourceError, RunRefused) as error:
        raise UserError(str(error)) from error
    except RunStopped as error:
        raise Stopped(str(error)) from error
    except OSError as error:
        if error.errno not in NO_PATH:
            raise
        raise UserError(f"'{error.filename}' cannot be a path: {error.strerror}; choose another") from error

"""Where archives come from, and the archives of a source, several at once.

Not here: one archive (`pipelines.archives`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .. import archives
from ..archives import Identify
from ..declarations import Archive, Source
from ..errors import ArchiveUnavailable
from ..progress import Watch
from ..store import Facts, clock

AT_ONCE = 4  # archives of a source under way at once

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Web:
    """Where archives come from: a mirror to look at first, and whether others may be asked."""

    mirror: str | None = field(default=None, repr=False)  # its address may hold a password
    offline: bool = False

    def obtain(
        self,
        source: Source,
        archive: Archive,
        identify: Identify,
        goal: Path,
        staged: Path,
        watch: Watch,
    ) -> Facts:
        """Make sure that an archive is at `goal`, or else at `staged`; say where it came from."""
        places = archives.places(source, archive, self.mirror, self.offline)
        received = archives.receive(
            archive, goal, staged, places, identify, watch, offline=self.offline
        )
        facts = {"origin": received.origin}
        if received.origin != archives.ALREADY_THERE:
            facts["retrieved"] = clock.now()
        if archive.md5 is None:
            facts["md5"] = received.digests.md5
        return facts


def side_by_side(make: Callable[[Archive], T], wanted: Iterable[Archive]) -> list[T]:
    """Return what was made; where several archives can't be had, raise one error that says all.

    The threads are daemons, which no pool's are: Ctrl-C does not wait for a server that stalls, and
    what has arrived by then is gone on with later.
    """
    slots = threading.Semaphore(AT_ONCE)

    def work(archive: Archive, future: Future[T]) -> None:
        with slots:
            try:
                future.set_result(make(archive))
            except BaseException as error:  # raised where the result is asked for
                future.set_exception(error)

    done: list[Future[T]] = []
    for archive in wanted:
        done.append(Future())
        threading.Thread(target=work, args=(archive, done[-1]), daemon=True).start()
    failures = [error for future in done if (error := future.exception())]
    unavailable = [error for error in failures if isinstance(error, ArchiveUnavailable)]
    if len(unavailable) == len(failures) > 1:
        text = "\n".join(str(error) for error in unavailable)
        raise ArchiveUnavailable(text, may_pass=all(error.may_pass for error in unavailable))
    return [future.result() for future in done]

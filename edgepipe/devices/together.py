"""Several boards at work at once, each in a thread; an interrupt stops them all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from edgepipe.devices.board import Board, open_board
from edgepipe.devices.inventory import Device

AT_A_TIME = 8
Given = TypeVar("Given")
Made = TypeVar("Made")


class Together:
    """Boards are opened through it, so that it knows which ones there are to stop."""

    def __init__(self) -> None:
        self._open: set[Board] = set()
        self._lock = threading.Lock()
        self._stopped = False

    @contextmanager
    def board(self, device: Device) -> Iterator[Board]:
        with open_board(device) as board:
            with self._lock:
                self._open.add(board)
                if self._stopped:
                    board.stop()
            try:
                yield board
            finally:
                with self._lock:
                    self._open.discard(board)

    def each(self, act: Callable[[Given], Made], given: Sequence[Given]) -> list[Made]:
        """What `act` makes of each, in the order given."""
        pool = ThreadPoolExecutor(max(1, min(AT_A_TIME, len(given))))
        try:
            futures = [pool.submit(act, each) for each in given]
            return [future.result() for future in futures]
        except BaseException:
            self._stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for board in self._open:
                board.stop()

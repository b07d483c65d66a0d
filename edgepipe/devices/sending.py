"""One piece of a file on its way to a board, gone on with where a cut connection left it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepipe.devices import feeding
from edgepipe.devices.board import ASK_SECONDS, TAIL
from edgepipe.devices.pieces import Piece
from edgepipe.errors import StageFailed

if TYPE_CHECKING:
    from edgepipe.devices.remote import RemoteBoard

SLOWEST = 8_000.0
"""Bytes a second, below which a transfer is given up."""


class Lost(Exception):
    """The connection failed; trying again may help."""


@dataclass
class Sending:
    """One piece on its way; each try goes on from what the one before left there."""

    board: RemoteBoard
    piece: Piece
    there: str
    had: int
    tries: int = 0

    def go(self) -> None:
        board, piece, there = self.board, self.piece, self.there
        if self.tries:
            whole, part = board.size_of([there, f"{there}.part"])
            board.sent += max(0, part - max(0, self.had))
            self.had = part
            if whole == piece.size:
                return
        self.tries += 1
        start = self.had if 0 <= self.had <= piece.size else 0
        left = piece.size - start
        said = board.shell(
            f"cat {'>>' if start else '>'} {there}.part || exit {_UNWRITTEN};"
            f' test "$(sha256sum < {there}.part | cut -c 1-64)" = {piece.sha256}'
            f" && mv {there}.part {there}",
            ASK_SECONDS + left / SLOWEST,
            given=feeding.of_file(piece.file, piece.start + start, left),
        )
        if said.code == _UNWRITTEN:
            raise StageFailed(
                f"{piece.file.name} can't be written on {board.device.name}:"
                f" {said.errors.strip()[-TAIL:]}",
                hint=f"is there room? `edgepipe device doctor {board.device.name}` says.",
            )
        if said.code:
            if board.size_of([f"{there}.part"])[0] >= piece.size:
                board.shell(f"rm -f {there}.part")
            raise Lost(f"{piece.file.name} came over damaged")
        board.sent += left


_UNWRITTEN = 91
"""What the script ends with where `cat` fails; no shell and no ssh ends so by itself."""

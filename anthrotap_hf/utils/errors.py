"""Errors that a user can act on: exceptions with fields, and the one line that tells of them."""

from __future__ import annotations

import os


class AnthroTapError(ValueError):
    """Something that a user can act on. Its text is one line: "path: reason; hint".

    Code that needs a part of it takes the field; no message is taken apart.

    Attributes:
        reason: what is wrong.
        path: the file, folder, address or row that it is about, as the user knows it; None where there is none.
        hint: what to do about it; None where the reason says it.
        argument: the argument whose value is wrong or missing, where it is one: not part of the text. A command
            names its option instead (`--model` for "model").
    """

    def __init__(
        self,
        reason: object,
        *,
        path: str | os.PathLike[str] | None = None,
        hint: str | None = None,
        argument: str | None = None,
    ) -> None:
        self.reason = str(reason)
        self.path = None if path is None else os.fspath(path)
        self.hint = hint
        self.argument = argument
        super().__init__(format_error(self.reason, self.path, self.hint))

    def __reduce__(self) -> tuple[object, ...]:
        # An exception is pickled by its arguments, and this one's are keywords: workers raise it too.
        return (_rebuild, (type(self), self.reason, self.path, self.hint), self.__dict__)


def _rebuild(kind: type[AnthroTapError], reason: str, path: str | None, hint: str | None) -> AnthroTapError:
    return kind(reason, path=path, hint=hint)


def format_error(reason: str, path: str | None = None, hint: str | None = None) -> str:
    """The one form of a message: "path: reason; hint", without the parts that are None."""
    return "; ".join(filter(None, [f"{path}: {reason}" if path else reason, hint]))


def one_line(text: object, limit: int = 160) -> str:
    """Somebody else's text in one short line that a terminal shows as it is."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in str(text)).split())
    return line if len(line) <= limit else f"{line[: limit - 10]} ..."


def missing_extra(error: ImportError, extra: str = "builder") -> ImportError:
    """Return the error for an absent package that only one kind of work needs: that of an `extra`."""
    work = {
        "app": "the page",
        "builder": "labeling videos",
        "rerun": "exporting to Rerun",
        "training": "training",
    }[extra]
    return ImportError(f"{work} needs {error.name}: pip install 'anthrotap[{extra}]'", name=error.name)

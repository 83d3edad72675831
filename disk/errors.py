"""Errors that reach another process as they were raised."""

from typing import Any


class PortableError(Exception):
    """Base of errors whose constructors take other arguments than the finished message.

    Ray pickles the errors of its workers, and by default unpickling calls the class with the message.
    A class that is also a ValueError or an OSError names this base first.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild the error from its message and attributes, without its constructor."""
        # An OSError adds the name of its file to its arguments here.
        arguments = super().__reduce__()[1]
        return _rebuild, (type(self), arguments, self.__dict__)


def _rebuild(
    cls: type[PortableError], arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> PortableError:
    error = cls.__new__(cls, *arguments)
    # OSError sets message and number here instead if the class has a constructor of its own.
    builtin = next(each for each in cls.__mro__ if each.__module__ == "builtins")
    builtin.__init__(error, *arguments)
    error.__dict__.update(attributes)
    return error

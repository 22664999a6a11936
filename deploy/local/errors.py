"""What can go wrong around the embedded stack, in words for the operator."""

from client.errors import OortError, UsageError


class StackError(OortError):
    """{detail}"""


class ServerDidNotStart(StackError):
    """{name} did not start: {detail}"""


class NotAStack(UsageError):
    """{folder} is not empty and holds no stack: give an empty or a new folder."""


class NoStack(StackError):
    """There is no stack in {folder}: start one with `oort stack up --data {folder}`."""


class StackNotRunning(StackError):
    """The stack in {folder} is not running: start it with `oort stack up --data {folder} --detach`."""


class StackIsBusy(StackError):
    """The stack in {folder} is running already, or just starting or stopping."""


class SetupRefused(StackError):
    """{call} was refused while the stack was set up: {reason}"""

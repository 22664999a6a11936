"""What goes wrong on the way to a store and back, as treatments of a proxy."""

import random
import threading
import time
from http import HTTPStatus

from clouds.testing.proxy import Answer, Request, Treatment

_DELAY_SECONDS = 0.05
_EVERY = 10


def answers_500(_: Request) -> Answer:
    return Answer.refusal(500, "InternalError")


def slows_down(_: Request) -> Answer:
    return Answer.refusal(503, "SlowDown")


def has_too_many(_: Request) -> Answer:
    return Answer.of(429)


def does_it_and_answers_500(request: Request) -> Answer:
    request.passed_on()
    return Answer.refusal(500, "InternalError")


def delays(request: Request) -> Answer:
    time.sleep(_DELAY_SECONDS)
    return request.passed_on()


def cuts_the_request(request: Request) -> None:
    request.half_passed_on()


def loses_the_answer(request: Request) -> None:
    request.passed_on()


def cuts_the_answer(request: Request) -> Answer:
    return request.passed_on().cut()


def shortens_the_answer(request: Request) -> Answer:
    answer = request.passed_on()
    return answer.shortened() if answer.status < HTTPStatus.BAD_REQUEST else answer


def repeats(request: Request) -> Answer:
    request.passed_on()
    return request.passed_on()


FAULTS: tuple[Treatment, ...] = (
    answers_500,
    slows_down,
    has_too_many,
    does_it_and_answers_500,
    delays,
    cuts_the_request,
    loses_the_answer,
    cuts_the_answer,
    shortens_the_answer,
    repeats,
)


def _can_befall(fault: Treatment, request: Request) -> bool:
    """Whether a request has the body that the fault cuts, or will be answered with one."""
    if fault is cuts_the_request:
        return bool(request.body)
    return fault not in (cuts_the_answer, shortens_the_answer) or request.method == "GET"


class OneInTen:
    """Of every ten requests a random one meets a fault; each comes before one comes again, as far as it can befall."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        self._count = self._unlucky = 0
        self._next: list[Treatment] = []
        self.met: list[Treatment] = []

    def __call__(self, request: Request) -> Answer | None:
        return self._treatment(request)(request)

    def _treatment(self, request: Request) -> Treatment:
        with self._lock:
            if self._count % _EVERY == 0:
                self._unlucky = self._count + self._random.randrange(_EVERY)
            self._count += 1
            if self._count - 1 != self._unlucky:
                return Request.passed_on
            fault = next((one for one in self._next if _can_befall(one, request)), None)
            if fault is None:
                self._next += self._random.sample(FAULTS, len(FAULTS))
                fault = next(one for one in self._next if _can_befall(one, request))
            self._next.remove(fault)
            self.met.append(fault)
            return fault

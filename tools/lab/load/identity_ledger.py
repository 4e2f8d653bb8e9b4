"""Who a guest was, when: what the soak test judges answers by. Values and arithmetic, no I/O.

A port has an instance from when the rig begins to write that into OVSDB (`external_ids:vm-uuid`,
which Nova writes and which the record has to agree with) until the write of another value there is
done. An answer is

    right   if its instance is one that the guest's port had at some time between sending the
            request and receiving the answer;
    late    if the guest's own port had that instance, and ceased to have it less than NOTICE before
            the request was sent: OVSDB had not notified any client yet, or was about to;
    wrong   in any other case. For another guest's instance there is no allowance at all.

All times are of CLOCK_MONOTONIC, in seconds.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

NOTICE = 0.5
"""Seconds in which a change in OVSDB has to become known to the proxy, on a machine under load."""


@dataclass(frozen=True)
class Answer:
    """What became of one request; `outcome` is a status code, or an exception's name.

    `way` says how it was asked, `body` whom the answer was for.
    """

    guest: str
    outcome: str
    way: str
    sent: float
    received: float
    body: str = ""

    @property
    def answered(self) -> bool:
        """Whether it says who the guest is."""
        return self.outcome == "200"


def parse_answer(guest: str, line: str) -> Answer:
    """A line of `lab.load.asker`; raises ValueError when it is none."""
    outcome, way, sent, received, body = line.rstrip("\n").split(" ", 4)
    return Answer(guest, outcome, way, float(sent), float(received), body)


@dataclass(frozen=True)
class Tenure:
    """A guest's port had an instance from `begin` to `end`."""

    instance: str
    begin: float
    end: float = math.inf


@dataclass
class Ledger:
    """Who every guest was, when."""

    tenures: dict[str, list[Tenure]] = field(default_factory=dict)

    def begins(self, guest: str, instance: str, at: float) -> None:
        """The rig begins to write that the guest is this instance."""
        self.tenures.setdefault(guest, []).append(Tenure(instance, at))

    def ends(self, guest: str, instance: str, at: float) -> None:
        """It is written that the guest is another instance than this."""
        self.tenures[guest] = [
            replace(each, end=at) if each.instance == instance and each.end == math.inf else each
            for each in self.tenures[guest]
        ]

    def lateness(self, answer: Answer) -> float:
        """Seconds since the guest was the instance of the answer: 0 if it is, infinite if never."""
        return min(
            (
                max(0.0, answer.sent - each.end)
                for each in self.tenures.get(answer.guest, ())
                if each.instance == answer.body and each.begin <= answer.received
            ),
            default=math.inf,
        )

    def explain(self, answer: Answer) -> str:
        """The fault of a wrong answer, in one line."""
        for guest, tenures in self.tenures.items():
            for each in tenures:
                if each.instance != answer.body:
                    continue
                if guest != answer.guest:
                    return f"{_shown(answer)}, which is {guest}"
                if each.end < answer.sent:
                    late = 1000 * (answer.sent - each.end)
                    return f"{_shown(answer)}, which it had ceased to be {late:.1f} ms before"
        return f"{_shown(answer)}, which is no guest"


@dataclass(frozen=True)
class Verdict:
    """Counts of outcomes (status codes and exceptions) by way of asking, and what was not right.

    `late` are the seconds by which answers were late.
    """

    outcomes: Counter[tuple[str, str]]
    wrong: tuple[Answer, ...]
    late: tuple[float, ...]

    @property
    def answered(self) -> int:
        """Answers that say who a guest is."""
        return sum(count for (outcome, _way), count in self.outcomes.items() if outcome == "200")

    @property
    def refused(self) -> int:
        """Requests that got another answer, or none."""
        return sum(self.outcomes.values()) - self.answered


def judge(ledger: Ledger, answers: Iterable[Answer]) -> Verdict:
    """Count answers, and find those that are not right."""
    outcomes: Counter[tuple[str, str]] = Counter()
    wrong, late = [], []
    for answer in answers:
        outcomes[answer.outcome, answer.way] += 1
        lateness = ledger.lateness(answer) if answer.answered else 0.0
        if lateness > NOTICE:
            wrong.append(answer)
        elif lateness:
            late.append(lateness)
    return Verdict(outcomes, tuple(wrong), tuple(late))


def _shown(answer: Answer) -> str:
    took = 1000 * (answer.received - answer.sent)
    return (
        f"{answer.guest} asked at {answer.sent:.4f} ({answer.way}) and got "
        f"the identity {answer.body} after {took:.1f} ms"
    )

"""`make soak`: guests ask who they are while their ports move; no guest may get a wrong answer.

Prints the number of requests and answers, and every wrong answer with the events around it. The
exit status is 1 if there was one. `--without PART` breaks a part of the agent
(lab.load.broken_agent), to see that the soak notices.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from lab.load.askers import Askers
from lab.load.churn import Churn
from lab.load.identity_ledger import Answer, Verdict, judge
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import LabError, wait_for
from lab.stand_ins.identity_echo import READY

GUESTS = 4

_TOOLS = Path(__file__).resolve().parents[2]


class Soak:
    """A hypervisor, guests that ask, and the churn. A context: leaving it removes everything."""

    def __init__(self, seed: int, without: str = "") -> None:
        self._stack = ExitStack()
        self._seed = seed
        self._without = without
        self.hypervisor = Hypervisor(f"so{os.getpid()}")

    def __enter__(self) -> "Soak":
        """Start everything but the askers."""
        try:
            self._stack.callback(self.hypervisor.close)
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        """End everything."""
        self._stack.close()

    def _start(self) -> None:
        hypervisor = self.hypervisor
        hypervisor.start()
        python = {"PYTHONPATH": str(_TOOLS)}
        echo = hypervisor.spawn(
            "echo",
            sys.executable,
            "-m",
            "lab.stand_ins.identity_echo",
            "127.0.0.1",
            "8775",
            **python,
        )
        wait_for(lambda: READY in echo.log.read_text(), "the echo of identities")
        if self._without:
            hypervisor.spawn(
                "agent",
                *(sys.executable, "-m", "lab.load.broken_agent", self._without),
                *("--config", hypervisor.config),
                **python,
            )
            hypervisor.wait_until_serving()
        else:
            hypervisor.start_agent()
        for number in range(GUESTS):
            # All with the same addresses: nothing but the port tells them apart.
            hypervisor.wait_until_served(hypervisor.add_guest(f"g{number}"))
        self.churn = Churn(hypervisor, self._seed)

    def run(self, answers: int, timeout: float, only: Sequence[str] = ()) -> Verdict:
        """Disturb until that many requests have been answered, in any way or in `only` these.

        Raises:
            LabError: that took longer than `timeout` seconds, or a guest is answered no more.
        """
        with Askers(self.hypervisor) as askers:
            deadline = time.monotonic() + timeout
            while askers.answered < answers:
                if time.monotonic() > deadline:
                    raise LabError(f"{askers.answered} answers in {timeout:g} s are too few")
                self.churn.disturb(only)
                askers.wait_until_all_are_answered()
        return judge(self.churn.ledger, askers.answers())

    def around(self, answer: Answer) -> list[str]:
        """What was done to the ports shortly before an answer was received."""
        return [
            f"{what} from {began:.4f} to {done:.4f}"
            for began, done, what in self.churn.log
            if began <= answer.received and done >= answer.sent - 0.5
        ]


def report(soak: Soak, verdict: Verdict) -> str:
    """What there is to say, for people."""
    lines = [
        f"{verdict.answered} answered, {verdict.refused} refused or lost, "
        f"{len(verdict.late)} late ({_late(verdict.late)}), "
        f"{len(verdict.wrong)} wrong"
    ]
    lines += [f"  {way:10} {what:24} {n}" for (what, way), n in sorted(verdict.outcomes.items())]
    lines.append(f"disturbances: {sum(soak.churn.done.values())}")
    lines += [f"  {what:24} {n}" for what, n in sorted(soak.churn.done.items())]
    for answer in verdict.wrong[:50]:
        lines.append(f"WRONG: {soak.churn.ledger.explain(answer)}")
        lines += [f"       meanwhile {what}" for what in soak.around(answer)]
    return "\n".join(lines)


def _late(seconds: tuple[float, ...]) -> str:
    if not seconds:
        return "none"
    ordered = sorted(1000 * each for each in seconds)
    return f"median {ordered[len(ordered) // 2]:.0f} ms, at most {ordered[-1]:.0f} ms"


def main() -> int:
    """Run it; 0 when no answer was wrong."""
    parser = argparse.ArgumentParser(prog="lab.load.soak", description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--without", default="", metavar="PART", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with Soak(arguments.seed, arguments.without) as soak:
        began = time.monotonic()
        verdict = soak.run(arguments.answers, arguments.timeout)
        print(f"{time.monotonic() - began:.0f} s")
        print(report(soak, verdict))
    return 1 if verdict.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

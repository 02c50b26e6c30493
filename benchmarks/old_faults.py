"""Faults that this package once had are put back into a copy of it, one at a time: does the test that is meant to find each one find it?

::

    python benchmarks/old_faults.py                 # all of them, about a minute each
    python benchmarks/old_faults.py "cut off" lock  # those whose names hold one of these words

A fault is a small change of today's text: its mend is taken out. Those between NNI's two threads are looked for by
``tests/plugin/test_two_threads.py`` alone, the others by the tests that came with their mends. What was found stands in the page, a row a
fault; a fault that is tried again gets a new row in place of the old one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "old_faults.md"
HEADER = (
    "# Old faults, put back\n\n"
    "Written by `benchmarks/old_faults.py`: each mend is taken out of a copy of the package, and the tests that are meant to notice run over "
    "it.\n\n"
    "| fault | mend taken out of | looked for by | found |\n| --- | --- | --- | --- |\n"
)
LIMIT = 1200.0
"""Seconds for one fault's tests."""


@dataclass(frozen=True)
class Fault:
    """Each of ``changes`` is a file below the package with what stands there, once, and what shall stand there instead."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]

    def applied(self, root: Path) -> dict[Path, str]:
        """The changed text of each file.

        Raises:
            SystemExit: The package has moved on, and a text is not there, or not once.
        """
        found: dict[Path, str] = {}
        for name, before, after in self.changes:
            file = root / "nni_hyperfd" / name
            text = found.get(file) or (file.read_text() if file.exists() else "")
            if text.count(before) != 1:
                raise SystemExit(
                    f"old_faults.py: {self.name!r} asks for one {before!r} in {name}, and there are {text.count(before)}: write down "
                    "where its mend is now"
                )
            found[file] = text.replace(before, after)
        return found


def _threads(*names: str) -> tuple[str, ...]:
    return tuple(f"tests/plugin/test_two_threads.py::{name}" for name in names)


TUNER = _threads("test_the_tuner")
PARTS = _threads(
    "test_what_a_stop_cut_off_is_one_curve_and_paid_twice", "test_the_tuner_goes_on_with_trainings"
)

FAULTS = (
    Fault(
        "A result that its callback has not brought yet counts as a failure when the job has ended (the fixed wait)",
        (
            (
                "plugin/experiment.py",
                "found.append(Job(place, outcome.ended, outcome.reported, result, trouble))",
                "heard = outcome.parameter_id in self.heard\n"
                "                found.append(Job(place, outcome.ended, outcome.reported and heard, result if heard else None, trouble))",
            ),
            ("plugin/experiment.py", "self._reported = False", "self._reported, self.heard = False, set()"),
            (
                "plugin/tuner.py",
                '"""A trial has a result, which is in NNI\'s records."""\n',
                '"""A trial has a result."""\n        self._experiment.heard.add(parameter_id)\n',
            ),
        ),
        TUNER,
    ),
    Fault(
        "Resumed when all results are in, nobody updates (tuner)",
        (("plugin/tuner.py", "if news or not self._tried_to_end:", "if news:"),),
        _threads("test_resumed_when_all_results_are_in_it_updates_by_itself"),
    ),
    Fault(
        "Resumed when all results are in, nobody updates (hyperfd-mf)",
        (("plugin/tuner.py", "and (news or not self._tried_to_end):", "and news:"),),
        _threads("test_resumed_when_all_results_are_in_it_updates_by_itself"),
    ),
    Fault(
        "The end of a job that was begun again is never heard of, and at the limit of trials nobody updates",
        (("plugin/every_end.py", "dispatcher.handle_trial_end = tell_all", "pass"),),
        _threads("test_the_last_job_is_one_that_was_begun_again_and_fails"),
    ),
    Fault(
        "One class of planning failures alone leaves the old plan",
        (
            (
                "plugin/experiment.py",
                'except Exception as error:\n            logger.warning("The plan stays',
                'except HyperFDError as error:\n            logger.warning("The plan stays',
            ),
        ),
        TUNER,
    ),
    Fault(
        "One class of planning failures alone leaves the old plan (hyperfd-mf)",
        (
            (
                "plugin/experiment.py",
                'except Exception as error:\n            logger.warning("The plan goes on',
                'except HyperFDError as error:\n            logger.warning("The plan goes on',
            ),
        ),
        _threads("test_the_tuner_goes_on_with_trainings"),
    ),
    Fault(
        "No lock between the tuner's two threads (that in _settle, and handed_out() asked again in replan)",
        (
            (
                "plugin/tuner.py",
                "        with self._lock:\n            try:",
                "        if True:\n            try:",
            ),
        ),
        _threads("test_one_thread_waits_while_the_other_looks"),
    ),
    Fault(
        "No lock between the advisor's two threads",
        (
            (
                "plugin/advisor.py",
                "        with self._lock:\n            if self._failure is None:",
                "        if True:\n            if self._failure is None:",
            ),
        ),
        _threads("test_one_thread_waits_while_the_other_looks"),
    ),
    Fault(
        "The plan is made without what was handed out: it may name that again",
        (
            (
                "plugin/tuner.py",
                "experiment.replan(self._trials.missing, self._trials.handed_out)",
                "experiment.replan(self._trials.missing, sorted(self._trials.results))",
            ),
        ),
        TUNER,
    ),
    Fault(
        "hyperfd-gp is not told of failed trials while the experiment runs",
        (("plugin/tuner.py", "experiment.record(place, None)\n        before", "pass\n        before"),),
        TUNER,
    ),
    Fault(
        "A curve is counted twice when a job is begun again",
        (
            (
                "plugin/records.py",
                'if (self.over and not report.over) or (report.kind == "PERIODICAL" and report.sequence == 0):',
                "if False:",
            ),
        ),
        PARTS,
    ),
    Fault(
        "What a stop cut off is not paid",
        (
            (
                "plugin/continued.py",
                "self.paid += sum(min(validations, most) for validations in outcome.cut_off)",
                "pass",
            ),
        ),
        PARTS,
    ),
    Fault(
        "What a stop cut off is paid when its job validates again, and a trial between takes over the price",
        (("plugin/records.py", "over = (at or 0) < jobs[job_id].resumed", "over = False"),),
        _threads("test_what_a_stop_cut_off_is_paid_before_anything_is_handed_out_again"),
    ),
    Fault(
        "An id that began anew means the job that had it first",
        (("plugin/records.py", "same[max(range(len(same)), key=begun)] if same", "same[0] if same"),),
        _threads("test_ids_that_begin_anew_mean_the_job_begun_last_until_then", "test_the_tuner"),
    ),
    Fault(
        "An id that began anew means the job that has it last, at any time",
        (
            (
                "plugin/records.py",
                "(at for at in jobs[same[place]].begun if at <= moment)",
                "jobs[same[place]].begun",
            ),
        ),
        _threads("test_ids_that_begin_anew_mean_the_job_begun_last_until_then", "test_the_tuner"),
    ),
    Fault(
        "A result of a job that is begun again is taken twice",
        (
            (
                "plugin/records.py",
                "if self.value is not None:\n            return\n        if (self.over",
                "if (self.over",
            ),
        ),
        ("tests/plugin/test_records.py", *PARTS),
    ),
    Fault(
        "hyperfd finish takes an experiment whose tuner is alive",
        (("plugin/experiment_end.py", "if process is not None and not _owed", "if False and not _owed"),),
        ("tests/plugin/test_tuner.py",),
    ),
    Fault(
        "hyperfd finish refuses though the tuner has given up",
        (
            (
                "plugin/experiment_end.py",
                "if process is not None and not _owed(Outbox(folder / OUTBOX)):",
                "if process is not None:",
            ),
        ),
        ("tests/plugin/test_away.py",),
    ),
    Fault(
        "An opening that the platform refuses stays in the outbox",
        (
            (
                "customer/steady.py",
                "raise self._give_up(error) from error\n\n    def _give_up",
                "raise\n\n    def _give_up",
            ),
        ),
        ("tests/customer/test_steady.py",),
    ),
    Fault(
        "What opens a task goes from the outbox before all results are there",
        (("customer/steady.py", "first = openings if left else []", "first = []"),),
        ("tests/customer/test_steady.py",),
    ),
    Fault(
        "finish called twice moves Z twice",
        (("ranker/update.py", "if self._left is None:", "if True:"),),
        ("tests/ranker/test_update.py",),
    ),
    Fault(
        "Cholesky without jitter",
        (
            (
                "recommendation/gaussian/factor.py",
                "JITTER = (0.0, *(10.0**power for power in range(-12, -2)))",
                "JITTER = (0.0,)",
            ),
        ),
        ("tests/recommendation/gaussian/test_task_process.py",),
    ),
    Fault(
        "With the advisor hyperfd-gp is set and never plans anew",
        (("plugin/advisor.py", 'if self._settings.method != "hyperfd":', "if False:"),),
        ("tests/plugin/test_advisor.py",),
    ),
    Fault(
        "An error of reading that passes is kept as a broken image",
        (("data/decode.py", "raise not_now(path, error) from error\n    try:", "return None\n    try:"),),
        ("tests/data/test_decode.py", "tests/data/test_pixels.py"),
    ),
    Fault(
        "Memory that ran out is kept as a broken image",
        (
            (
                "data/decode.py",
                "except MemoryError as error:\n        raise not_now(path, error) from error",
                "except MemoryError:\n        return None",
            ),
        ),
        ("tests/data/test_decode.py",),
    ),
    Fault(
        "A seeded block seeds the generators of accelerators",
        (("ranker/seeding.py", "torch.default_generator.manual_seed(seed)", "torch.manual_seed(seed)"),),
        ("tests/ranker/test_seeding.py",),
    ),
    Fault(
        "Features are kept without the version of what made them",
        (("metafeature/profile.py", "-v{VERSION}", ""),),
        ("tests/metafeature/test_profile.py",),
    ),
    Fault(
        "Features are kept without a digest of the ResNet's weights",
        (
            (
                "metafeature/profile.py",
                'name += f"-resnet-{sha256(resnet_weights.read_bytes()).hexdigest()[:16]}"',
                'name += "-resnet"',
            ),
        ),
        ("tests/metafeature/test_profile.py",),
    ),
    Fault(
        "The cache grows without bound",
        (("data/pixels.py", "cache.evict(cache_folder)", "pass"),),
        ("tests/data/test_cache.py",),
    ),
    Fault(
        "The advisor's price is broken: rungs between two validations",
        (
            (
                "recommendation/brackets.py",
                "[Rung(survivors * eta**i, longest // (eta**i * step) * step)",
                "[Rung(survivors * eta**i, longest // eta**i)",
            ),
        ),
        ("tests/recommendation/test_brackets.py",),
    ),
    Fault(
        "The advisor's price is broken: rungs that train the same epochs",
        (
            (
                "recommendation/brackets.py",
                "eta ** (steps + 1) * step <= longest",
                "eta ** (steps + 1) <= longest",
            ),
        ),
        ("tests/recommendation/test_brackets.py",),
    ),
    Fault(
        "NNI's page does not show what a tuner's error says",
        (("plugin/experiment.py", ".show(sentence)", "._has_failed()"),),
        ("tests/plugin/test_tuner.py", "tests/plugin/test_page.py"),
    ),
    Fault(
        "A search space that was changed on the page is passed over without a word",
        (
            (
                "plugin/tuner.py",
                "if search_space != self._experiment.search_space:\n                say_that_the_space_stays()",
                "pass",
            ),
        ),
        ("tests/plugin/test_tuner.py",),
    ),
    Fault(
        "Hypotheses are believed alike, whatever is a customer's own",
        (
            (
                "recommendation/gaussian/search.py",
                "self._doubt = np.log(np.tile(own, len(views)))",
                "self._doubt = np.zeros(len(views) * len(own))",
            ),
        ),
        ("tests/recommendation/gaussian/test_search.py",),
    ),
    Fault(
        "The oldest customers take part and not the newest",
        (("recommendation/expectation.py", "[-PAST:]", "[:PAST]"),),
        ("tests/recommendation/test_expectation.py",),
    ),
    Fault(
        "Networks are sampled with a mild bias",
        (
            (
                "spaces/networks.py",
                "codes[rng.integers(len(codes), size=n)]",
                "codes[(rng.random(n) ** 1.1 * len(codes)).astype(int)]",
            ),
        ),
        ("tests/spaces",),
    ),
)


def meet(folder: Path, tests: tuple[str, ...]) -> str | None:
    """Which test fails first and what it says; None where none does.

    Raises:
        SystemExit: There is no such test.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--tb=no",
        "-rfE",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    try:
        done = subprocess.run(
            [*command, *tests], cwd=folder, env=environment, capture_output=True, text=True, timeout=LIMIT
        )
    except subprocess.TimeoutExpired:
        return f"no end within {LIMIT:.0f} s"
    if done.returncode == 0:
        return None
    first = re.search(r"^(?:FAILED|ERROR) [^ :]+(?:::(.+?))?(?: - (.*))?$", done.stdout, re.MULTILINE)
    if first is None:
        raise SystemExit(
            f"old_faults.py: {' '.join(tests)} did not run: {(done.stdout + done.stderr)[-500:]}"
        )
    said = (first[2] or "").removeprefix("AssertionError: ").replace("|", "\\|")
    return f"`{first[1]}`" + (f": {said[:80]}" if said else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("words", nargs="*", help="faults whose names hold one of these (all)")
    parser.add_argument("--missing", action="store_true", help="those that the page has no row of")
    options = parser.parse_args()
    rows = _rows()
    chosen = [
        fault
        for fault in FAULTS
        if not (options.missing and fault.name in rows)
        and (not options.words or any(word in fault.name for word in options.words))
    ]
    lived = 0
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        left_out = shutil.ignore_patterns(".*", "build", "runs", "out", "results", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=left_out, symlinks=True)
        for fault in chosen:
            sound = {file: file.read_text() for file in fault.applied(copy)}
            for file, text in fault.applied(copy).items():
                file.write_text(text)
            found = meet(copy, fault.tests)
            for file, text in sound.items():
                file.write_text(text)
            lived += found is None
            found = found or "**lived on**"
            print(f"{fault.name}: {found}", flush=True)
            files = sorted({f"`{name}`" for name, _, _ in fault.changes})
            tests = [
                f"`{test.removeprefix('tests/').replace('plugin/test_two_threads.py::', 'two threads: ')}`"
                for test in fault.tests
            ]
            rows[fault.name] = f"| {fault.name} | {', '.join(files)} | {', '.join(tests)} | {found} |"
            RESULT.write_text(
                HEADER + "".join(f"{rows[each.name]}\n" for each in FAULTS if each.name in rows)
            )
    return 1 if lived else 0


def _rows() -> dict[str, str]:
    """What the page says, by fault."""
    lines = RESULT.read_text().splitlines() if RESULT.exists() else []
    return {found[1]: line for line in lines if (found := re.match(r"\| (.+?) \| `", line))}


if __name__ == "__main__":
    sys.exit(main())

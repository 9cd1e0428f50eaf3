"""A run held to its budgets, beside its baseline where a budget compares with one."""

from __future__ import annotations

from dataclasses import dataclass

from earshot.ci.budget_set import BudgetSet
from earshot.ci.difference import Pair
from earshot.ci.evidence import Evidence
from earshot.ci.gate import gate
from earshot.ci.run_file import Run
from earshot.ci.verdict import Verdict
from earshot.core.errors import UsageError
from earshot.pipeline.evidence import gather
from earshot.pipeline.store import Store


@dataclass(frozen=True)
class Gating:
    """Budgets, and what those against a baseline compare with.

    Raises:
        UsageError: a budget compares with a baseline and there is none: known before anything is made.
    """

    budgets: BudgetSet
    baseline: Evidence | None = None

    def __post_init__(self) -> None:
        if self.baseline is None and self.budgets.against_baseline:
            raise UsageError(
                f"budget '{self.budgets.against_baseline[0].title}' compares with a baseline, and there is none",
                "tag a run: earshot tag RUN baseline, or name one: --baseline FILE; the first run: --no-baseline",
            )

    def pair(self, run: Run, store: Store) -> Pair | None:
        """The run beside its baseline, None where no budget needs one."""
        if self.baseline is None:
            return None
        return Pair(self.baseline, gather(run, store))

    def judge(self, run: Run, store: Store) -> list[Verdict]:
        """The verdicts on a run."""
        return gate(run, self.budgets, self.pair(run, store))
